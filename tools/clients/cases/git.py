"""git over HTTP, with `git http-backend` behind apache2."""

import os
import shutil
from pathlib import Path

from case import ENVIRONMENT, case, equal, holds, run


class Work:
    """A repository on the server, and what a user has of it."""

    def __init__(self, site, name: str):
        self.site, self.name = site, name
        self.bare = site.root / "repositories" / name
        home = site.path("home")
        home.mkdir(exist_ok=True)
        self.environment = {
            **ENVIRONMENT, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a.example",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@a.example"}
        self.git("init", "--quiet", "--bare", self.bare)
        self.git("-C", self.bare, "config", "http.receivepack", "true")
        for path in [self.bare, *self.bare.rglob("*")]:
            shutil.chown(path, site.apache_user.pw_uid, site.apache_user.pw_gid)
        self.local = site.path(f"local-{name}")
        self.git("clone", "--quiet", site.url(f"/git/{name}"), self.local)

    def git(self, *arguments) -> str:
        """Runs git."""
        return run("git", *arguments, env=self.environment).stdout.decode().strip()

    def commit(self, size: int) -> str:
        """Commits a file of so many bytes that no compression makes fewer."""
        Path(self.local / f"file-{size}").write_bytes(os.urandom(size))
        self.git("-C", self.local, "add", ".")
        self.git("-C", self.local, "commit", "--quiet", "--message", "one")
        return self.git("-C", self.local, "rev-parse", "HEAD")

    def traced(self, *arguments) -> str:
        """Runs git, and returns the heads that it sent and got."""
        trace = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}
        told = run("git", *arguments, env={**self.environment, **trace})
        return told.stderr.decode("utf-8", "replace").lower()

    def arrives(self, commit: str, *options) -> str:
        """A push brings the commit to the server, and a clone has it. Returns the push's heads."""
        heads = self.traced(*options, "-C", self.local, "push", "--quiet", "origin",
                            "HEAD:refs/heads/main")
        clone = self.site.path(f"clone-{self.name}-{commit}")
        self.git("clone", "--quiet", "--branch", "main", self.site.url(f"/git/{self.name}"), clone)
        equal(self.git("-C", clone, "rev-parse", "HEAD"), commit)
        self.git("-C", clone, "fsck", "--strict")
        shutil.rmtree(clone)
        return heads


@case("git: a small push, and a clone")
def _(site):
    work = Work(site, "small")
    work.arrives(work.commit(1000))


@case("git: a push of 10 MB in chunks, and a clone")
def _(site):
    work = Work(site, "large")
    heads = work.arrives(work.commit(10 << 20), "-c", "http.postBuffer=65536")
    holds("=> send header: transfer-encoding: chunked" in heads, heads[-2000:])


@case("git: a push of 10 MB with its length")
def _(site):
    work = Work(site, "whole")
    heads = work.arrives(work.commit(10 << 20), "-c", "http.postBuffer=67108864")
    holds("=> send header: content-length: 104" in heads, heads[-2000:])


@case("git: a fetch whose request is compressed")
def _(site):
    work = Work(site, "tags")
    commits = [work.commit(size) for size in range(1, 60)]
    for index, commit in enumerate(commits):
        work.git("-C", work.local, "tag", f"tag-{index}", commit)
    work.git("-C", work.local, "push", "--quiet", "--tags", "origin", "HEAD:refs/heads/main")
    clone = site.path("clone-tags")
    heads = work.traced("-c", "protocol.version=0", "clone", "--quiet", "--branch", "main",
                        site.url("/git/tags"), clone)
    holds("=> send header: content-encoding: gzip" in heads, heads[-2000:])
    equal(work.git("-C", clone, "rev-parse", "HEAD"), commits[-1])
