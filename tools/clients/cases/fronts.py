"""Proxies in front of fusebox, which keep connections to it for whoever asks."""

import hashlib
import json

from case import case, equal, holds, run
from servers import APACHE_MODULES, MODULE, free_port, program, wait_for

# Bodies and answers go on as they come.
NGINX = """
daemon off;
pid {root}/front.pid;
error_log {root}/front.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {root}/front-1;
    proxy_temp_path {root}/front-2;
    fastcgi_temp_path {root}/front-3;
    uwsgi_temp_path {root}/front-4;
    scgi_temp_path {root}/front-5;
    upstream fusebox {{ server 127.0.0.1:{fusebox}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://fusebox;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    http-reuse always
    retries 0
frontend all
    bind 127.0.0.1:{port}
    default_backend fusebox
backend fusebox
    server fusebox 127.0.0.1:{fusebox}
"""

# With `ping` it expects 100 Continue before each body.
APACHE = """
ServerRoot {root}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {root}/front-apache.pid
ErrorLog {root}/front-apache.log
User {user}
Group #{group}
{modules}
ProxyPass / http://127.0.0.1:{fusebox}/ ping=5 connectiontimeout=5
"""


def through(site, port: int) -> None:
    """Clients of a front get what they ask for."""
    url = f"http://127.0.0.1:{port}"
    # Not wrk: apache2 now and then closes a kept connection of its clients under load, whatever is
    # behind it, and curl asks once more.
    urls = [f"{url}/files/hello"] * 1000
    told = run("curl", "--silent", "--parallel", "--parallel-max", "50", *urls).stdout
    equal(told, b"hello\n" * 1000)
    body = site.path("front-body")
    body.write_bytes(b"x" * 5_000_000)
    digest = hashlib.sha256(body.read_bytes()).hexdigest()
    for fields in ["expect:"], ["transfer-encoding: chunked"], ["expect: 100-continue"]:
        headers = [part for field in fields for part in ("--header", field)]
        urls = [f"{url}/echo/{number}" for number in range(3)]
        told = run("curl", "--silent", *headers, "--write-out", "\n", "--data-binary",
                   f"@{body}", *urls).stdout
        equal([json.loads(line)["sha256"] for line in told.splitlines()], [digest] * 3, fields)
    told = run("curl", "--silent", f"{url}/until-close", f"{url}/trailers", f"{url}/cached",
               f"{url}/drip/2").stdout
    equal(told, b"until close " * 1000 + b"some text" + b"cached" + b"line 0\nline 1\n")
    told = run("curl", "--silent", "--head", "--header", 'if-none-match: "1"',
               f"{url}/files/hello", f"{url}/cached").stdout
    holds(b"200 OK" in told and b"304 Not Modified" in told, told)


@case("nginx in front, with kept connections")
def _(site):
    port = free_port()
    config = site.path("front-nginx.conf")
    config.write_text(NGINX.format(root=site.root, port=port, fusebox=site.port))
    site.start(program("nginx"), "-e", site.path("front.log"), "-c", config)
    wait_for("nginx", port)
    through(site, port)


@case("haproxy in front, with kept connections")
def _(site):
    port = free_port()
    config = site.path("front-haproxy.conf")
    config.write_text(HAPROXY.format(port=port, fusebox=site.port))
    site.start(program("haproxy"), "-db", "-f", config)
    wait_for("haproxy", port)
    through(site, port)


@case("apache2 in front, which expects 100 Continue")
def _(site):
    port = free_port()
    config = site.path("front-apache.conf")
    modules = [name for name in APACHE_MODULES if "dav" not in name and name != "cgid"]
    config.write_text(APACHE.format(
        root=site.root, port=port, fusebox=site.port, user=site.apache_user.pw_name,
        group=site.apache_user.pw_gid,
        modules="".join(map(MODULE.format, [*modules, "proxy", "proxy_http"]))))
    site.start(program("apache2"), "-d", site.root, "-f", config, "-DFOREGROUND")
    wait_for("apache2", port)
    through(site, port)
