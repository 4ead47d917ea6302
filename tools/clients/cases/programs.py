"""Clients of other languages: a program for each, in `programs`, which is given fusebox's URL."""

import shutil
from pathlib import Path

from case import ENVIRONMENT, Missing, case, run

PROGRAMS = Path(__file__).parents[1] / "programs"


@case("node: http with an agent, 100 Continue, trailers, fetch")
def _(site):
    run("node", PROGRAMS / "node.mjs", site.url(""))


@case("undici: 10 requests at once on a connection")
def _(site):
    # Where Debian's packages are.
    node = {**ENVIRONMENT, "NODE_PATH": "/usr/share/nodejs"}
    run("node", PROGRAMS / "undici.cjs", site.url(""), env=node)


@case("go: net/http, 50 at a time, 100 Continue, trailers, an early answer")
def _(site):
    go = {**ENVIRONMENT, "GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "",
          "GOCACHE": str(site.path("go")), "HOME": str(site.root)}
    run("go", "run", PROGRAMS / "client.go", site.url(""), env=go)


@case("java: java.net.http, which offers HTTP/2")
def _(site):
    if not shutil.which("javac"):
        raise Missing("javac")
    run("java", PROGRAMS / "Client.java", site.url(""))
