"""An upstream that takes only flawless HTTP/1.1, and records what it is asked.

| path | answer |
|---|---|
| `/echo…` | what the request was, as JSON |
| `/page`, `/asset/N` | a page that loads many assets, and sends a form |
| `/socket` | a page that talks by WebSocket at `/talk` |
| `/drip/N` | N lines, one each 100 ms, in chunks |
| `/events/N` | N server-sent events, one each 100 ms |
| `/endless` | the same, for ever |
| `/trailers` | chunks with trailers |
| `/hints` | 103 Early Hints, and then the answer |
| `/cached` | an entity tag, and 304 to who has it |
| `/until-close` | a body that ends with its connection |
| `/early` | 413 to the head of a request; its body is not read |
"""

import hashlib
import json
import re
import socket
import threading
import time
from pathlib import Path

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!\"$-~]+) HTTP/1\.1\Z")
PROGRAMS = Path(__file__).parent / "programs"


class Flaw(Exception):
    """What has come is no flawless request."""


class Request:
    """A request as it came."""

    def __init__(self, method: str, target: str, fields: list[tuple[str, str]]):
        self.method, self.target, self.fields = method, target, fields
        self.body_length, self.digest, self.trailers = 0, hashlib.sha256(), []

    def field(self, name: str) -> str | None:
        """The one value of a field."""
        values = [value for key, value in self.fields if key == name]
        if len(values) > 1:
            raise Flaw(f"{name} twice")
        return values[0] if values else None

    @property
    def identity(self) -> str:
        """The request id that the log knows it by."""
        return self.field("x-request-id") or ""

    def told(self) -> dict:
        """As JSON for the client."""
        return {"method": self.method, "target": self.target, "fields": dict(self.fields),
                "length": self.body_length, "sha256": self.digest.hexdigest(),
                "trailers": dict(self.trailers)}


class Origin:
    """The upstream, on a free port."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.requests: list[Request] = []
        self.flaws: list[str] = []
        self.gone = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        try:
            while request := read_head(stream):
                self.requests.append(request)
                if request.target.startswith("/early"):
                    connection.sendall(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n"
                                       b"content-length: 5\r\n\r\nearly")
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 20):
                        pass
                    return
                read_body(stream, request)
                if not self._answer(connection, request):
                    return
        except Flaw as flaw:
            self.flaws.append(str(flaw))
        except OSError:
            pass
        finally:
            stream.close()
            connection.close()

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Returns whether the connection goes on."""
        path = request.target.partition("?")[0]
        whole, _, count = path.rpartition("/")
        if path == "/page":
            send(connection, request, (PROGRAMS / "page.html").read_bytes(), "text/html")
        elif path == "/socket":
            send(connection, request, (PROGRAMS / "socket.html").read_bytes(), "text/html")
        elif whole == "/asset":
            send(connection, request, count.encode() * 5000, "text/plain")
        elif whole == "/drip":
            chunks(connection, (f"line {n}\n" for n in range(int(count))), "text/plain", 0.1)
        elif whole == "/events":
            events = (f"data: {n}\n\n" for n in range(int(count)))
            chunks(connection, events, "text/event-stream", 0.1)
        elif path == "/endless":
            try:
                chunks(connection, iter(lambda: "data: x\n\n", None), "text/event-stream", 0.1)
            except OSError:
                self.gone.set()
            return False
        elif path == "/trailers":
            chunks(connection, ["some ", "text"], "text/plain", 0,
                   "trailer: digest\r\n", "digest: abc\r\n")
        elif path == "/hints":
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n")
            send(connection, request, b"hinted", "text/plain")
        elif path == "/cached":
            if request.field("if-none-match") == '"1"':
                connection.sendall(b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n')
            else:
                send(connection, request, b"cached", "text/plain", 'etag: "1"\r\n')
        elif path == "/until-close":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"until close " * 1000)
            return False
        else:
            body = json.dumps(request.told()).encode()
            send(connection, request, body, "application/json")
        return True


def send(connection: socket.socket, request: Request, body: bytes, kind: str,
         fields: str = "") -> None:
    """Answers with a length."""
    head = f"HTTP/1.1 200 OK\r\n{fields}content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + (b"" if request.method == "HEAD" else body))


def chunks(connection: socket.socket, parts, kind: str, pause: float, fields: str = "",
           trailers: str = "") -> None:
    """Answers in chunks, and waits before each but the first."""
    connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}content-type: {kind}\r\n"
                       "transfer-encoding: chunked\r\n\r\n".encode())
    for index, part in enumerate(parts):
        if index:
            time.sleep(pause)
        connection.sendall(f"{len(part):x}\r\n{part}\r\n".encode())
    connection.sendall(f"0\r\n{trailers}\r\n".encode())


def read_line(stream) -> bytes:
    """A line, which ends with CR and LF and has neither in it."""
    line = stream.readline(70_000)
    if len(line) < 70_000 and not line.endswith(b"\n"):
        raise OSError("the request breaks off")
    if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
        raise Flaw(f"a line {line!r}")
    return line[:-2]


def read_fields(stream) -> list[tuple[str, str]]:
    """Fields up to the blank line."""
    fields = []
    while line := read_line(stream):
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise Flaw(f"a field {line!r}")
        fields.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))
    return fields


def read_head(stream) -> Request | None:
    """`None`: the connection has ended."""
    if not stream.peek(1):
        return None
    line = read_line(stream)
    parts = REQUEST_LINE.match(line)
    if not parts:
        raise Flaw(f"a request line {line!r}")
    request = Request(parts[1].decode(), parts[2].decode(), read_fields(stream))
    if not request.field("host"):
        raise Flaw("no host")
    for name in ("expect", "keep-alive", "upgrade"):
        if request.field(name) is not None:
            raise Flaw(f"{name}, which ends at the proxy")
    # The proxy says itself that it takes trailers (RFC 9110, section 10.1.4).
    te, connection = request.field("te"), request.field("connection")
    if te is not None and (te, str(connection).lower()) != ("trailers", "te"):
        raise Flaw(f"te {te!r} with connection {connection!r}")
    return request


def read_body(stream, request: Request) -> None:
    """The body by its framing, which has to be one of two."""
    length, coding = request.field("content-length"), request.field("transfer-encoding")
    if coding is None:
        if length is not None and not re.fullmatch("[0-9]+", length):
            raise Flaw(f"a length {length!r}")
        read_data(stream, int(length or 0), request)
        return
    if coding != "chunked" or length is not None:
        raise Flaw(f"coding {coding!r} beside length {length!r}")
    while True:
        size = read_line(stream)
        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", size):
            raise Flaw(f"a chunk's size {size!r}")
        if not int(size, 16):
            break
        read_data(stream, int(size, 16), request)
        if read_line(stream):
            raise Flaw("a chunk that is too long")
    request.trailers = read_fields(stream)


def read_data(stream, left: int, request: Request) -> None:
    """So many bytes of the body."""
    while left:
        data = stream.read1(min(left, 1 << 20))
        if not data:
            raise OSError("the request's body breaks off")
        request.body_length += len(data)
        request.digest.update(data)
        left -= len(data)
