"""The example's service B, by its `.proto`: what a user does with it."""

import importlib
import sys
from pathlib import Path

import grpc

from calls import OPTIONS
from case import Missing, case, equal, run
from servers import port_of
from wait import free_port

EXAMPLES = Path(__file__).parents[3] / "examples"


@case("the example: service B by its .proto, behind its configuration")
def _(site):
    service_b = Path(site.fusebox).with_name("service-b")
    if not service_b.exists():
        raise Missing(str(service_b))
    folder = site.path("example")
    folder.mkdir()
    run(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={EXAMPLES / 'services'}",
        f"--python_out={folder}", f"--grpc_python_out={folder}", "service_b.proto")
    sys.path.append(str(folder))
    made = importlib.import_module("service_b_pb2_grpc")
    messages = importlib.import_module("service_b_pb2")

    port = free_port()
    service = site.serve("service-b", port, service_b, "--listen", f"127.0.0.1:{port}",
                         "--script", "503,200,503:body=late,hang")
    environment = {"SERVICE_B": f"http://127.0.0.1:{port}", "FUSEBOX_LISTEN": "127.0.0.1:0",
                   "FUSEBOX_ADMIN": "127.0.0.1:0"}
    listening = site.start_fusebox("example", (EXAMPLES / "configs" / "grpc.toml").read_text(),
                                   environment)
    with grpc.insecure_channel(f"127.0.0.1:{port_of(listening)}", OPTIONS) as channel:
        hello = made.ServiceBStub(channel).Hello
        equal(hello(messages.HelloRequest(), timeout=20).message, "hello from service B")
        for seconds, code in (20, grpc.StatusCode.UNAVAILABLE), (0.3, None):
            try:
                hello(messages.HelloRequest(), timeout=seconds)
            except grpc.RpcError as error:
                equal(error.code(), code or grpc.StatusCode.DEADLINE_EXCEEDED)
            else:
                raise AssertionError("it has not failed")
        # Nobody is there, and the fallback answers.
        service.terminate()
        service.wait(10)
        equal(hello(messages.HelloRequest(), timeout=20).message, "error accessing service B")
