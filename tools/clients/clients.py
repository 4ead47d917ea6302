"""Real clients against fusebox in front of real servers: one line for each case.

Usage: target/clients/venv/bin/python -B tools/clients/clients.py PROGRAM [NAME…]

The program is fusebox. With names, only cases in whose line one of them is. Ends with 1 if a case
fails. What a case needs is said in `case.py`, what it works with in `servers.py`.
"""

import signal
import sys
import time
import traceback

import cases  # noqa: F401
from case import CASES, LIMIT, Missing
from servers import Site


def hangs(*_) -> None:
    """Ends a case that no limit of its own has ended."""
    raise AssertionError(f"it hangs: not done after {3 * LIMIT} s")


def place(error: Exception) -> str:
    """Where a case was when it failed."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if "/cases/" in frame.filename), frames[-1])
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"


def main() -> int:
    program, *names = sys.argv[1:]
    chosen = [(name, function) for name, function in CASES
              if not names or any(part in name for part in names)]
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, hangs)
    with Site(program) as site:
        for name, function in chosen:
            begin = time.monotonic()
            signal.alarm(3 * LIMIT)
            try:
                function(site)
                result = "ok"
            except Missing as missing:
                result = f"not asked: {missing} is not there"
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                result = "FAILED"
                reason = f"{error} ({place(error)})"
                if not isinstance(error, AssertionError):
                    reason = "".join(traceback.format_exception(error))
            signal.alarm(0)
            print(f"{name}: {result} ({time.monotonic() - begin:.1f} s)", flush=True)
            if result == "FAILED":
                print("    " + reason.replace("\n", "\n    "), flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} cases passed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
