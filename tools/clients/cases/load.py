"""wrk, h2load and ab."""

import re

from case import case, equal, holds, run


def number(pattern: str, told: bytes) -> int:
    """What the pattern finds."""
    found = re.search(pattern, told.decode())
    holds(found, told)
    return int(found[1])


@case("wrk: 100 connections, no error")
def _(site):
    told = run("wrk", "-t2", "-c100", "-d3s", site.url("/files/hello")).stdout
    holds(b"Socket errors" not in told and b"Non-2xx" not in told, told)
    holds(number(r"(\d+) requests in", told) > 1000, told)


@case("wrk: 16 requests at once on each connection, no error")
def _(site):
    script = site.path("pipelined.lua")
    script.write_text("init = function() local t = {} for i = 1, 16 do t[i] = wrk.format() end "
                      "all = table.concat(t) end request = function() return all end")
    told = run("wrk", "-t2", "-c20", "-d2s", "-s", script, site.url("/files/hello")).stdout
    holds(b"Socket errors" not in told and b"Non-2xx" not in told, told)


@case("wrk: uploads of 64 KiB, no error")
def _(site):
    script = site.path("upload.lua")
    script.write_text('wrk.method = "POST" wrk.body = string.rep("x", 65536)')
    told = run("wrk", "-t2", "-c20", "-d2s", "-s", script, site.url("/echo")).stdout
    holds(b"Socket errors" not in told and b"Non-2xx" not in told, told)


@case("h2load: HTTP/1.1, 1 and 8 requests at once")
def _(site):
    for at_once in (1, 8):
        told = run("h2load", "--h1", f"-m{at_once}", "-c50", "-n10000",
                   site.url("/files/hello")).stdout
        equal(number(r"(\d+) succeeded", told), 10000, f"{at_once} at once")


@case("h2load: HTTP/2, 1, 8 and 100 requests at once")
def _(site):
    for at_once in (1, 8, 100):
        told = run("h2load", f"-m{at_once}", "-c4", "-n10000", site.url("/files/hello")).stdout
        equal(number(r"(\d+) succeeded", told), 10000, f"{at_once} at once")


@case("h2load: HTTP/2, uploads of 100 KB, by both upstreams")
def _(site):
    body = site.path("h2load-body")
    body.write_bytes(b"x" * 100_000)
    for url in site.ways():
        told = run("h2load", "-m8", "-c10", "-n1000", "-d", body, f"{url}/echo").stdout
        equal(number(r"(\d+) succeeded", told), 1000, url)


@case("h2load: HTTP/1.1 and HTTP/2 towards an upstream over HTTP/2")
def _(site):
    for version in (["--h1"], []):
        told = run("h2load", *version, "-m32", "-c20", "-n10000",
                   site.over_http2("/files/hello")).stdout
        equal(number(r"(\d+) succeeded", told), 10000, version)


@case("nghttp: HTTP/2, 20 at once, padding, small windows, no table for headers")
def _(site):
    told = run("nghttp", "-nv", "-m20", "--padding=100", "--window-bits=15", "--header-table-size=0",
               site.url("/files/large")).stdout
    holds(b"RST_STREAM" not in told and b"error_code=NO_ERROR" in told, told[-2000:])


@case("ab: HTTP/1.0, with and without keep-alive")
def _(site):
    for keep, kept in (["-k"], 4000), ([], None):
        told = run("ab", "-q", *keep, "-n4000", "-c20", site.url("/files/hello")).stdout
        equal(number(r"Failed requests: +(\d+)", told), 0)
        equal(number(r"Complete requests: +(\d+)", told), 4000)
        holds(b"Non-2xx" not in told, told)
        if kept:
            equal(number(r"Keep-Alive requests: +(\d+)", told), kept)


@case("ab: uploads over HTTP/1.0 keep-alive")
def _(site):
    body = site.path("ab-body")
    body.write_bytes(b"x" * 20_000)
    told = run("ab", "-q", "-k", "-n500", "-c10", "-p", body, site.url("/echo")).stdout
    # It takes responses that differ in length for failures, and each has its own request id.
    equal(number(r"Complete requests: +(\d+)", told), 500)
    holds(b"Non-2xx" not in told, told)
