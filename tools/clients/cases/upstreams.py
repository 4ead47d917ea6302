"""Upstreams over HTTP/2, TLS and, where others do not ask them so, HTTP/1.1: each behind its own."""

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
upstream = {{ url = "{url}", {keys} }}
"""

# What is spoken it says itself.
TLS = 'tls = { ca = "localhost.pem" }'

NGINX = """
    keepalive_requests 500;
    server { listen 127.0.0.1:@PORT http2 backlog=1024; root @ROOT; }
"""

SECURED = """
    keepalive_requests 500;
    ssl_certificate @ROOT/localhost.pem;
    ssl_certificate_key @ROOT/localhost.key;
    server {
        listen 127.0.0.1:@PORT %s backlog=1024;
        root @ROOT;
        location = /spoken { return 200 $server_protocol; }
    }
"""

APACHE = """
Protocols h2c
DocumentRoot @ROOT
<Directory @ROOT/files>
    Require all granted
</Directory>
"""


def before(site, name: str, port: int, protocol: str = "http2") -> str:
    """The URL of a fusebox before an upstream at this port. Over TLS the protocol is `auto`."""
    url = f"https://localhost:{port}" if protocol == "auto" else f"http://127.0.0.1:{port}"
    keys = TLS if protocol == "auto" else f'protocol = "{protocol}"'
    listening = site.start_fusebox(f"before-{name}", FUSEBOX.format(url=url, keys=keys))
    return f"http://127.0.0.1:{port_of(listening)}"


@case("nginx as upstream over HTTP/2, which goes away after 500 requests")
def _(site):
    files(site, before(site, "nginx", start_nginx(site, "back-nginx", NGINX)))


@case("nginx as upstream over TLS, which chooses HTTP/2, or HTTP/1.1")
def _(site):
    for name, versions, spoken in ("2", "ssl http2", b"HTTP/2.0"), ("1", "ssl", b"HTTP/1.1"):
        port = start_nginx(site, f"back-tls-{name}", SECURED % versions)
        url = before(site, f"nginx-tls-{name}", port, "auto")
        equal(curl(f"{url}/spoken"), spoken)
        files(site, url)


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
    command = [str(part).replace("@PORT", str(port)) for part in command]
    site.serve(f"{name}-{protocol}", port, sys.executable, "-m", name, *command,
               env={**ENVIRONMENT, "PYTHONPATH": str(PROGRAMS)})
    url = before(site, f"{name}-{protocol}", port, protocol)
    versions = {line["version"] for line in uploads(site, url)}
    equal(versions, {"1.1" if protocol == "http1" else "2"})
    told = curl("--parallel", "--parallel-max", "50", *[f"{url}/large"] * 50)
    equal(len(told), 50 * 1_000_000)
    equal(curl(f"{url}/drip"), b"".join(b"line %d\n" % line for line in range(20)))
    told = curl("--include", f"{url}/fails")
    holds(told.startswith(b"HTTP/1.1 500"), told)


@case("hypercorn as upstream over HTTP/1.1, HTTP/2 and TLS")
def _(site):
    secured = ["--certfile", site.authority, "--keyfile", site.path("localhost.key")]
    for protocol in ("http1", "http2", "auto"):
        asgi(site, "hypercorn", protocol, "--bind", "127.0.0.1:@PORT",
             *(secured if protocol == "auto" else []), "asgi:app")


@case("granian as upstream over HTTP/1.1, HTTP/2 and TLS")
def _(site):
    secured = ["--ssl-certificate", site.authority, "--ssl-keyfile", site.path("localhost.key")]
    for protocol in ("http1", "http2", "auto"):
        asgi(site, "granian", protocol, "--interface", "asgi", "--host", "127.0.0.1",
             "--port", "@PORT", "--http", protocol.removeprefix("http"),
             *(secured if protocol == "auto" else []), "asgi:app")
