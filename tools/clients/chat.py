"""A WebSocket server, on a free port.

| path | it |
|---|---|
| `/chat/echo` | says back what it is told |
| `/chat/close/N` | closes with the code N as soon as it is told anything |
| `/chat/vanish` | breaks off as soon as it is told anything |
| `/chat/refuse` | answers 403 to the handshake |
| `/chat/flaky` | answers 503 to every second handshake |
"""

import asyncio
import http
import threading

import websockets


class Chat:
    """The server, in a thread of its own."""

    def __init__(self):
        self.port = 0
        self.handshakes = 0
        # Why conversations ended, oldest first.
        self.ended: list[int] = []
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True).start()
        started.wait(10)

    async def _serve(self, started: threading.Event) -> None:
        server = await websockets.serve(self._talk, "127.0.0.1", 0, max_size=None,
                                        process_request=self._refuse)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await asyncio.Future()

    async def _refuse(self, path, _):
        self.handshakes += 1
        if path == "/chat/refuse":
            return http.HTTPStatus.FORBIDDEN, [], b"not you"
        if path == "/chat/flaky" and self.handshakes % 2:
            return http.HTTPStatus.SERVICE_UNAVAILABLE, [], b"not now"
        return None

    async def _talk(self, peer, path: str) -> None:
        try:
            async for message in peer:
                if path.startswith("/chat/close/"):
                    await peer.close(int(path.rpartition("/")[2]), "as asked")
                elif path == "/chat/vanish":
                    peer.transport.abort()
                else:
                    await peer.send(message)
        except websockets.ConnectionClosed:
            pass
        finally:
            await peer.wait_closed()
            self.ended.append(peer.close_code)
