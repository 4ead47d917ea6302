"""Clients over TLS: curl, Python's ssl and openssl."""

import json
import socket
import ssl
import urllib.request

from case import case, equal, holds, run
from cases.curl import curl, received, upload


def secured(site, *arguments, **options) -> bytes:
    """What curl prints, which trusts the certificate."""
    return curl("--cacert", site.authority, *arguments, **options)


@case("tls: curl, in both versions, on a connection that is kept")
def _(site):
    for version in ("1.2", "1.3"):
        urls = [site.secured(path) for path in ("/files/hello", "/echo", "/files/hello")]
        told = secured(site, f"--tlsv{version}", "--tls-max", version,
                       "--write-out", "\n%{num_connects} %{ssl_verify_result}\n", *urls)
        connects = [line for line in told.splitlines() if line in (b"1 0", b"0 0")]
        equal(connects, [b"1 0", b"0 0", b"0 0"], "connections")


@case("tls: curl, large bodies both ways")
def _(site):
    large = (site.root / "files" / "large").read_bytes()
    holds(secured(site, site.secured("/files/large")) == large, "another file")
    file = upload(site, 20 << 20)
    received(secured(site, "--data-binary", f"@{file}", site.secured("/echo")), file, "POST")


@case("tls: curl, a response that ends with the connection")
def _(site):
    told = secured(site, "--http1.0", site.secured("/drip/3"))
    equal(told, b"line 0\nline 1\nline 2\n")


@case("tls: curl that trusts somebody else, and curl without TLS")
def _(site):
    curl(site.secured("/files/hello"), fails=True)
    plain = site.secured("/files/hello").replace("https:", "http:")
    told = curl("--include", plain)
    holds(b" 400 " in told and b"plain HTTP where TLS is spoken" in told, told)


@case("tls: Python resumes a session")
def _(site):
    context = ssl.create_default_context(cafile=site.authority)
    session = None
    for resumed in (False, True):
        with socket.create_connection(("localhost", site.secured_port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as wire:
                wire.sendall(b"GET /files/hello HTTP/1.1\r\nhost: localhost\r\n"
                             b"connection: close\r\n\r\n")
                told = b""
                while more := wire.recv(65536):
                    told += more
                holds(told.endswith(b"hello\n"), told)
                equal(wire.session_reused, resumed, "resumed")
                session = wire.session


@case("tls: Python's urllib")
def _(site):
    context = ssl.create_default_context(cafile=site.authority)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    with opener.open(site.secured("/echo"), timeout=10) as answer:
        equal(json.loads(answer.read())["method"], "GET")


@case("tls: openssl, every suite that is offered has forward secrecy")
def _(site):
    for version, suites in (("-tls1_2", ("ECDHE-ECDSA-AES128-GCM-SHA256",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305")),
                            ("-tls1_3", ("",))):
        for suite in suites:
            chosen = ("-cipher", suite) if suite else ()
            told = run("openssl", "s_client", "-connect", f"localhost:{site.secured_port}",
                       "-servername", "localhost", "-CAfile", site.authority, "-verify_return_error",
                       version, *chosen, input=b"").stdout
            holds(b"Verification: OK" in told, told)
    for refused in (("-tls1_2", "-cipher", "AES128-SHA"), ("-tls1_1",)):
        run("openssl", "s_client", "-connect", f"localhost:{site.secured_port}", *refused,
            input=b"", fails=True)
