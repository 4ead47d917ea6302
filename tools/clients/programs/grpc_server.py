"""A server of gRPC on the port that it is given, whose messages are bytes of any kind.

SIGTERM ends it: it tells its clients, and gives calls under way two seconds.

| method of `echo.Echo` | it |
|---|---|
| `Say` | says back what it is told, with fields of the call that begin with `x-` in its trailers |
| `Fail` | ends with the status `x-status`, the message `x-message` and details |
| `Count` | says a number in each message, as many as it is told |
| `Sum` | how many bytes it was sent in how many messages, as JSON |
| `Chat` | says each message back |
| `Left` | how many milliseconds the call has; `-1`: no deadline |
| `Hang` | until its client leaves, or its deadline comes |
| `Gone` | how many clients of `Hang` have left so far |
| `Flaky` | is unavailable to the first `x-failures` calls with this text, then `x-attempts` as it came |
| `Who` | which process this is, after 20 ms |
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

ATTEMPTS = "grpc-previous-rpc-attempts"

asked: Counter[bytes] = Counter()
gone = 0


def field(context, name: str) -> str:
    """A field of the call; empty: it has none."""
    return dict(context.invocation_metadata()).get(name, "")


async def say(request: bytes, context) -> bytes:
    fields = [(name, value) for name, value in context.invocation_metadata()
              if name.startswith("x-") and not name.startswith("x-forwarded-")]
    await context.send_initial_metadata([("x-head", "early")])
    context.set_trailing_metadata(fields)
    return request


async def fail(_, context) -> bytes:
    code, message = int(field(context, "x-status")), field(context, "x-message-bin").decode()
    details = any_pb2.Any()
    details.Pack(error_details_pb2.ErrorInfo(reason="ASKED_FOR", domain="clients"))
    status = status_pb2.Status(code=code, message=message, details=[details])
    status = rpc_status.to_status(status)
    await context.abort(status.code, status.details, status.trailing_metadata)


async def count(request: bytes, context):
    for number in range(int(request)):
        yield str(number).encode()


async def total(requests, context) -> bytes:
    messages = length = 0
    async for request in requests:
        messages, length = messages + 1, length + len(request)
    return json.dumps({"messages": messages, "bytes": length}).encode()


async def chat(requests, context):
    async for request in requests:
        yield request


async def left(_, context) -> bytes:
    remaining = context.time_remaining()
    return str(-1 if remaining is None else int(remaining * 1000)).encode()


async def hang(_, context) -> bytes:
    global gone
    try:
        await asyncio.Event().wait()
    finally:
        gone += 1


async def told_gone(_, context) -> bytes:
    return str(gone).encode()


async def flaky(request: bytes, context) -> bytes:
    asked[request] += 1
    if asked[request] <= int(field(context, "x-failures")):
        if pushback := field(context, "x-pushback"):
            context.set_trailing_metadata([("grpc-retry-pushback-ms", pushback)])
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    return json.dumps({"asked": asked[request], "attempts": field(context, ATTEMPTS)}).encode()


async def who(_, context) -> bytes:
    await asyncio.sleep(0.02)
    return str(os.getpid()).encode()


UNARY = {"Say": say, "Fail": fail, "Left": left, "Hang": hang, "Gone": told_gone, "Flaky": flaky,
         "Who": who}


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1),
                                      ("grpc.max_receive_message_length", 100 << 20),
                                      ("grpc.max_send_message_length", 100 << 20)])
    handlers = {name: grpc.unary_unary_rpc_method_handler(method)
                for name, method in UNARY.items()}
    handlers["Count"] = grpc.unary_stream_rpc_method_handler(count)
    handlers["Sum"] = grpc.stream_unary_rpc_method_handler(total)
    handlers["Chat"] = grpc.stream_stream_rpc_method_handler(chat)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", handlers)])
    service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    await service.set("echo.Echo", health_pb2.HealthCheckResponse.SERVING)
    await service.set("ill", health_pb2.HealthCheckResponse.NOT_SERVING)
    if not server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}"):
        sys.exit("no port")
    await server.start()
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    await server.stop(2)


asyncio.run(main())
