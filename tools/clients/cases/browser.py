"""chromium, without a window."""

import os
import subprocess
import sys

from case import ENVIRONMENT, PROGRAMS, case, equal, holds
from servers import port_of
from wait import free_port, until

# WebSocket over HTTP/2 (RFC 8441) needs TLS: a browser speaks HTTP/2 only above it.
CHAT = """
listen = "127.0.0.1:0"
workers = 1
listener.tls.certificates = [{{ cert = "localhost.pem", key = "localhost.key" }}]

[[routes]]
path = "/talk"
upstream = {{ url = "http://127.0.0.1:{chat}", protocol = "{protocol}" }}
upgrades = ["websocket"]

[[routes]]
upstream = "http://127.0.0.1:{fusebox}"
"""


def page(site, url: str, done: str, *options) -> str:
    """Opens a page, and returns the target that it asks for once it has done everything."""
    command = ["chromium", "--headless", "--disable-gpu", "--disable-dev-shm-usage",
               "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
               f"--user-data-dir={site.path('chromium')}", *options, url]
    if os.getuid() == 0:
        command.insert(1, "--no-sandbox")
    known = len(site.origin.requests)
    with open(site.path("chromium.log"), "wb") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)

    def told():
        holds(browser.poll() is None, site.path("chromium.log").read_bytes()[-1500:])
        return next((request.target for request in site.origin.requests[known:]
                     if request.target.startswith(done)), None)
    try:
        return until("the page has done everything", told, 60)
    finally:
        browser.terminate()
        browser.wait(10)


@case("chromium: a page with 30 assets, events, a form and an upload")
def _(site):
    told = page(site, site.url("/page"), "/echo/done")
    equal(told, "/echo/done?assets=30&events=5&form=form&upload=3000000&early=413")


@case("chromium: WebSocket over HTTP/2, to hypercorn over HTTP/1.1 and HTTP/2")
def _(site):
    port = free_port()
    site.serve("hypercorn-chat", port, sys.executable, "-m", "hypercorn",
               "--bind", f"127.0.0.1:{port}", "asgi:app",
               env={**ENVIRONMENT, "PYTHONPATH": str(PROGRAMS)})
    for protocol in ("http1", "http2"):
        name = f"chat-{protocol}"
        config = CHAT.format(chat=port, protocol=protocol, fusebox=site.port)
        front = port_of(site.start_fusebox(name, config))
        told = page(site, f"https://localhost:{front}/socket", "/echo/talked",
                    "--ignore-certificate-errors")
        spoken = "1.1" if protocol == "http1" else "2"
        equal(told, f"/echo/talked?small=500&large=1000000&code=4002&version={spoken}")

        def tunnels() -> list[str]:
            lines = [line for line in site.log(name) if "request" in line and "response" in line]
            return [line["request"]["protocol"] for line in lines
                    if line["request"]["path"] == "/talk"]
        equal(until("its access line", tunnels), ["HTTP/2"], "spoken by the browser")
