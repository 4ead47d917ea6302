"""Cases: what one client does, and how it is judged."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

# In the order in which they are declared.
CASES: list[tuple[str, Callable]] = []

# A program for each client that is none of Python's, and for some servers.
PROGRAMS = Path(__file__).parent / "programs"

# Where `install.sh` puts what is not Debian's.
INSTALLED = Path(__file__).parents[2] / "target" / "clients"

# A client that takes longer hangs.
LIMIT = 60

# No proxy of the environment may stand between the clients and fusebox.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.lower().endswith("_proxy")}


class Missing(Exception):
    """A client that is optional is not there."""


def case(name: str):
    """Declares a case. It gets the `Site`, and fails by an exception."""
    def declare(function):
        CASES.append((name, function))
        return function
    return declare


def run(*command, fails: bool = False, **options) -> subprocess.CompletedProcess:
    """Runs a client to its end. It has to succeed, or to fail."""
    options = {"env": ENVIRONMENT, "timeout": LIMIT, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del options["stdin"]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, **options)
    if (done.returncode != 0) != fails:
        said = (done.stdout[-1500:] + done.stderr[-1500:]).decode("utf-8", "replace")
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{said}")
    return done


def equal(found, wanted, what: str = "") -> None:
    """Fails unless both are equal."""
    if found != wanted:
        raise AssertionError(f"{what or 'found'}: {found!r}, expected {wanted!r}")


def holds(condition, found="") -> None:
    """Fails unless it holds."""
    if not condition:
        raise AssertionError(f"found {found!r}")
