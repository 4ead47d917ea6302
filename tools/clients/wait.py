"""Waiting for servers, and where they are."""

import os
import shutil
import socket
import time

# The programs of servers are not in everybody's PATH.
PATH = f"{os.environ['PATH']}:/usr/sbin"


def program(name: str) -> str:
    """Where a server's program is."""
    return shutil.which(name, path=PATH) or name


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def connects(port: int) -> bool:
    """Whether somebody listens on it."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def until(what: str, condition, limit: float = 10):
    """Waits for a condition, and returns what it came to."""
    end = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)
    return found
