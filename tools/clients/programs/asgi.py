"""An application for Python's servers: it says back what it was asked, and more by path."""

import asyncio
import hashlib
import json


async def talk(scope, receive, send) -> None:
    """A WebSocket: it says back what it is told, by which version of HTTP it came, and ends."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 4002})
            return
        if text == "version":
            text = f"version {scope['http_version']}"
        said = {"bytes": event["bytes"]} if text is None else {"text": text}
        await send({"type": "websocket.send", **said})


async def app(scope, receive, send) -> None:
    """ASGI."""
    if scope["type"] == "websocket":
        await talk(scope, receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    digest, length, more = hashlib.sha256(), 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        digest.update(event.get("body", b""))
        length += len(event.get("body", b""))
        more = event.get("more_body", False)
    path = scope["path"]
    status = 500 if path == "/fails" else 200
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", b"text/plain")]})
    if path == "/drip":
        for line in range(20):
            await send({"type": "http.response.body", "body": b"line %d\n" % line,
                        "more_body": True})
            await asyncio.sleep(0.005)
        body = b""
    elif path == "/large":
        body = b"x" * 1_000_000
    else:
        body = json.dumps({
            "method": scope["method"], "target": path, "version": scope["http_version"],
            "sha256": digest.hexdigest(), "length": length}).encode()
    await send({"type": "http.response.body", "body": body})
