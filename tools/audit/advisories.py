"""RustSec's advisories, from a checkout of its database."""

import re
import tomllib
from pathlib import Path

COMPARATOR = re.compile(r"(<=|>=|<|>|=|\^|~|)\s*(\d+(?:\.\d+){0,2})(-[\w.-]+)?(\+[\w.-]+)?")


def of_package(database: Path, name: str, version: str):
    """Id, title and kind of each advisory on this version. A vulnerability has the kind None."""
    for file in sorted((database / "crates" / name).glob("*.md")):
        front = re.match(r"```toml\n(.*?)```\s*(?:# (.*))?", file.read_text("utf-8"), re.DOTALL)
        if front is None:
            raise ValueError(f"{file}: no advisory")
        data = tomllib.loads(front[1])
        advisory, versions = data["advisory"], data["versions"]
        safe = versions.get("patched", []) + versions.get("unaffected", [])
        if "withdrawn" in advisory or any(matches(version, range) for range in safe):
            continue
        title = (front[2] or "").splitlines()
        yield advisory["id"], title[0] if title else "", advisory.get("informational")


def matches(version: str, range: str) -> bool:
    """Whether the version is in the range: comparators between commas, as cargo reads them."""
    return all(_compare(_numbers(version), part.strip()) for part in range.split(","))


def _numbers(version: str):
    # A version before a release is older than it; which of two such is older nobody asks here.
    core, *before = version.split("+")[0].split("-", 1)
    numbers = [int(number) for number in core.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)), 0 if before else 1)


def _compare(version, comparator: str) -> bool:
    match = COMPARATOR.fullmatch(comparator)
    if match is None:
        raise ValueError(f"`{comparator}` is no version range")
    operator, given = match[1], match[2].split(".")
    bound = _numbers(match[2] + (match[3] or ""))
    if operator in ("<", "<=", ">", ">="):
        return {"<": version < bound, "<=": version <= bound, ">": version > bound,
                ">=": version >= bound}[operator]
    if operator == "=":
        return version[: len(given)] == bound[: len(given)] and (
            len(given) < 3 or version == bound)
    if operator == "~":
        keep = min(len(given), 2)
    else:
        # `^`, and what has no operator: up to the first number that is not 0.
        keep = next((i + 1 for i, n in enumerate(bound[: len(given)]) if n), len(given))
    return version >= bound and version[:keep] == bound[:keep]
