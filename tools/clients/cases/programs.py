"""Clients of other languages: a program for each, in `programs`, which is given fusebox's URL."""

import shutil

from case import ENVIRONMENT, INSTALLED, PROGRAMS, Missing, case, holds, run


def trusting(site) -> dict[str, str]:
    """The environment in which node trusts the certificate."""
    return {**ENVIRONMENT, "NODE_EXTRA_CA_CERTS": str(site.authority)}


@case("node: http with an agent, 100 Continue, trailers, fetch")
def _(site):
    run("node", PROGRAMS / "node.mjs", site.url(""))


@case("node: http2, 200 at once, trailers, hints, a stream that is left, by both upstreams")
def _(site):
    for url in site.ways():
        run("node", PROGRAMS / "http2.cjs", url, env=trusting(site))
        holds(site.origin.gone.wait(5), "the upstream does not notice")
        site.origin.gone.clear()


@case("undici: over HTTP/2, with TLS and without, by both upstreams")
def _(site):
    # Debian's knows no HTTP/2.
    env = {**trusting(site), "NODE_PATH": str(INSTALLED / "node_modules")}
    for url in site.ways():
        run("node", PROGRAMS / "undici-http2.cjs", url, env=env)


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
