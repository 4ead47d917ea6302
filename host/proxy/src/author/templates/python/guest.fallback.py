"""Answers 503 in place of the upstream, with the reason, and `Retry-After` from the setting `retry-after` (default 5)."""

from functools import cache

from wit_world import exports
from wit_world.imports import attempt, settings
from wit_world.imports.types import Content_Text, Header, Outcome, Outcome_Response, Response


class SettingError(ValueError):
    """Raised, it ends the call: the host logs its message, and the original outcome goes out."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"setting `{name}`: expected {expected}, found `{found}`")


class Fallback(exports.Fallback):
    def respond(self, outcome: Outcome) -> Response | None:
        match outcome:
            case Outcome_Response(status):
                reason = f"status {status}"
            case _:
                reason = attempt.failure_detail()
        return Response(
            status=503,
            headers=[
                Header("content-type", "text/plain; charset=utf-8"),
                Header("retry-after", str(integer("retry-after", 5))),
            ],
            body=Content_Text(f"the upstream failed: {reason}\n"),
        )


# Settings don't change while an instance lives, so each is read once: at the first call, since a module is imported when the
# component is built, where there are none.
@cache
def integer(name: str, default: int) -> int:
    text = settings.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise SettingError(name, "a whole number", text)
    return int(text)
