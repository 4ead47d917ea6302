"""Tells calls apart by the beginning of their path: as many segments as the setting `segments` says (default 1). A shorter path
is nobody's."""

from functools import cache
from typing import Optional

from wit_world import exports
from wit_world.imports import attempt, settings


class SettingError(ValueError):
    """Raised, it ends the call: the host logs its message, and the call has no key."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"setting `{name}`: expected {expected}, found `{found}`")


class Key(exports.Key):
    def key(self) -> Optional[str]:
        path, _, _ = attempt.path_with_query().partition("?")
        segments = [segment for segment in path.split("/") if segment]
        count = integer("segments", 1)
        return "/".join(segments[:count]) if len(segments) >= count else None


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
