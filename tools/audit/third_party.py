#!/usr/bin/env python3
"""Prints the licences of everything that is linked into the program: THIRD-PARTY-LICENSES.

First a list, each package with its version, licence and authors; then every licence text that the
packages bring, once, with those that it belongs to.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = os.environ.get("CARGO", "cargo")
TEXT = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def main():
    linked = set(run(CARGO, "tree", "--locked", "-p", "fusebox", "-e", "normal,no-proc-macro",
                     "--prefix", "none", "--format", "{p}").splitlines())
    linked = {tuple(line.split()[:2]) for line in linked if line}
    packages = [p for p in json.loads(run(CARGO, "metadata", "--locked", "--format-version", "1"))[
        "packages"] if p["source"] and (p["name"], f"v{p['version']}") in linked]
    packages.sort(key=lambda package: (package["name"], package["version"]))
    rust = Path(run("rustc", "--print", "sysroot").strip()) / "share/doc/rust/licenses"

    print("fusebox is under the Apache License 2.0: see LICENSE. The program also holds these:\n")
    print(f"{run('rustc', '--version').strip()}, the standard library: MIT OR Apache-2.0")
    texts, silent = {}, []
    for name in ["Apache-2.0.txt", "MIT.txt"]:
        add(texts, "the Rust standard library", rust / name)
    for package in packages:
        name = f"{package['name']} {package['version']}"
        authors = ", ".join(re.sub(r"\s*<.*?>", "", author) for author in package["authors"])
        print(f"{name}: {package['license']}{f'; {authors}' if authors else ''}")
        if not collect(texts, name, Path(package["manifest_path"]).parent):
            silent.append(name)
    if silent:
        print(f"\nWithout a text of their own: {', '.join(silent)}")
    for text, names in texts.values():
        print(f"\n{'=' * 98}\n{', '.join(sorted(names))}\n{'=' * 98}\n\n{text.strip()}")


def collect(texts, name: str, folder: Path) -> bool:
    """Adds what the package has by way of licences, also those of C code that it compiles."""
    found = False
    for file in sorted(folder.rglob("*")):
        if TEXT.match(file.name) and file.suffix in ("", ".txt", ".md") and file.is_file():
            add(texts, name, file)
            found = True
    return found


def add(texts, name: str, file: Path):
    text = file.read_text("utf-8", errors="replace")
    texts.setdefault(" ".join(text.split()), (text, set()))[1].add(name)


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
