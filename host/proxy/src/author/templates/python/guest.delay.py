"""Waits for as long as a response with the status of the setting `status` (default 429) says in its header `x-wait-ms`, in
place of the policy's own delay."""

from functools import cache

from wit_world import exports
from wit_world.exports.delay import Decision, Decision_Own, Decision_Wait
from wit_world.imports import attempt, settings
from wit_world.imports.types import Outcome, Outcome_Response


class SettingError(ValueError):
    """Raised, it ends the call: the host logs its message, and the policy's own delay holds."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"setting `{name}`: expected {expected}, found `{found}`")


class Delay(exports.Delay):
    def after(self, outcome: Outcome, own_ms: int, count: int) -> Decision:
        match outcome:
            case Outcome_Response(status) if status == integer("status", 429):
                wait = attempt.response_header("x-wait-ms")
                return Decision_Wait(int(wait)) if wait is not None and wait.isdecimal() else Decision_Own()
            case _:
                return Decision_Own()


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
