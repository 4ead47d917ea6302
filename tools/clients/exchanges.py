"""What curl gets of any server through fusebox, whatever is between them."""

import hashlib
import json

from case import equal, holds, run


def curl(*arguments) -> bytes:
    """What curl prints."""
    return run("curl", "--silent", *arguments).stdout


def small(url: str, count: int) -> None:
    """A small file again and again, 50 at once."""
    # Not wrk: apache2 now and then closes a kept connection of its clients under load, whatever is
    # behind it, and curl asks once more.
    told = curl("--parallel", "--parallel-max", "50", *[f"{url}/files/hello"] * count)
    equal(told, b"hello\n" * count)


def files(site, url: str) -> None:
    """Files come as they are, many at once, large ones, and those that are not there."""
    small(url, 2000)
    large = (site.root / "files" / "large").read_bytes()
    holds(curl(f"{url}/files/large") == large, "another file")
    statuses = ["--output", "/dev/null", "--write-out", "%{http_code} "]
    equal(curl("--head", *statuses, f"{url}/files/hello"), b"200 ")
    equal(curl(*statuses, f"{url}/files/nothing"), b"404 ")
    equal(curl(*statuses, "--range", "2-3", f"{url}/files/hello"), b"206 ")
    told = curl(*statuses, "--header", "if-modified-since: Fri, 31 Dec 2100 23:59:59 GMT",
                f"{url}/files/hello")
    holds(told in (b"304 ", b"200 "), told)


def uploads(site, url: str) -> list[dict]:
    """Bodies arrive whole, by each way to send them. Returns what the server was told."""
    body = site.path("exchanged")
    body.write_bytes(b"x" * 5_000_000)
    digest = hashlib.sha256(body.read_bytes()).hexdigest()
    seen = []
    for fields in ["expect:"], ["transfer-encoding: chunked"], ["expect: 100-continue"]:
        headers = [part for field in fields for part in ("--header", field)]
        urls = [f"{url}/echo/{number}" for number in range(3)]
        told = curl(*headers, "--write-out", "\n", "--data-binary", f"@{body}", *urls)
        told = [json.loads(line) for line in told.splitlines()]
        holds(all("sha256" in line for line in told), told)
        equal([(line["method"], line["target"], line["sha256"]) for line in told],
              [("POST", f"/echo/{number}", digest) for number in range(3)], fields)
        seen += told
    return seen
