"""A server of gRPC, and fusebox before it: without TLS, and with it."""

import json
import signal
import subprocess
import sys

import grpc

from case import PROGRAMS
from servers import DIRECT, TLS, port_of
from wait import free_port, until
from web import start_nginx

PLAIN = """
listen = "127.0.0.1:0"
listener.max_body = "200MiB"
admin.listen = "127.0.0.1:0"

[upstreams.server]
endpoints = ["http://127.0.0.1:{server}"]
protocol = "http2"

# Until a server that starts anew is there. One of Python's asyncio cancels what comes while it ends.
[policies.retry]
kind = "retry"
methods = ["POST"]
handle_if = {{ grpc_status = ["unavailable", "cancelled"] }}
delay = "50ms"
max_retries = 100
max_duration = "20s"
budget = "none"

[[routes]]
name = "retried"
path = "/echo.Echo/Who"
grpc = true
upstream = "server"
policies = ["retry"]

[[routes]]
name = "calls"
path = "/"
grpc = true
upstream = "server"
"""

# In front of the one without TLS.
IN_FRONT = """
listen = "127.0.0.1:0"
listener.max_body = "200MiB"
admin.listen = "127.0.0.1:0"
{more}

[[routes]]
grpc = true
upstream = {{ url = "http://127.0.0.1:{fusebox}", protocol = "http2" }}
"""

NO_GRPC = "server { listen 127.0.0.1:@PORT http2; root @ROOT; }"

# One of three is no server of gRPC: of two, half would be too many to leave out.
CHECKED = """
listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"

[upstreams.checked]
endpoints = ["http://127.0.0.1:{server}", "http://localhost:{server}", "http://127.0.0.1:{other}"]
protocol = "http2"
health = {{ grpc = "echo.Echo", interval = "100ms", timeout = "5s" }}

[[routes]]
grpc = true
upstream = "checked"
"""

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1), *LARGE]


class Calls:
    """The servers, and channels to them."""

    def __init__(self, site):
        self.site, self.server_port, self.starts = site, free_port(), 0
        self.server = self.start_server()
        listening = site.start_fusebox("calls", PLAIN.format(server=self.server_port))
        self.ports = {"plain": port_of(listening)}
        self.ports["tls"] = self._in_front("tls", TLS)

    def leaving(self) -> int:
        """The port of one that ends each connection soon."""
        return self._in_front("leaving", "listener.max_requests = 50")

    def checked(self):
        """A channel by one that has left out an endpoint by its checks."""
        other = start_nginx(self.site, "no-grpc", NO_GRPC)
        config = CHECKED.format(server=self.server_port, other=other)
        listening = self.site.start_fusebox("calls-checked", config)

        def is_left_out() -> bool:
            with DIRECT.open(f"http://{listening['admin']}/state", timeout=10) as answer:
                endpoints = json.load(answer)["upstreams"][0]["endpoints"]
            return [endpoint["state"] for endpoint in endpoints] == ["in", "in", "down"]
        until("the other one is left out", is_left_out)
        return grpc.insecure_channel(f"127.0.0.1:{port_of(listening)}", OPTIONS)

    def _in_front(self, name: str, more: str) -> int:
        config = IN_FRONT.format(more=more, fusebox=self.ports["plain"])
        return port_of(self.site.start_fusebox(f"calls-{name}", config))

    def start_server(self) -> subprocess.Popen:
        """Starts a server, beside one that there may be."""
        self.starts += 1
        return self.site.serve(f"grpc-server-{self.starts}", self.server_port, sys.executable,
                               PROGRAMS / "grpc_server.py", self.server_port)

    def end_server(self) -> None:
        """Ends the server that started first, which finishes its calls."""
        self.server.send_signal(signal.SIGTERM)
        if self.server.wait(10):
            raise AssertionError(f"the server has ended with {self.server.returncode}")

    def channel(self, way: str = "plain", options=(), module=grpc):
        """A channel by one of the ways."""
        options = [*OPTIONS, *options]
        if way == "tls":
            trusted = grpc.ssl_channel_credentials(self.site.authority.read_bytes())
            return module.secure_channel(f"localhost:{self.ports[way]}", trusted, options)
        return module.insecure_channel(f"127.0.0.1:{self.ports[way]}", options)


def calls(site) -> Calls:
    """Of a site, which they end with."""
    if not hasattr(site, "calls"):
        site.calls = Calls(site)
    return site.calls


def method(channel, name: str, kind: str = "unary_unary"):
    """A method of `programs/grpc_server.py`, of bytes."""
    return getattr(channel, kind)(f"/echo.Echo/{name}")
