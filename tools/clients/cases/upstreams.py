"""Upstreams over HTTP/2 and, where others do not ask them so, HTTP/1.1: each behind its fusebox."""

import sys

from case import ENVIRONMENT, PROGRAMS, case, equal, holds
from exchanges import curl, files, uploads
from servers import port_of
from wait import free_port
from web import start_apache, start_nginx

FUSEBOX = """
listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
workers = 1

[[routes]]
upstream = {{ url = "http://127.0.0.1:{port}", protocol = "{protocol}" }}
"""

NGINX = """
    keepalive_requests 500;
    server { listen 127.0.0.1:@PORT http2 backlog=1024; root @ROOT; }
"""

APACHE = """
Protocols h2c
DocumentRoot @ROOT
<Directory @ROOT/files>
    Require all granted
</Directory>
"""


def before(site, name: str, port: int, protocol: str = "http2") -> str:
    """The URL of a fusebox before an upstream at this port."""
    config = FUSEBOX.format(port=port, protocol=protocol)
    listening = site.start_fusebox(f"before-{name}", config)
    return f"http://127.0.0.1:{port_of(listening)}"


@case("nginx as upstream over HTTP/2, which goes away after 500 requests")
def _(site):
    files(site, before(site, "nginx", start_nginx(site, "back-nginx", NGINX)))


@case("apache2 as upstream over HTTP/2")
def _(site):
    files(site, before(site, "apache", start_apache(site, "back-apache", ["http2"], APACHE)))


@case("node as upstream over HTTP/2, with bodies, hints and trailers")
def _(site):
    port = free_port()
    site.serve("node", port, "node", PROGRAMS / "upstream.cjs", port)
    url = before(site, "node", port)
    seen = uploads(site, url)
    equal({line["authority"] for line in seen}, {url.removeprefix("http://")})
    told = curl("--include", "--header", "te: trailers", "--header", "connection: te", f"{url}/")
    holds(told.startswith(b"HTTP/1.1 103") and b"link: </a>" in told, told)
    holds(b"x-after: 1" in told, told)


def asgi(site, name: str, protocol: str, *command) -> None:
    """Python's servers with the application in `programs/asgi.py`, on @PORT."""
    port = free_port()
    command = [part.replace("@PORT", str(port)) for part in command]
    site.serve(f"{name}-{protocol}", port, sys.executable, "-m", name, *command,
               env={**ENVIRONMENT, "PYTHONPATH": str(PROGRAMS)})
    url = before(site, f"{name}-{protocol}", port, protocol)
    versions = {line["version"] for line in uploads(site, url)}
    equal(versions, {"2" if protocol == "http2" else "1.1"})
    told = curl("--parallel", "--parallel-max", "50", *[f"{url}/large"] * 50)
    equal(len(told), 50 * 1_000_000)
    equal(curl(f"{url}/drip"), b"".join(b"line %d\n" % line for line in range(20)))
    told = curl("--include", f"{url}/fails")
    holds(told.startswith(b"HTTP/1.1 500"), told)


@case("hypercorn as upstream over HTTP/1.1 and HTTP/2")
def _(site):
    for protocol in ("http1", "http2"):
        asgi(site, "hypercorn", protocol, "--bind", "127.0.0.1:@PORT", "asgi:app")


@case("granian as upstream over HTTP/1.1 and HTTP/2")
def _(site):
    for protocol in ("http1", "http2"):
        asgi(site, "granian", protocol, "--interface", "asgi", "--host", "127.0.0.1",
             "--port", "@PORT", "--http", protocol.removeprefix("http"), "asgi:app")
