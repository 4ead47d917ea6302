"""Python's clients: http.client, requests, httpx, aiohttp."""

import asyncio
import hashlib
import http.client
import json
import os
import time

import aiohttp
import httpx
import requests

from case import case, equal, holds

DATA = os.urandom(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def parts():
    """The data, in parts of many lengths."""
    at, size = 0, 1
    while at < len(DATA):
        yield DATA[at:at + size]
        at, size = at + size, size * 2


async def parts_later():
    """The same, each a moment later."""
    for part in parts():
        await asyncio.sleep(0.005)
        yield part


@case("http.client: one connection: GET, HEAD, POST, chunks, 304, 404")
def _(site):
    client = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)

    def ask(*request, **more) -> tuple[int, bytes]:
        client.request(*request, **more)
        response = client.getresponse()
        return response.status, response.read()

    client.connect()
    socket = client.sock
    for _ in range(3):
        equal(ask("GET", "/files/hello"), (200, b"hello\n"))
        equal(ask("HEAD", "/files/hello"), (200, b""))
        equal(json.loads(ask("POST", "/echo", DATA)[1])["sha256"], DIGEST)
        equal(json.loads(ask("POST", "/echo", parts(), encode_chunked=True)[1])["sha256"], DIGEST)
        equal(ask("GET", "/cached", headers={"if-none-match": '"1"'}), (304, b""))
        equal(ask("GET", "/files/none")[0], 404)
        equal(ask("GET", "/trailers"), (200, b"some text"))
    holds(client.sock is socket, "another connection")
    client.close()


@case("requests: a session: JSON, chunks, a form in parts, a stream")
def _(site):
    with requests.Session() as session:
        session.trust_env = False
        told = session.post(site.url("/echo"), json={"a": 1}, timeout=30).json()
        equal(told["length"], 8)
        equal(session.put(site.url("/echo"), data=parts(), timeout=30).json()["sha256"], DIGEST)
        form = session.post(site.url("/echo"), files={"file": DATA}, timeout=30).json()
        holds(form["length"] > len(DATA), form)
        with session.get(site.url("/drip/5"), stream=True, timeout=30) as response:
            equal(list(response.iter_lines()), [b"line %d" % n for n in range(5)])
        equal(session.head(site.url("/files/large"), timeout=30).headers["content-length"],
              str(8 << 20))


@case("httpx: 50 at a time, uploads in chunks")
def _(site):
    async def everything():
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            got = await asyncio.gather(*(client.get(site.url(f"/asset/{n}")) for n in range(200)))
            equal([answer.text for answer in got], [str(n) * 5000 for n in range(200)])
            posts = (client.post(site.url("/echo"), content=parts_later()) for _ in range(20))
            told = [answer.json() for answer in await asyncio.gather(*posts)]
            equal({one["sha256"] for one in told}, {DIGEST})
            async with client.stream("GET", site.url("/events/5")) as events:
                lines = [line.strip() async for line in events.aiter_lines()]
                equal(lines, [line for n in range(5) for line in (f"data: {n}", "")])
    asyncio.run(everything())


@case("httpx: over HTTP/2, with TLS and without, by both upstreams")
def _(site):
    async def everything(url):
        async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=30,
                                     verify=str(site.authority)) as client:
            got = await asyncio.gather(*(client.get(f"{url}/asset/{n}") for n in range(200)))
            equal([answer.text for answer in got], [str(n) * 5000 for n in range(200)])
            equal({answer.http_version for answer in got}, {"HTTP/2"})
            posts = (client.post(f"{url}/echo", content=parts_later()) for _ in range(20))
            told = [answer.json() for answer in await asyncio.gather(*posts)]
            equal({one["sha256"] for one in told}, {DIGEST})
            async with client.stream("GET", f"{url}/events/5") as events:
                lines = [line.strip() async for line in events.aiter_lines()]
                equal(lines, [line for n in range(5) for line in (f"data: {n}", "")])
            equal((await client.get(f"{url}/files/none")).status_code, 404)
            equal((await client.head(f"{url}/files/hello")).headers["content-length"], "6")
            # It does not reset a stream that it leaves, so the others of its connection go on
            # beside that until it ends.
            async with client.stream("GET", f"{url}/endless") as events:
                equal((await anext(events.aiter_lines())).strip(), "data: x")
            equal((await client.get(f"{url}/files/hello")).text, "hello\n")
    for url in site.ways():
        site.origin.gone.clear()
        asyncio.run(everything(url))
        holds(site.origin.gone.wait(5), "the upstream does not notice")


@case("aiohttp: 50 at a time, 100 Continue, chunks, a stream that is left")
def _(site):
    async def everything():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as client:
            async def get(number):
                async with client.get(site.url(f"/asset/{number}")) as answer:
                    return await answer.text()
            equal(await asyncio.gather(*map(get, range(200))), [str(n) * 5000 for n in range(200)])
            for expect in (False, True):
                begin = time.monotonic()
                async with client.post(site.url("/echo"), data=parts_later(),
                                       expect100=expect) as answer:
                    equal((await answer.json())["sha256"], DIGEST)
                holds(time.monotonic() - begin < 10)
            site.origin.gone.clear()
            async with client.get(site.url("/endless")) as events:
                equal(await events.content.readline(), b"data: x\n")
            async with client.get(site.url("/files/large")) as answer:
                equal(len(await answer.read()), 8 << 20)
    asyncio.run(everything())
    holds(site.origin.gone.wait(5))
