"""Proxies in front of fusebox, which keep connections to it for whoever asks."""

from case import case, equal, holds
from exchanges import curl, small, uploads
from wait import free_port, program
from web import start_apache, start_nginx

# Bodies and answers go on as they come.
NGINX = """
    client_max_body_size 0;
    upstream fusebox {{ server 127.0.0.1:{fusebox}; keepalive 32; }}
    server {{
        listen 127.0.0.1:@PORT backlog=1024;
        location / {{
            proxy_pass http://fusebox;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
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
APACHE = "ProxyPass / http://127.0.0.1:{fusebox}/ ping=5 connectiontimeout=5"


def through(site, port: int) -> None:
    """Clients of a front get what they ask for."""
    url = f"http://127.0.0.1:{port}"
    small(url, 1000)
    uploads(site, url)
    told = curl(f"{url}/until-close", f"{url}/trailers", f"{url}/cached", f"{url}/drip/2")
    equal(told, b"until close " * 1000 + b"some text" + b"cached" + b"line 0\nline 1\n")
    told = curl("--head", "--header", 'if-none-match: "1"', f"{url}/files/hello", f"{url}/cached")
    holds(b"200 OK" in told and b"304 Not Modified" in told, told)


@case("nginx in front, with kept connections")
def _(site):
    through(site, start_nginx(site, "front-nginx", NGINX.format(fusebox=site.port)))


@case("haproxy in front, with kept connections")
def _(site):
    port = free_port()
    config = site.path("front-haproxy.conf")
    config.write_text(HAPROXY.format(port=port, fusebox=site.port))
    site.serve("front-haproxy", port, program("haproxy"), "-db", "-f", config)
    through(site, port)


@case("apache2 in front, which expects 100 Continue")
def _(site):
    through(site, start_apache(site, "front-apache", ["proxy", "proxy_http"],
                               APACHE.format(fusebox=site.port)))
