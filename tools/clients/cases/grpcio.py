"""grpcio, Python's gRPC, with a server of its own: `programs/grpc_server.py`."""

import asyncio
import json
import os
import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from calls import OPTIONS, calls, method
from case import case, equal, holds
from wait import until

LIMIT = 20


def fails(call) -> grpc.RpcError:
    """The failure that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it has not failed")


def each_way(conversation):
    """Declares a case of a conversation on a channel by each of the ways."""
    def whole(site):
        for way in calls(site).ports:
            try:
                with calls(site).channel(way) as channel:
                    conversation(channel)
            except (AssertionError, grpc.RpcError) as error:
                raise AssertionError(f"{way}: {error}") from error
    return whole


@case("grpcio: unary calls, with fields in the head and the trailers, of text and of bytes")
@each_way
def _(channel):
    fields = (("x-text", "a, b"), ("x-text", "c"), ("x-bytes-bin", bytes(range(256))))
    for size in (0, 1, 1000, 100_000):
        said = os.urandom(size)
        told, call = method(channel, "Say").with_call(said, metadata=fields, timeout=LIMIT)
        holds(told == said, "another message")
        equal(dict(call.initial_metadata()).get("x-head"), "early")
        got = sorted((name, value) for name, value in call.trailing_metadata()
                     if name in ("x-text", "x-bytes-bin"))
        holds(got in (sorted(fields), [fields[2], ("x-text", "a, b,c")],
                      [fields[2], ("x-text", "a, b, c")]), got)


@case("grpcio: messages of 30 MB")
@each_way
def _(channel):
    said = os.urandom(30 << 20)
    holds(method(channel, "Say")(said, timeout=LIMIT) == said, "another message")


@case("grpcio: streams of the server, of the client and of both")
@each_way
def _(channel):
    told = list(method(channel, "Count", "unary_stream")(b"5000", timeout=LIMIT))
    equal(told, [b"%d" % number for number in range(5000)])
    equal(list(method(channel, "Count", "unary_stream")(b"0", timeout=LIMIT)), [])

    parts = [os.urandom(size) for size in (0, 1, 100_000, 3_000_000)] * 5
    told = json.loads(method(channel, "Sum", "stream_unary")(iter(parts), timeout=LIMIT))
    equal(told, {"messages": 20, "bytes": sum(map(len, parts))})
    equal(list(method(channel, "Chat", "stream_stream")(iter(parts), timeout=LIMIT)), parts)


@case("grpcio: a conversation, each message after the answer to the one before")
@each_way
def _(channel):
    answered = threading.Semaphore()

    def questions():
        for number in range(500):
            answered.acquire()
            yield b"%d" % number

    number = 0
    for number, answer in enumerate(method(channel, "Chat", "stream_stream")(questions(),
                                                                             timeout=LIMIT)):
        equal(answer, b"%d" % number)
        answered.release()
    equal(number, 499)


@case("grpcio: each status, its message in any letters, and its details")
@each_way
def _(channel):
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        said = f"{code.name}: 100 %, à côté\n\u2713"
        fields = (("x-status", str(code.value[0])), ("x-message-bin", said.encode()))
        error = fails(lambda: method(channel, "Fail")(b"", metadata=fields, timeout=LIMIT))
        equal((error.code(), error.details()), (code, said))
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        holds(status.details[0].Unpack(info) and info.reason == "ASKED_FOR", status)


@case("grpcio: deadlines, which the server is told and which end the call there too")
@each_way
def _(channel):
    left = int(method(channel, "Left")(b"", timeout=5))
    holds(3000 < left <= 5000, left)
    equal(method(channel, "Left")(b""), b"-1")
    gone = int(method(channel, "Gone")(b""))
    begin = time.monotonic()
    error = fails(lambda: method(channel, "Hang")(b"", timeout=0.3))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    holds(time.monotonic() - begin < 5)
    until("the server knows", lambda: int(method(channel, "Gone")(b"")) == gone + 1)


@case("grpcio: whoever cancels, the server knows")
@each_way
def _(channel):
    gone = int(method(channel, "Gone")(b""))
    running = [method(channel, "Hang").future(b"", timeout=LIMIT) for _ in range(20)]
    stream = method(channel, "Chat", "stream_stream")(iter([b"hello"]), timeout=LIMIT)
    equal(next(stream), b"hello")
    for call in running:
        # Behind those, on the same connection.
        equal(method(channel, "Say")(b"here", timeout=LIMIT), b"here")
        holds(call.cancel())
    stream.cancel()
    until("the server knows", lambda: int(method(channel, "Gone")(b"")) == gone + 20)


@case("grpcio: its own retries, by its service configuration, with pushback")
def _(site):
    policy = {"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.05s",
              "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
    config = {"methodConfig": [{"name": [{"service": "echo.Echo"}], "retryPolicy": policy}]}
    options = [("grpc.service_config", json.dumps(config))]
    with calls(site).channel(options=options) as channel:
        flaky = method(channel, "Flaky")
        told = json.loads(flaky(b"own", metadata=(("x-failures", "2"),), timeout=LIMIT))
        equal(told, {"asked": 3, "attempts": "2"})
        fields = (("x-failures", "1"), ("x-pushback", "300"))
        begin = time.monotonic()
        equal(json.loads(flaky(b"later", metadata=fields, timeout=LIMIT))["asked"], 2)
        holds(time.monotonic() - begin >= 0.25)
        fields = (("x-failures", "1"), ("x-pushback", "-1"))
        equal(fails(lambda: flaky(b"never", metadata=fields, timeout=LIMIT)).code(),
              grpc.StatusCode.UNAVAILABLE)


@case("grpcio: 1,000 calls at once on one connection")
def _(site):
    async def everything(way):
        async with calls(site).channel(way, module=grpc.aio) as channel:
            say = method(channel, "Say")
            said = [os.urandom(number) for number in range(1000)]
            told = await asyncio.gather(*(say(one, timeout=60) for one in said))
            holds(told == said, "other messages")
    for way in calls(site).ports:
        asyncio.run(everything(way))


@case("grpcio: 90 calls at once whose deadline passes, again and again, beside streams that go on")
def _(site):
    async def hang(channel):
        ends = await asyncio.gather(*(method(channel, "Hang")(b"", timeout=0.3) for _ in range(90)),
                                    return_exceptions=True)
        equal({end.code() for end in ends}, {grpc.StatusCode.DEADLINE_EXCEEDED})

    async def everything(way):
        async with calls(site).channel(way, module=grpc.aio) as channel:
            chat = method(channel, "Chat", "stream_stream")(timeout=LIMIT)
            for number in range(8):
                await hang(channel)
                await chat.write(b"%d" % number)
                equal(await chat.read(), b"%d" % number)
            await chat.done_writing()
            equal(await chat.read(), grpc.aio.EOF)
    for way in calls(site).ports:
        asyncio.run(everything(way))


@case("grpcio: a fusebox that goes away after 50 requests, again and again: no call fails")
def _(site):
    async def everything(port):
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
            say = method(channel, "Say")
            said = [b"%d" % number for number in range(50)]
            for _ in range(20):
                told = await asyncio.gather(*(say(one, timeout=LIMIT) for one in said))
                equal(told, said)
    asyncio.run(everything(calls(site).leaving()))


@case("grpcio: health checks, once and as a stream")
@each_way
def _(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    states = health_pb2.HealthCheckResponse.ServingStatus
    for service, state in ("", "SERVING"), ("echo.Echo", "SERVING"), ("ill", "NOT_SERVING"):
        request = health_pb2.HealthCheckRequest(service=service)
        equal(states.Name(stub.Check(request, timeout=LIMIT).status), state)
        watched = stub.Watch(request, timeout=LIMIT)
        equal(states.Name(next(watched).status), state)
        watched.cancel()
    request = health_pb2.HealthCheckRequest(service="none")
    equal(fails(lambda: stub.Check(request, timeout=LIMIT)).code(), grpc.StatusCode.NOT_FOUND)


@case("grpcio: an endpoint that does not tell its health is not asked")
def _(site):
    with calls(site).checked() as channel:
        who = method(channel, "Who")
        equal({who(b"", timeout=LIMIT) for _ in range(50)}, {b"%d" % calls(site).server.pid})


@case("grpcio: what fusebox says itself: no server there, no such method")
def _(site):
    with calls(site).channel() as channel:
        error = fails(lambda: method(channel, "None")(b"", timeout=LIMIT))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@case("grpcio: a rolling restart of the server under load: no call fails")
def _(site):
    these, done = calls(site), threading.Event()
    answers, failures = [], []

    def ask():
        with these.channel() as channel:
            who = method(channel, "Who")
            while not done.is_set():
                try:
                    answers.append(who(b"", timeout=LIMIT))
                except grpc.RpcError as error:
                    failures.append(error)
    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    try:
        # First with the new one beside the old one, then with nobody there for a while.
        for beside in (True, True, False):
            known = len(answers)
            until("calls", lambda: len(answers) > known + 100)
            new = these.start_server() if beside else None
            these.end_server()
            these.server = new or these.start_server()
            pid = str(these.server.pid).encode()
            known = len(answers)
            until("the new one is asked", lambda: pid in answers[known:])
    finally:
        done.set()
        for asker in askers:
            asker.join(30)
    equal([str(error) for error in failures[:1]], [], f"{len(failures)} failures")
    equal(len(set(answers)), 4, "servers")
