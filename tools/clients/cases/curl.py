"""curl."""

import json
import os
import subprocess
import time

from case import LIMIT, case, equal, holds, run
from servers import MAX_BODY


def curl(*arguments, **options) -> bytes:
    """What curl prints, without progress."""
    return run("curl", "--silent", "--show-error", "--max-time", "30", *arguments,
               **options).stdout


def write_out(site, *arguments, **options) -> dict:
    """What curl measured, with the response's body as a file."""
    told = curl("--output", site.path("body"), "--write-out", "%{json}", *arguments, **options)
    return json.loads(told)


def upload(site, size: int):
    """A file of so many bytes."""
    file = site.path(f"upload-{size}")
    file.write_bytes(os.urandom(size))
    return file


def digest(file) -> str:
    """Of a file."""
    return run("sha256sum", file).stdout.split()[0].decode()


def received(answer: bytes, file, method: str) -> dict:
    """The origin has got the file."""
    told = json.loads(answer)
    equal((told["method"], told["length"], told["sha256"]),
          (method, file.stat().st_size, digest(file)))
    return told


@case("curl: a connection is kept")
def _(site):
    urls = [site.url(path) for path in ("/files/hello", "/echo", "/files/none", "/files/hello")]
    told = curl("--write-out", "\n%{num_connects}\n", *urls)
    connects = [line for line in told.splitlines() if line in (b"0", b"1")]
    equal(connects, [b"1", b"0", b"0", b"0"], "connections")


@case("curl: HTTP/1.0 is answered and closed")
def _(site):
    told = curl("--http1.0", "--include", site.url("/files/hello"))
    holds(told.endswith(b"hello\n") and b"connection: keep-alive" not in told.lower(), told)


@case("curl: a chunked response to HTTP/1.0 ends with the connection")
def _(site):
    told = curl("--http1.0", "--include", site.url("/drip/3"))
    holds(told.endswith(b"\r\n\r\nline 0\nline 1\nline 2\n"), told)


@case("curl: HEAD, which has no body")
def _(site):
    told = curl("--head", site.url("/files/hello"), site.url("/echo"))
    equal(told.count(b"HTTP/1.1 200 OK"), 2)
    holds(b"ontent-Length: 6" in told or b"content-length: 6" in told, told)


@case("curl: ranges, and a download that goes on where it broke off")
def _(site):
    large = (site.root / "files" / "large").read_bytes()
    equal(curl("--range", "100-199", site.url("/files/large")), large[100:200])
    several = curl("--include", "--range", "0-9,100-109", site.url("/files/large"))
    holds(large[100:110] in several and b"206 Partial Content" in several, several)
    part = site.path("part")
    part.write_bytes(large[:5_000_000])
    curl("--continue-at", "-", "--output", part, site.url("/files/large"))
    holds(part.read_bytes() == large)


@case("curl: an upload waits for 100 Continue, and gets it")
def _(site):
    file = upload(site, 20 << 20)
    done = run("curl", "--silent", "--verbose", "--expect100-timeout", "20", "--header",
               "expect: 100-continue", "--upload-file", file, site.url("/echo"))
    equal(done.stderr.count(b"< HTTP/1.1 100 Continue"), 1)
    received(done.stdout, file, "PUT")


@case("curl: an upload in chunks")
def _(site):
    file = upload(site, 3_000_001)
    told = received(curl("--header", "transfer-encoding: chunked", "--data-binary", f"@{file}",
                         site.url("/echo")), file, "POST")
    equal(told["fields"].get("transfer-encoding"), "chunked")


@case("curl: an upload from a slow standard input")
def _(site):
    parts = [os.urandom(size) for size in (1, 10, 70_000, 3)]
    with subprocess.Popen(["curl", "--silent", "--no-buffer", "-T", "-", site.url("/echo")],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        for part in parts:
            client.stdin.write(part)
            client.stdin.flush()
            time.sleep(0.1)
        answer, _ = client.communicate(timeout=LIMIT)
    file = site.path("parts")
    file.write_bytes(b"".join(parts))
    received(answer, file, "PUT")


@case("curl: many uploads over one connection")
def _(site):
    file = upload(site, 100_000)
    urls = [site.url(f"/echo/{number}") for number in range(20)]
    told = curl("--data-binary", f"@{file}", "--write-out", "\n%{num_connects}\n", *urls)
    lines = told.splitlines()
    equal(lines[1::2], [b"1"] + [b"0"] * 19, "connections")
    for answer in lines[::2]:
        received(answer, file, "POST")


@case("curl: forms, as a query's brother and in parts")
def _(site):
    equal(json.loads(curl("--data", "a=1", site.url("/echo")))["length"], 3)
    told = json.loads(curl("--form", f"file=@{upload(site, 1_000_000)}", site.url("/echo")))
    holds(told["length"] > 1_000_000 and "multipart" in told["fields"]["content-type"], told)


@case("curl: a response's trailers arrive")
def _(site):
    told = curl("--include", site.url("/trailers"))
    holds(told.endswith(b"\r\n\r\nsome textdigest: abc\r\n"), told)


@case("curl: early hints come before the answer, but not to HTTP/1.0")
def _(site):
    told = curl("--include", site.url("/hints"), site.url("/hints"))
    equal(told.count(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200"), 2)
    told = curl("--http1.0", "--include", site.url("/hints"))
    holds(b" 103 " not in told and told.endswith(b"hinted"), told)


@case("curl: 304, and a body that ends with its connection")
def _(site):
    told = write_out(site, "--header", 'if-none-match: "1"', site.url("/cached"))
    equal((told["http_code"], told["size_download"]), (304, 0))
    told = write_out(site, site.url("/until-close"))
    equal((told["http_code"], told["size_download"]), (200, 12_000))


@case("curl: 413 to 200 MB that say so is seen at once")
def _(site):
    sparse = site.path("sparse")
    with open(sparse, "wb") as file:
        file.truncate(2 * MAX_BODY)
    for expect in ("expect:", "expect: 100-continue"):
        told = write_out(site, "--header", expect, "--upload-file", sparse, site.url("/echo"))
        equal(told["http_code"], 413, expect)
        holds(told["size_upload"] < MAX_BODY and told["time_total"] < 10, told)


@case("curl: 413 to 200 MB in chunks is seen when they are too many")
def _(site):
    told = write_out(site, "--header", "transfer-encoding: chunked", "--upload-file",
                     site.path("sparse"), site.url("/echo"))
    equal(told["http_code"], 413)


@case("curl: an upstream's early 413 is seen, and the next request is answered")
def _(site):
    told = curl("--data-binary", f"@{upload(site, 50 << 20)}", "--write-out", "%{http_code}\n",
                site.url("/early"), "--next", "--silent", "--write-out", "%{http_code}\n",
                site.url("/files/hello"))
    equal(told, b"early413\nhello\n200\n")


@case("curl: 50 at a time")
def _(site):
    urls = [site.url(f"/asset/{number}") for number in range(200)]
    told = curl("--parallel", "--parallel-max", "50", "--write-out", "\n%{http_code}\n", *urls)
    equal(told.splitlines().count(b"200"), 200)


@case("curl: as its HTTP proxy, by absolute targets; tunnels are refused")
def _(site):
    proxy = ["--proxy", site.url("")]
    told = json.loads(curl(*proxy, "http://name.example/echo?a=b"))
    equal((told["target"], told["fields"]["host"]), ("/echo?a=b", "name.example"))
    told = run("curl", "--silent", *proxy, "--proxytunnel", "--write-out", "%{http_connect}",
               "http://name.example/echo", fails=True)
    equal(told.stdout, b"501")


@case("curl: an offer to upgrade to HTTP/2 is passed over")
def _(site):
    told = write_out(site, "--http2", site.url("/echo"))
    equal((told["http_code"], told["http_version"]), (200, "1.1"))


@case("curl: lines and events arrive one by one")
def _(site):
    for path in ("/drip/10", "/events/10"):
        told = write_out(site, "--no-buffer", site.url(path))
        holds(told["time_starttransfer"] < 0.5 < told["time_total"], told)


@case("curl: when it leaves, the upstream notices")
def _(site):
    run("curl", "--silent", "--max-time", "0.5", site.url("/endless"), fails=True)
    holds(site.origin.gone.wait(5))


@case("curl: each protocol before fusebox with each behind it")
def _(site):
    file = upload(site, 5_000_000)
    for url in site.ways():
        for version in ("--http1.1", "--http2", "--http2-prior-knowledge"):
            def ask(path, *arguments, version=version, url=url) -> bytes:
                return curl(version, "--cacert", site.authority, *arguments, f"{url}{path}")
            received(ask("/echo", "--upload-file", file), file, "PUT")
            received(ask("/echo", "--data-binary", f"@{file}"), file, "POST")
            equal(len(ask("/files/large")), 8 << 20)
            equal(ask("/drip/2"), b"line 0\nline 1\n")
            equal(ask("/until-close"), b"until close " * 1000)
            holds(b"HTTP/2 304" in (told := ask("/cached", "-i", "-H", 'if-none-match: "1"'))
                  or b"HTTP/1.1 304" in told, told)
            told = ask("/trailers", "--include")
            holds(b"some text" in told and b"digest: abc" in told, told)
            told = ask("/hints", "--include")
            holds(b" 103" in told and told.endswith(b"hinted"), told)


@case("curl: HTTP/2: uploads, downloads, 100 Continue, HEAD")
def _(site):
    def over_2(*arguments, **options) -> bytes:
        return curl("--http2-prior-knowledge", *arguments, **options)

    # Each on a connection of its own: curl 7.88 can't use one again that it has not negotiated.
    told = over_2("--write-out", "%{http_version}", site.url("/files/hello"))
    equal(told, b"hello\n2")
    file = upload(site, 20 << 20)
    received(over_2("--upload-file", file, site.url("/echo")), file, "PUT")
    received(over_2("--header", "expect: 100-continue", "--expect100-timeout", "20",
                    "--upload-file", file, site.url("/echo")), file, "PUT")
    pipe = upload(site, 3_000_001)
    with open(pipe, "rb") as content:
        told = received(over_2("--request", "POST", "-T", "-", site.url("/echo"), stdin=content),
                        pipe, "POST")
    equal(told["fields"].get("transfer-encoding"), "chunked")
    holds(b"content-length: 6" in over_2("--head", site.url("/files/hello")))
    part = site.path("part")
    over_2("--output", part, site.url("/files/large"))
    equal(part.stat().st_size, 8 << 20)
