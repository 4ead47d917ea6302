"""JSON-RPC reports its errors with status 200: takes an answer with an error of the service's own for a failure.

Setting `codes`: the error codes that count, by default -32603 (internal error) and -32000 to -32099 (what a server defines
for itself). A request that is wrong, say with parameters that are not valid (-32602), would fail again: its codes are not
among them. In a batch, one such error is enough.

It decides alone, so what any service may suffer counts too: no response at all, and 5xx. It sees as much of a body as
`peek_body` of the component allows; a body that is cut off there is not JSON, and does not count.
"""

import json
import re
from collections.abc import Iterator
from functools import cache

from wit_world import exports
from wit_world.imports import attempt, settings
from wit_world.imports.types import Outcome, Outcome_Response

type Codes = list[tuple[int, int]]

# Nested, more than so many arrays and objects would need more stack than a guest has.
MAX_OPENINGS = 800

RANGE = re.compile(r"\s*(?P<first>-?\d+)\s*(\.\.\s*(?P<last>-?\d+)\s*)?")


class SettingError(ValueError):
    """Raised, it ends the call: the host logs its message, and the `on_error` of the component decides."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"setting `{name}`: expected {expected}, found `{found}`")


class Predicate(exports.Predicate):
    def handle_if(self, outcome: Outcome) -> bool:
        if not isinstance(outcome, Outcome_Response):
            return True
        if outcome.value != 200:
            return outcome.value >= 500
        counted = failing_codes()
        return any(low <= code <= high for code in error_codes() for low, high in counted)


# Importing happens when the component is built, where there are no settings: so they are read at the first call. They don't
# change while an instance lives.
@cache
def failing_codes() -> Codes:
    text = settings.get("codes")
    return parse_codes("-32603, -32000..-32099" if text is None else text)


def parse_codes(text: str) -> Codes:
    ranges = [RANGE.fullmatch(item) for item in text.split(",")]
    if not all(ranges):
        raise SettingError("codes", "codes such as `-32603, -32000..-32099`", text)
    ends = [(int(found["first"]), int(found["last"] or found["first"])) for found in ranges if found]
    return [(min(pair), max(pair)) for pair in ends]


def error_codes() -> Iterator[int]:
    """The codes of all errors in the body: of one response object, or of a batch."""
    if "json" not in (attempt.response_header("content-type") or "").lower():
        return
    text = attempt.response_body_text() or ""
    if text.count("[") + text.count("{") > MAX_OPENINGS:
        return
    try:
        body = json.loads(text)
    except ValueError:
        return
    for response in body if isinstance(body, list) else [body]:
        match response:
            case {"error": {"code": int(code)}}:
                yield code
