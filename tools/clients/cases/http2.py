"""Upstreams over HTTP/2: nginx, apache2 and node, each behind a fusebox of its own."""

import hashlib
import json

from case import case, equal, holds, run
from servers import APACHE_MODULES, MODULE, free_port, program, until, wait_for

FUSEBOX = """
listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
workers = 1

[[routes]]
upstream = {{ url = "http://127.0.0.1:{port}", protocol = "http2" }}
"""

NGINX = """
daemon off;
pid {root}/back.pid;
error_log {root}/back.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 500;
    client_body_temp_path {root}/back-1;
    proxy_temp_path {root}/back-2;
    fastcgi_temp_path {root}/back-3;
    uwsgi_temp_path {root}/back-4;
    scgi_temp_path {root}/back-5;
    server {{ listen 127.0.0.1:{port} http2 backlog=1024; root {root}; }}
}}
"""

APACHE = """
ServerRoot {root}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {root}/back-apache.pid
ErrorLog {root}/back-apache.log
User {user}
Group #{group}
{modules}
Protocols h2c
DocumentRoot {root}
<Directory {root}/files>
    Require all granted
</Directory>
"""


def before(site, name: str, port: int) -> str:
    """The URL of a fusebox before an upstream at this port."""
    config, log = site.path(f"{name}.toml"), site.path(f"{name}.jsonl")
    config.write_text(FUSEBOX.format(port=port))
    with open(log, "wb") as lines:
        site.start(site.fusebox, "run", config, stdout=lines)

    def listening():
        lines = log.read_text("utf-8").splitlines(keepends=True)
        lines = [json.loads(line) for line in lines if line.endswith("\n")]
        return next((line["listen"] for line in lines if line["msg"] == "listening"), None)
    return f"http://{until('fusebox listens', listening)}"


def files(site, url: str) -> None:
    """Files come as they are, many at once, large ones, and those that are not there."""
    urls = [f"{url}/files/hello"] * 2000
    told = run("curl", "--silent", "--parallel", "--parallel-max", "50", *urls).stdout
    equal(told, b"hello\n" * 2000)
    large = hashlib.sha256((site.root / "files" / "large").read_bytes()).hexdigest()
    told = run("curl", "--silent", f"{url}/files/large").stdout
    equal(hashlib.sha256(told).hexdigest(), large)
    statuses = ["--output", "/dev/null", "--write-out", "%{http_code} "]
    told = run("curl", "--silent", "--head", *statuses, f"{url}/files/hello").stdout
    equal(told, b"200 ")
    told = run("curl", "--silent", *statuses, f"{url}/files/nothing").stdout
    equal(told, b"404 ")
    told = run("curl", "--silent", *statuses, "--range", "2-3", f"{url}/files/hello").stdout
    equal(told, b"206 ")
    told = run("curl", "--silent", *statuses, "--header",
               "if-modified-since: Fri, 31 Dec 2100 23:59:59 GMT", f"{url}/files/hello").stdout
    holds(told in (b"304 ", b"200 "), told)


@case("nginx as upstream over HTTP/2, which goes away after 500 requests")
def _(site):
    port = free_port()
    config = site.path("back-nginx.conf")
    config.write_text(NGINX.format(root=site.root, port=port))
    site.start(program("nginx"), "-e", site.path("back.log"), "-c", config)
    wait_for("nginx", port)
    files(site, before(site, "back-nginx", port))


@case("apache2 as upstream over HTTP/2")
def _(site):
    port = free_port()
    config = site.path("back-apache.conf")
    modules = [name for name in APACHE_MODULES if "dav" not in name and name != "cgid"]
    config.write_text(APACHE.format(
        root=site.root, port=port, user=site.apache_user.pw_name, group=site.apache_user.pw_gid,
        modules="".join(map(MODULE.format, [*modules, "http2"]))))
    site.start(program("apache2"), "-d", site.root, "-f", config, "-DFOREGROUND")
    wait_for("apache2", port)
    files(site, before(site, "back-apache", port))


NODE = """
const { createServer } = require("http2");
const { createHash } = require("crypto");

const server = createServer();
server.on("stream", (stream, headers) => {
    const hash = createHash("sha256");
    stream.on("data", (data) => hash.update(data));
    stream.on("end", () => {
        const { ":method": method, ":authority": authority, ":path": path } = headers;
        stream.additionalHeaders({ ":status": 103, link: "</a>" });
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "x-after": "1" }));
        stream.end(JSON.stringify({ method, authority, path, sha256: hash.digest("hex") }));
    });
    stream.on("error", () => {});
});
server.listen(Number(process.argv[2]), "127.0.0.1");
"""


@case("node as upstream over HTTP/2, with bodies, hints and trailers")
def _(site):
    port = free_port()
    script = site.path("back.js")
    script.write_text(NODE)
    site.start("node", script, port)
    wait_for("node", port)
    url = before(site, "back-node", port)
    body = site.path("back-body")
    body.write_bytes(b"x" * 5_000_000)
    digest = hashlib.sha256(body.read_bytes()).hexdigest()
    for fields in ["expect:"], ["transfer-encoding: chunked"], ["expect: 100-continue"]:
        headers = [part for field in fields for part in ("--header", field)]
        urls = [f"{url}/echo/{number}" for number in range(3)]
        told = run("curl", "--silent", *headers, "--write-out", "\n", "--data-binary",
                   f"@{body}", *urls).stdout
        told = [json.loads(line) for line in told.splitlines()]
        equal([(line["sha256"], line["path"]) for line in told],
              [(digest, f"/echo/{number}") for number in range(3)], fields)
        equal({line["authority"] for line in told}, {url.removeprefix("http://")})
    told = run("curl", "--silent", "--include", "--header", "te: trailers",
               "--header", "connection: te", f"{url}/").stdout
    holds(told.startswith(b"HTTP/1.1 103") and b"link: </a>" in told, told)
    holds(b"x-after: 1" in told, told)
