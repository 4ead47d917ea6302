"""A module for each kind of client; they are asked in this order."""

from cases import (  # noqa: F401
    curl, tls, python, programs, websocket, git, apt, webdav, browser, log, load, fronts, upstreams,
    grpcio, grpcjs, example, lint, testssl)
