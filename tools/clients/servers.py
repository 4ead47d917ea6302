"""fusebox in front of nginx, apache2, a WebSocket server and the recording origin, on loopback."""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from case import ENVIRONMENT, run
from chat import Chat
from origin import Origin

# The programs of servers are not in everybody's PATH.
PATH = f"{os.environ['PATH']}:/usr/sbin"

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# What a request's body may have.
MAX_BODY = 100 << 20

FUSEBOX = """
listen = "127.0.0.1:0"
listener.max_body = "100MiB"
admin.listen = "127.0.0.1:0"

[policies.retry]
kind = "retry"

[[routes]]
name = "files"
path = "/files"
upstream = "http://127.0.0.1:{nginx}"

[[routes]]
name = "apache"
path = "/git"
upstream = "http://127.0.0.1:{apache}"

[[routes]]
name = "dav"
path = "/dav"
upstream = "http://127.0.0.1:{apache}"

[[routes]]
name = "chat"
path = "/chat"
upstream = "http://127.0.0.1:{chat}"
upgrades = ["websocket"]
policies = ["retry"]

[[routes]]
name = "origin"
upstream = "http://127.0.0.1:{origin}"
policies = ["retry"]
"""

# The same over TLS: in front of the other one, which keeps the log.
SECURED = """
listen = "127.0.0.1:0"
listener.max_body = "100MiB"
admin.listen = "127.0.0.1:0"

[listener.tls]
certificates = [{{ cert = "localhost.pem", key = "localhost.key" }}]

[[routes]]
upstream = "http://127.0.0.1:{fusebox}"
"""

NGINX = """
daemon off;
pid {root}/nginx.pid;
error_log {root}/nginx.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {root}/nginx-1;
    proxy_temp_path {root}/nginx-2;
    fastcgi_temp_path {root}/nginx-3;
    uwsgi_temp_path {root}/nginx-4;
    scgi_temp_path {root}/nginx-5;
    server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}
}}
"""

APACHE = """
ServerRoot {root}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {root}/apache.pid
ErrorLog {root}/apache.log
User {user}
Group #{group}
{modules}
ScriptSock {root}/cgi.sock
DAVLockDB {root}/locks/dav
AcceptPathInfo on
Alias /dav {root}/dav
<Directory {root}/dav>
    Dav on
</Directory>
SetEnv GIT_PROJECT_ROOT {root}/repositories
SetEnv GIT_HTTP_EXPORT_ALL 1
ScriptAlias /git {backend}
"""

MODULE = "LoadModule {0}_module /usr/lib/apache2/modules/mod_{0}.so\n"

APACHE_MODULES = ["mpm_event", "authz_core", "alias", "env", "cgid", "dav", "dav_fs"]


class Site:
    """All servers; they end with it."""

    def __init__(self, fusebox: str):
        # Apache's processes, which are not ours, write below it.
        self.root = Path(tempfile.mkdtemp(prefix="fusebox-clients-"))
        self.root.chmod(0o755)
        self.processes: list[subprocess.Popen] = []
        self.origin, self.chat = Origin(), Chat()
        self.nginx, self.apache = free_port(), free_port()
        self.fusebox = fusebox

    def __enter__(self):
        try:
            self._start_nginx()
            self._start_apache()
            self._start_fusebox()
            self._start_secured()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.root)

    def url(self, path: str) -> str:
        """Of fusebox."""
        return f"http://127.0.0.1:{self.port}{path}"

    def secured(self, path: str) -> str:
        """Of fusebox that speaks TLS, with a certificate that is `site.authority`."""
        return f"https://localhost:{self.secured_port}{path}"

    def log(self, name: str = "fusebox") -> list[dict]:
        """fusebox's lines so far."""
        text = (self.root / f"{name}.log").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def access(self) -> list[dict]:
        """Of those the access lines."""
        return [line for line in self.log() if "request" in line and "response" in line]

    def refused(self) -> dict[str, int]:
        """How many requests were refused, by reason."""
        with DIRECT.open(f"http://{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        lines = re.findall(r'^fusebox_requests_refused_total{.*reason="([^"]*)".*} (\d+)$', text,
                           re.MULTILINE)
        return {reason: int(count) for reason, count in lines if count != "0"}

    def path(self, name: str) -> Path:
        """A file of a client's."""
        return self.root / name

    def start(self, *command, stdout=subprocess.DEVNULL) -> None:
        """Starts a server, which ends with the site."""
        process = subprocess.Popen([str(part) for part in command], stdout=stdout,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=ENVIRONMENT)
        self.processes.append(process)

    def _start_nginx(self) -> None:
        files = self.root / "files"
        files.mkdir()
        (files / "hello").write_bytes(b"hello\n")
        (files / "large").write_bytes(os.urandom(1 << 20) * 8)
        config = self.root / "nginx.conf"
        config.write_text(NGINX.format(root=self.root, port=self.nginx))
        self.start(program("nginx"), "-e", self.root / "nginx.log", "-c", config)
        wait_for("nginx", self.nginx)

    def _start_apache(self) -> None:
        user = pwd.getpwnam("www-data") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        for name in ("dav", "locks", "repositories"):
            (self.root / name).mkdir()
            os.chown(self.root / name, user.pw_uid, user.pw_gid)
        config = self.root / "apache.conf"
        modules = "".join(map(MODULE.format, APACHE_MODULES))
        backend = Path(run("git", "--exec-path").stdout.decode().strip()) / "git-http-backend"
        config.write_text(APACHE.format(root=self.root, port=self.apache, user=user.pw_name,
                                        group=user.pw_gid, modules=modules, backend=backend))
        self.apache_user = user
        self.start(program("apache2"), "-d", self.root, "-f", config, "-DFOREGROUND")
        wait_for("apache2", self.apache)

    def _start_fusebox(self) -> None:
        listening = self._start("fusebox", FUSEBOX.format(
            nginx=self.nginx, apache=self.apache, chat=self.chat.port, origin=self.origin.port))
        self.port, self.admin = int(listening["listen"].rpartition(":")[2]), listening["admin"]

    def _start_secured(self) -> None:
        self.authority = self.root / "localhost.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "1000", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
            "-keyout", self.root / "localhost.key", "-out", self.authority)
        listening = self._start("secured", SECURED.format(fusebox=self.port))
        self.secured_port = int(listening["listen"].rpartition(":")[2])

    def _start(self, name: str, configuration: str) -> dict:
        config = self.root / f"{name}.toml"
        config.write_text(configuration)
        with open(self.root / f"{name}.log", "wb") as log:
            self.start(self.fusebox, "run", config, stdout=log)
        return until("fusebox listens", lambda: self._listening(name))

    def _listening(self, name: str) -> dict | None:
        if self.processes[-1].poll() is not None:
            told = (self.root / f"{name}.log").read_text("utf-8", "replace")
            raise AssertionError(f"fusebox has ended: {told}")
        return next((line for line in self.log(name) if line["msg"] == "listening"), None)


def program(name: str) -> str:
    """Where a server's program is."""
    return shutil.which(name, path=PATH) or name


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(name: str, port: int) -> None:
    """Until somebody listens."""
    def connects():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0
    until(f"{name} listens", connects)


def until(what: str, condition, limit: float = 10):
    """Waits for a condition, and returns what it came to."""
    end = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)
    return found
