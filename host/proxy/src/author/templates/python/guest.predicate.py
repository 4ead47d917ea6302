"""Takes a response for a failure if it has the status of the setting `status` (default 503) and says when to come back."""

from functools import cache

from wit_world import exports
from wit_world.imports import attempt, settings
from wit_world.imports.types import Outcome, Outcome_Response


class SettingError(ValueError):
    """Raised, it ends the call: the host logs its message, and the `on_error` of the component decides."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"setting `{name}`: expected {expected}, found `{found}`")


class Predicate(exports.Predicate):
    def handle_if(self, outcome: Outcome) -> bool:
        match outcome:
            case Outcome_Response(status):
                return status == integer("status", 503) and attempt.response_header("retry-after") is not None
            case _:
                return False


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
