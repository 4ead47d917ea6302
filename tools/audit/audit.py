#!/usr/bin/env python3
"""Where the dependencies come from, under which licences, and which advisories concern them.

Checks the host's workspace, the guests' and the fuzz targets' by their lock files, and the pinned
tool chains of guests in other languages, against allowed.toml. Changes nothing and builds nothing.
Advisories are read from the checkout of RustSec's database that ADVISORIES names, else from one
that is fetched to target/advisory-db; where neither can be had, a line says so.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import advisories
import spdx

ROOT = Path(__file__).resolve().parents[2]
WORKSPACES = [".", "policies", "host/http1/fuzz", "host/proxy/fuzz"]
DATABASE = "https://github.com/RustSec/advisory-db"


def main() -> int:
    allowed = tomllib.loads((Path(__file__).parent / "allowed.toml").read_text("utf-8"))
    errors = []
    packages = {}
    used = set()
    for workspace in WORKSPACES:
        graph = Graph(workspace)
        errors += graph.sources()
        errors += graph.licences(set(allowed["licences"]), used)
        packages |= {(p["name"], p["version"]): graph for p in graph.third_party()}
    errors += [f"allowed.toml: no package needs `{name}`: take it out of `licences`"
               for name in allowed["licences"] if name not in used]
    print(f"audit: {len(packages)} packages of {len(WORKSPACES)} workspaces: sources, licences")
    errors += tool_chains(allowed["tool-chains"])
    errors += known_vulnerabilities(packages, allowed["advisories"])
    for error in errors:
        print(f"audit: error: {error}", file=sys.stderr)
    return 1 if errors else 0


class Graph:
    """The packages of a workspace, and who needs them."""

    def __init__(self, workspace: str):
        self.workspace = workspace
        command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--all-features",
                   "--format-version", "1", "--manifest-path", str(ROOT / workspace / "Cargo.toml")]
        data = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        self.packages = {package["id"]: package for package in data["packages"]}
        self.members = set(data["workspace_members"])
        self.users = {}
        for node in data["resolve"]["nodes"]:
            for dependency in node["dependencies"]:
                self.users.setdefault(dependency, []).append(node["id"])
        lock = tomllib.loads((ROOT / workspace / "Cargo.lock").read_text("utf-8"))
        self.checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}

    def third_party(self):
        return [package for package in self.packages.values() if package["source"]]

    def sources(self):
        """Everything is of this repository or of cargo's default registry, with its checksum."""
        registries = {dependency["source"] for package in self.packages.values()
                      for dependency in package["dependencies"]
                      if dependency["source"] and dependency["source"].startswith("registry+")
                      and not dependency["registry"]}
        for package in self.packages.values():
            if package["source"] is None:
                if ROOT not in Path(package["manifest_path"]).parents:
                    yield self.about(package, "is of a path outside of this repository")
            elif package["source"] not in registries:
                yield self.about(package, f"comes from {package['source']}, "
                                          "which is not cargo's default registry")
            elif not self.checksums.get((package["name"], package["version"])):
                yield self.about(package, "has no checksum in Cargo.lock")

    def licences(self, allowed, used):
        for package in self.third_party():
            expression = package["license"]
            if not expression:
                yield self.about(package, "states no licence expression")
                continue
            accepted = spdx.accepted(expression, allowed)
            if accepted is None:
                yield self.about(package, f"is under `{expression}`, "
                                          "which tools/audit/allowed.toml does not allow")
            else:
                used |= accepted

    def about(self, package, what: str) -> str:
        name = f"{package['name']} {package['version']}"
        return f"{name} {what}. It is there because of: {' <- '.join(self.reason(package['id']))}"

    def reason(self, id: str):
        """The shortest way from the package to one of our own."""
        ways, seen = [[id]], {id}
        for way in ways:
            if way[-1] in self.members:
                return [self.packages[step]["name"] for step in way]
            for user in self.users.get(way[-1], []):
                if user not in seen:
                    seen.add(user)
                    ways.append([*way, user])
        return [self.packages[id]["name"]]


def tool_chains(allowed):
    """npm's lock files have a hash for everything and name no place; pip's lists pin versions."""
    files = subprocess.run(["git", "ls-files", "policies", "host"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    count = 0
    seen = set()
    for file in files:
        path = ROOT / file
        if path.name == "requirements.txt":
            for line in path.read_text("utf-8").splitlines():
                name, pinned, _ = line.partition("==")
                count += 1
                seen.add(("python", name))
                if not pinned:
                    yield f"{file}: `{line}` is not pinned to one version"
                if name not in allowed["python"]:
                    yield f"{file}: `{name}` is not among allowed.toml's tool chains"
        elif path.name == "package.json":
            needs = json.loads(path.read_text("utf-8"))
            for name, version in needs.get("devDependencies", {}).items():
                seen.add(("npm", name))
                if not re.fullmatch(r"\d+\.\d+\.\d+", version):
                    yield f"{file}: `{name}` is not pinned to one version"
                if name not in allowed["npm"]:
                    yield f"{file}: `{name}` is not among allowed.toml's tool chains"
            # A template's lock file is made by whoever takes the template.
            lock = str(path.with_name("package-lock.json").relative_to(ROOT))
            if needs["name"] != "{{name}}" and lock not in files:
                yield f"{file}: has no package-lock.json beside it"
        elif path.name == "package-lock.json":
            for name, package in json.loads(path.read_text("utf-8"))["packages"].items():
                if not name:
                    continue
                count += 1
                if not package.get("integrity", "").startswith("sha512-"):
                    yield f"{file}: `{name}` has no sha512 hash"
                if "resolved" in package:
                    yield f"{file}: `{name}` names the place that it was fetched from"
    for registry, names in allowed.items():
        yield from (f"allowed.toml: nothing needs `{name}`: take it out of `tool-chains.{registry}`"
                    for name in names if (registry, name) not in seen)
    print(f"audit: {count} packages of guests' tool chains: pins, hashes")


def known_vulnerabilities(packages, excused):
    database = find_database()
    if database is None:
        print(f"audit: advisories not checked: {DATABASE} is out of reach "
              "(ADVISORIES=folder names a checkout)")
        return
    found = set()
    for (name, version), graph in sorted(packages.items()):
        for id, title, kind in advisories.of_package(database, name, version):
            found.add(id)
            package = next(p for p in graph.packages.values()
                           if (p["name"], p["version"]) == (name, version))
            if id in excused:
                continue
            message = graph.about(package, f"has advisory {id} ({title})")
            if kind in (None, "unsound"):
                yield message
            else:
                print(f"audit: warning: {kind}: {message}")
    yield from (f"allowed.toml: {id} concerns nothing here: take it out of `advisories`"
                for id in excused if id not in found)
    print(f"audit: advisories checked: {database}")


def find_database():
    named = os.environ.get("ADVISORIES")
    if named:
        if not (Path(named) / "crates").is_dir():
            sys.exit(f"audit: ADVISORIES={named} is no checkout of {DATABASE}")
        return Path(named)
    folder = ROOT / "target" / "advisory-db"
    if folder.is_dir():
        command = ["git", "-C", folder, "pull", "--quiet", "--ff-only"]
    else:
        command = ["git", "clone", "--quiet", "--depth", "1", DATABASE, folder]
    try:
        environment = dict(os.environ, GIT_TERMINAL_PROMPT="0")
        subprocess.run(command, check=True, timeout=120, env=environment, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return folder


if __name__ == "__main__":
    sys.exit(main())
