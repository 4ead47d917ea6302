"""grpc-js, node's gRPC."""

from calls import calls
from case import ENVIRONMENT, INSTALLED, PROGRAMS, case, run


@case("grpc-js: calls and streams of all kinds, 1,000 at once, status, retries, deadline, cancelling")
def _(site):
    env = {**ENVIRONMENT, "NODE_PATH": str(INSTALLED / "node_modules")}
    ports = calls(site).ports
    run("node", PROGRAMS / "grpc.cjs", f"127.0.0.1:{ports['plain']}", env=env)
    run("node", PROGRAMS / "grpc.cjs", f"localhost:{ports['tls']}", site.authority, env=env)
