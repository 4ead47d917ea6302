"""Every kind of fusebox's own answers, held against the specifications of HTTP by httplint."""

import re
import socket
import threading
import time

from httplint import HttpRequestLinter, HttpResponseLinter, levels

from case import case, equal, holds, run
from wait import free_port

FUSEBOX = """
listen = "127.0.0.1:{port}"
workers = 1

[listener]
header_timeout = "500ms"
body_timeout = "500ms"
max_header = "8KiB"
max_body = "1KiB"

[admin]
listen = "127.0.0.1:0"
token_file = "lint.token"

[policies.limit]
kind = "timeout"
limit = "50ms"

[policies.breaker]
kind = "circuit-breaker"
failure_threshold = 1
delay = "60s"

[policies.rate]
kind = "rate-limiter"
limit = 1
per = "60s"
max_wait = "0s"

[policies.places]
kind = "bulkhead"
max_concurrency = 1
max_wait = "0s"

[policies.retry]
kind = "retry"
max_retries = 1
delay = "1ms"

[policies.fallback]
kind = "fallback"
respond = {{ status = 200, headers = {{ content-type = "application/json" }}, body = "[]" }}

[policies.cache]
kind = "cache"
stale_if_error = "60s"

[upstreams.refusing]
endpoints = ["http://127.0.0.1:{refusing}"]

[upstreams.origin]
endpoints = ["http://127.0.0.1:{origin}"]

[[routes]]
path = "/refused"
upstream = "refusing"

[[routes]]
path = "/retried"
upstream = "refusing"
policies = ["retry"]

[[routes]]
path = "/open"
upstream = "refusing"
policies = ["breaker"]

[[routes]]
path = "/fallback"
upstream = "refusing"
policies = ["fallback"]

[[routes]]
path = "/unknown"
upstream = "http://nobody.invalid:1"

[[routes]]
path = "/slow"
upstream = "origin"
policies = ["limit"]

[[routes]]
path = "/rate"
upstream = "origin"
policies = ["rate"]

[[routes]]
path = "/places"
upstream = "origin"
policies = ["places"]

[[routes]]
path = "/cached"
upstream = "origin"
policies = ["cache"]

[[routes]]
path = "/loop"
upstream = "http://127.0.0.1:{port}"

[[routes]]
path = "/origin"
upstream = "origin"
"""

# What is only there over TLS: a host that its connection is not for, and a loop over both.
SECURED = """
listen = "127.0.0.1:{port}"
workers = 1

[listener.tls]
certificates = [{{ cert = "localhost.pem", key = "localhost.key" }}]
strict_sni = true

[upstreams.itself]
endpoints = ["https://localhost:{port}"]
tls = {{ ca = "localhost.pem" }}
protocol = "{protocol}"

[[routes]]
upstream = "itself"
"""

# What httplint says and we mean.
MEANT = {
    "STATUS_BAD_REQUEST": "a 400 is for what is no request",
    "STATUS_URI_TOO_LONG": "the target is too long",
    "STATUS_VERSION_NOT_SUPPORTED": "the version is none of ours",
    "FRESHNESS_HEURISTIC": "a fallback says of caches what the configuration says; the origin, too",
}


class Back:
    """An upstream: what it answers is in the path that it is asked for."""

    ANSWERS = {
        "/cached/fresh": "cache-control: max-age=60\r\n",
        "/cached/validated": 'cache-control: no-cache\r\netag: "1"\r\n',
        "/cached/private": "cache-control: private, max-age=60\r\n",
    }

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked: set[str] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = connection.recv(65536).decode("latin-1")
            path = head.split(" ")[1] if head else ""
            asked, self.asked = path in self.asked, self.asked | {path}
            if path in ("/slow", "/places/slow"):
                time.sleep(1)
            if path == "/origin/odd":
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
            elif path == "/origin/closed":
                return
            elif path == "/cached/stale" and asked:
                connection.sendall(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n")
            elif "if-none-match" in head.lower():
                connection.sendall(b'HTTP/1.1 304 Not Modified\r\ncache-control: no-cache\r\n'
                                   b'etag: "1"\r\nconnection: close\r\n\r\n')
            else:
                date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
                fields = self.ANSWERS.get(path, "")
                if path == "/cached/stale":
                    fields = "cache-control: max-age=1\r\n"
                body = b"" if head.startswith("HEAD") else b"hello"
                connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}date: {date}\r\n"
                                   "content-type: text/plain\r\ncontent-length: 5\r\n"
                                   "connection: close\r\n\r\n".encode() + body)


def message(what: str, method: str, target: str, told: bytes, asked_with: str = "") -> dict:
    """A response, and what was asked."""
    while told.startswith((b"HTTP/1.1 1", b"HTTP/2 1")):
        told = told.partition(b"\r\n\r\n")[2]
    head, blank, body = told.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = re.fullmatch(r"HTTP/([0-9.]+) ([0-9]{3}).*", first)
    holds(parts and blank, f"{what}: {told!r}")
    return {"what": f"{what}, HTTP/{parts[1]}, {parts[2]}", "method": method, "target": target,
            "asked": pairs(asked_with.splitlines()), "version": parts[1], "status": int(parts[2]),
            "fields": pairs(lines), "body": body.decode("latin-1")}


def pairs(lines: list[str]) -> list[tuple[str, str]]:
    """Names and values."""
    fields = [line.split(":", 1) for line in lines]
    return [(name, value.strip()) for name, value in fields]


def raw(address: tuple, sent: bytes) -> bytes:
    """What comes of these bytes, until the connection ends or nothing comes any more."""
    with socket.create_connection(address, timeout=5) as wire:
        wire.sendall(sent)
        wire.settimeout(2)
        told = b""
        try:
            while more := wire.recv(65536):
                told += more
        except (TimeoutError, ConnectionResetError):
            pass
        return told


def asked(method: str, target: str, fields: str = "", body: str = "") -> bytes:
    """A request that is the last one of its connection."""
    return (f"{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n"
            f"{body}").encode()


# What is asked for by a flawless request: what it is, its method, its target, more fields.
FLAWLESS = [
    ("refused connection", "GET", "/refused", ""),
    ("refused connection", "HEAD", "/refused", ""),
    ("after retries", "GET", "/retried", ""),
    ("not resolved", "GET", "/unknown", ""),
    ("timeout", "GET", "/slow", ""),
    ("timeout", "HEAD", "/slow", ""),
    ("opens", "GET", "/open", ""),
    ("open", "GET", "/open", ""),
    ("open", "HEAD", "/open", ""),
    ("admitted", "GET", "/rate", ""),
    ("too fast", "GET", "/rate", ""),
    ("fallback", "GET", "/fallback", ""),
    ("fallback", "HEAD", "/fallback", ""),
    ("no HTTP", "GET", "/origin/odd", ""),
    ("closed", "GET", "/origin/closed", ""),
    ("no route", "GET", "/nothing", ""),
    ("loop", "GET", "/loop", ""),
    ("dots", "GET", "/origin/../x", ""),
    ("expectation", "GET", "/origin", "expect: the-impossible\r\n"),
    ("last hop", "OPTIONS", "/origin", "max-forwards: 0\r\n"),
    ("last hop", "TRACE", "/origin", "max-forwards: 0\r\n"),
    ("no number of hops", "TRACE", "/origin", "max-forwards: x\r\n"),
    ("cache, miss", "GET", "/cached/fresh", ""),
    ("cache, hit", "GET", "/cached/fresh", ""),
    ("cache, hit", "HEAD", "/cached/fresh", ""),
    ("cache, miss", "GET", "/cached/validated", ""),
    ("cache, validated", "GET", "/cached/validated", ""),
    ("cache, 304", "GET", "/cached/validated", 'if-none-match: "1"\r\n'),
    ("cache, not for it", "GET", "/cached/private", ""),
    ("cache, not there", "GET", "/cached/none", "cache-control: only-if-cached\r\n"),
]

# What is no request, or one that only bytes can say.
FLAWED = [
    ("no host", "GET", "/origin", b"GET /origin HTTP/1.1\r\n\r\n"),
    ("no request", "GET", "/", b"nonsense\r\n\r\n"),
    ("a fragment", "GET", "/", b"GET /#a HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ("slow head", "GET", "/", b"GET / HTTP/1.1\r\nhost: local"),
    ("slow body", "POST", "/origin", asked("POST", "/origin", "content-length: 10\r\n", "x")),
    ("large body", "POST", "/origin", asked("POST", "/origin", "content-length: 10000\r\n")),
    ("no chunk", "POST", "/origin",
     asked("POST", "/origin", "transfer-encoding: chunked\r\n", "x\r\n\r\n")),
    ("large head", "GET", "/", asked("GET", "/", f"x-a: {'x' * 9000}\r\n")),
    ("many fields", "GET", "/", asked("GET", "/", "x-a: 1\r\n" * 101)),
    ("long target", "GET", "/", asked("GET", f"/{'x' * 9000}")),
    ("coding", "POST", "/", asked("POST", "/", "transfer-encoding: gzip\r\n")),
    ("CONNECT", "CONNECT", "localhost:1", b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ("version", "GET", "/", b"GET / HTTP/3.0\r\nhost: localhost\r\n\r\n"),
    ("asterisk", "OPTIONS", "*", asked("OPTIONS", "*")),
]

ADMIN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/state"), ("GET", "/metrics"),
         ("HEAD", "/state"), ("GET", "/nothing"), ("POST", "/reload"), ("DELETE", "/state")]


def messages(site, port: int, admin: int) -> list[dict]:
    """All answers."""
    found, address = [], ("127.0.0.1", port)
    for what, method, target, fields in FLAWLESS:
        told = raw(address, asked(method, target, fields))
        found.append(message(what, method, target, told, fields))
    with socket.create_connection(address) as held:
        held.sendall(asked("GET", "/places/slow"))
        time.sleep(0.2)
        found.append(message("full", "GET", "/places", raw(address, asked("GET", "/places"))))
    raw(address, asked("GET", "/cached/stale"))
    time.sleep(1.5)
    found.append(message("cache, stale", "GET", "/cached/stale",
                         raw(address, asked("GET", "/cached/stale"))))
    for what, method, target, sent in FLAWED:
        found.append(message(what, method, target, raw(address, sent)))
    for method, target in ADMIN:
        told = raw(("127.0.0.1", admin), asked(method, target))
        found.append(message(f"admin: {method} {target}", method, target, told))
    for what, method, target, fields in FLAWLESS:
        how = ["--head"] if method == "HEAD" else ["--include", "--request", method]
        how += [part for field in fields.splitlines() for part in ("--header", field)]
        # curl would leave dots out, and has no way to say what is no path.
        told = run("curl", "--silent", "--max-time", "10", "--path-as-is",
                   "--http2-prior-knowledge", *how, f"http://127.0.0.1:{port}{target}").stdout
        found.append(message(what, method, target, told, fields))
    return found


def secured(site) -> list[dict]:
    """The answers that only a listener with TLS has, by both versions of HTTP."""
    found = []
    for version, protocol in ("--http1.1", "http1"), ("--http2", "http2"):
        port = free_port()
        site.start_fusebox(f"lint-{protocol}", SECURED.format(port=port, protocol=protocol))
        for what, status, method, host in [
            ("another host", 421, "GET", "other.example"),
            ("another host", 421, "HEAD", "other.example"),
            ("loop", 508, "GET", f"localhost:{port}"),
        ]:
            how = ["--head"] if method == "HEAD" else ["--include"]
            told = run("curl", "--silent", "--max-time", "10", "--cacert", site.authority, version,
                       "--header", f"host: {host}", *how, f"https://localhost:{port}/").stdout
            answer = message(f"TLS, {what}", method, "/", told)
            equal(answer["status"], status, f"{what}, {protocol}")
            found.append(answer)
    return found


def notes(told: dict) -> list[tuple[str, str]]:
    """What is worse than information about a message: its name, and a line."""
    version, target = told["version"].encode(), b"http://localhost" + told["target"].encode()
    request = HttpRequestLinter()
    request.process_request_topline(told["method"].encode(), target, version)
    request.process_headers(encoded([("host", "localhost"), *told["asked"]]))
    request.finish_content(True)
    response = HttpResponseLinter(no_content=told["method"] == "HEAD")
    response.request = request
    response.process_response_topline(version, str(told["status"]).encode(), b"")
    response.process_headers(encoded(told["fields"]))
    response.feed_content(told["body"].encode("latin-1"))
    response.finish_content(True)
    said = [note for group in response.notes for note in (group, *group.subnotes)]
    return [(type(note).__name__, f"{told['what']}: {note.summary}") for note in said
            if note.level in (levels.WARN, levels.BAD)]


def encoded(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """As httplint takes them."""
    return [(name.encode(), value.encode("latin-1")) for name, value in fields]


@case("httplint: fusebox's own answers")
def _(site):
    token = site.path("lint.token")
    token.touch(0o600)
    token.write_text("open sesame, please\n")
    back, port = Back(), free_port()
    listening = site.start_fusebox("lint", FUSEBOX.format(
        port=port, refusing=free_port(), origin=back.port))
    admin = int(listening["admin"].rpartition(":")[2])
    answers = messages(site, port, admin) + secured(site)
    found = [note for told in answers for note in notes(told)]
    said = [f"{line} ({name})" for name, line in found if name not in MEANT]
    if said:
        raise AssertionError("\n".join(said))
    equal(sorted(set(MEANT) - {name for name, _ in found}), [], "meant, and not said")
