"""WebSocket through a route that names it: Python's websockets, node's ws, aiohttp, curl."""

import asyncio
import os
import time

import aiohttp
import websockets

from case import ENVIRONMENT, PROGRAMS, case, equal, holds, run
from wait import until


def url(site, path: str) -> str:
    """Of a conversation."""
    return site.url(path).replace("http:", "ws:")


def talk(site, path: str, conversation, **options) -> None:
    """Has a conversation."""
    async def within():
        async with websockets.connect(url(site, path), max_size=None, **options) as peer:
            await conversation(peer)
    asyncio.run(asyncio.wait_for(within(), 120))


def lines(site, path: str) -> list[dict]:
    """The access lines of a path."""
    return [line for line in site.access() if line["request"]["path"] == path]


@case("websockets: 100,000 small messages come back in order")
def _(site):
    count = 100_000

    async def conversation(peer):
        async def say():
            for number in range(count):
                await peer.send(str(number))
        saying = asyncio.create_task(say())
        for number in range(count):
            equal(await peer.recv(), str(number))
        await saying
    talk(site, "/chat/echo", conversation, compression=None)


@case("websockets: messages of 10 MB come back, compressed and not")
def _(site):
    data = os.urandom(10 << 20)

    async def conversation(peer):
        for message in (data, data.hex()[:10 << 20], b"", data):
            await peer.send(message)
            holds(await peer.recv() == message, "another message")
    for compression in ("deflate", None):
        talk(site, "/chat/echo", conversation, compression=compression)


@case("websockets: pings are answered, a close has its code and reason on both sides")
def _(site):
    async def pings(peer):
        for _ in range(100):
            await asyncio.wait_for(await peer.ping(), 10)
        await peer.close(4002, "enough")
    site.chat.ended.clear()
    talk(site, "/chat/echo", pings)
    until("the server knows", lambda: 4002 in site.chat.ended)

    async def closed(peer):
        await peer.send("close")
        await peer.wait_closed()
        equal((peer.close_code, peer.close_reason), (4001, "as asked"))
    talk(site, "/chat/close/4001", closed)


@case("websockets: whoever vanishes, the other side knows")
def _(site):
    async def server_vanishes(peer):
        await peer.send("vanish")
        await peer.wait_closed()
        equal(peer.close_code, 1006)
    talk(site, "/chat/vanish", server_vanishes)

    async def client_vanishes(peer):
        await peer.send("still here")
        equal(await peer.recv(), "still here")
        peer.transport.abort()
    site.chat.ended.clear()
    talk(site, "/chat/echo", client_vanishes)
    until("the server knows", lambda: 1006 in site.chat.ended)


@case("websockets: a handshake that fails is retried, one that is refused is not")
def _(site):
    async def echo(peer):
        await peer.send("hello")
        equal(await peer.recv(), "hello")
    for _ in range(4):
        talk(site, "/chat/flaky", echo)
    try:
        talk(site, "/chat/refuse", echo)
    except websockets.InvalidStatusCode as refused:
        equal(refused.status_code, 403)
    else:
        raise AssertionError("it was not refused")
    until("the lines are there", lambda: lines(site, "/chat/refuse"))
    equal({line["attempts"] for line in lines(site, "/chat/refuse")}, {1})
    holds(2 in {line["attempts"] for line in lines(site, "/chat/flaky")})


@case("websockets: 200 conversations at once, each with its access line at its end")
def _(site):
    path = "/chat/echo"
    known = len(lines(site, path))

    async def everything():
        async def one(number):
            async with websockets.connect(f"{url(site, path)}") as peer:
                for round_ in range(20):
                    await peer.send(f"{number} {round_}")
                    equal(await peer.recv(), f"{number} {round_}")
                    await asyncio.sleep(0.01)
        await asyncio.gather(*map(one, range(200)))
    begin = time.monotonic()
    asyncio.run(everything())
    until("all lines are there", lambda: len(lines(site, path)) == known + 200)
    told = lines(site, path)[known:]
    equal({line["response"]["status"] for line in told}, {101})
    holds(all(line["request"]["length"] > 0 and line["response"]["length"] > 0 for line in told))
    holds(time.monotonic() - begin < 60)


@case("aiohttp: text, binary and a close over a kept client's session")
def _(site):
    async def everything():
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.ws_connect(site.url("/chat/echo"), compress=15) as peer:
                    await peer.send_json({"a": [1] * 1000})
                    equal(await peer.receive_json(), {"a": [1] * 1000})
                    await peer.send_bytes(b"\0" * 100_000)
                    equal(await peer.receive_bytes(), b"\0" * 100_000)
    asyncio.run(everything())


@case("ws: text, binary, fragments, pings, compression, close codes, a stream")
def _(site):
    node = {**ENVIRONMENT, "NODE_PATH": "/usr/share/nodejs"}
    run("node", PROGRAMS / "ws.cjs", url(site, "/chat"), env=node)


@case("ws: where no route names it, the handshake is a plain request")
def _(site):
    node = {**ENVIRONMENT, "NODE_PATH": "/usr/share/nodejs"}
    run("node", PROGRAMS / "ws.cjs", url(site, "/echo"), "refused", env=node)
