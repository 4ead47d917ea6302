"""fusebox in front of nginx, apache2, a WebSocket server and the recording origin, on loopback."""

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from case import ENVIRONMENT, run
from chat import Chat
from origin import Origin
from wait import connects, until
from web import start_apache, start_nginx

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

# In front of the other one, which keeps the log: over TLS, and one that asks it over HTTP/2.
IN_FRONT = """
listen = "127.0.0.1:0"
listener.max_body = "100MiB"
admin.listen = "127.0.0.1:0"
{tls}

[[routes]]
upstream = {{ url = "http://127.0.0.1:{fusebox}", protocol = "{protocol}" }}
"""

TLS = 'listener.tls.certificates = [{ cert = "localhost.pem", key = "localhost.key" }]'

# Of git and of the WebDAV test suite.
APACHE = """
ScriptSock @ROOT/cgi.sock
DAVLockDB @ROOT/locks/dav
AcceptPathInfo on
Alias /dav @ROOT/dav
<Directory @ROOT/dav>
    Dav on
</Directory>
SetEnv GIT_PROJECT_ROOT @ROOT/repositories
SetEnv GIT_HTTP_EXPORT_ALL 1
ScriptAlias /git {backend}
"""


class Site:
    """All servers; they end with it."""

    def __init__(self, fusebox: str):
        # Apache's processes, which are not ours, write below it.
        self.root = Path(tempfile.mkdtemp(prefix="fusebox-clients-"))
        self.root.chmod(0o755)
        self.processes: list[subprocess.Popen] = []
        self.origin, self.chat = Origin(), Chat()
        self.apache_user = owner()
        self.fusebox = fusebox

    def __enter__(self):
        try:
            self._start_nginx()
            self._start_apache()
            self._start_fusebox()
            self._start_in_front()
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

    def over_http2(self, path: str) -> str:
        """Of fusebox that asks its upstream over HTTP/2: the other one."""
        return f"http://127.0.0.1:{self.over_http2_port}{path}"

    def ways(self) -> list[str]:
        """URLs of all three, which differ in what is spoken before and behind fusebox."""
        return [self.url(""), self.over_http2(""), self.secured("")]

    def log(self, name: str = "fusebox") -> list[dict]:
        """fusebox's lines so far, without its warnings of the configuration."""
        text = (self.root / f"{name}.log").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True)
                if line.startswith("{") and line.endswith("\n")]

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

    def start(self, *command, stdout=subprocess.DEVNULL, env=None) -> subprocess.Popen:
        """Starts a server, which ends with the site."""
        process = subprocess.Popen([str(part) for part in command], stdout=stdout,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=env or ENVIRONMENT)
        self.processes.append(process)
        return process

    def serve(self, name: str, port: int, *command, env=None) -> subprocess.Popen:
        """The same, once it listens on this port."""
        said = self.path(f"{name}.out")
        with open(said, "wb") as out:
            process = self.start(*command, stdout=out, env=env)

        def listens() -> bool:
            if process.poll() is not None:
                told = said.read_text("utf-8", "replace")
                raise AssertionError(f"{name} has ended with {process.poll()}: {told[-1500:]}")
            return connects(port)
        until(f"{name} listens", listens)
        return process

    def _start_nginx(self) -> None:
        files = self.root / "files"
        files.mkdir()
        (files / "hello").write_bytes(b"hello\n")
        (files / "large").write_bytes(os.urandom(1 << 20) * 8)
        self.nginx = start_nginx(self, "nginx", """
            keepalive_requests 1000000;
            server { listen 127.0.0.1:@PORT backlog=1024; root @ROOT; }
        """)

    def _start_apache(self) -> None:
        for name in ("dav", "locks", "repositories"):
            (self.root / name).mkdir()
            os.chown(self.root / name, self.apache_user.pw_uid, self.apache_user.pw_gid)
        backend = Path(run("git", "--exec-path").stdout.decode().strip()) / "git-http-backend"
        self.apache = start_apache(self, "apache", ["alias", "env", "cgid", "dav", "dav_fs"],
                                   APACHE.format(backend=backend))

    def _start_fusebox(self) -> None:
        listening = self.start_fusebox("fusebox", FUSEBOX.format(
            nginx=self.nginx, apache=self.apache, chat=self.chat.port, origin=self.origin.port))
        self.port, self.admin = port_of(listening), listening["admin"]

    def _start_in_front(self) -> None:
        self.authority = self.root / "localhost.pem"
        # Its own would make an authority of it, which fusebox does not take for a server.
        config = self.root / "openssl.conf"
        config.write_text("[req]\ndistinguished_name = name\n[name]\n")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "1000", "-subj", "/CN=localhost", "-config", config,
            "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
            "-keyout", self.root / "localhost.key", "-out", self.authority)
        def start(name: str, tls: str, protocol: str) -> int:
            config = IN_FRONT.format(tls=tls, fusebox=self.port, protocol=protocol)
            return port_of(self.start_fusebox(name, config))
        self.secured_port = start("secured", TLS, "http1")
        self.over_http2_port = start("over-http2", "", "http2")

    def start_fusebox(self, name: str, configuration: str, environment=()) -> dict:
        """Starts another one, and returns the line that says where it listens."""
        config = self.root / f"{name}.toml"
        config.write_text(configuration)
        with open(self.root / f"{name}.log", "wb") as log:
            self.start(self.fusebox, "run", config, stdout=log,
                       env={**ENVIRONMENT, **dict(environment)})
        return until("fusebox listens", lambda: self._listening(name))

    def _listening(self, name: str) -> dict | None:
        if self.processes[-1].poll() is not None:
            told = (self.root / f"{name}.log").read_text("utf-8", "replace")
            raise AssertionError(f"fusebox has ended: {told}")
        return next((line for line in self.log(name) if line["msg"] == "listening"), None)


def owner() -> pwd.struct_passwd:
    """Whom apache2 runs as, which does not run as root."""
    return pwd.getpwnam("www-data") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


def port_of(listening: dict) -> int:
    """Where fusebox listens, by its line."""
    return int(listening["listen"].rpartition(":")[2])
