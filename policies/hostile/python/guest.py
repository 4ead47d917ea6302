"""Misdeeds by the path of the request; a predicate that takes everything else."""

import sys
import time

from wit_world import exports
from wit_world.imports import attempt
from wit_world.imports.types import Outcome


def loops() -> None:
    while True:
        pass


def recurses() -> None:
    recurses()


def grows() -> None:
    everything = []
    while True:
        everything.append(bytearray(1 << 20))


def raises() -> None:
    raise ValueError("on purpose")


MISDEEDS = {
    "/loops": loops,
    "/recurses": recurses,
    "/grows": grows,
    "/raises": raises,
    "/sleeps": lambda: time.sleep(1),
    "/exits": lambda: sys.exit("on purpose"),
}


class Predicate(exports.Predicate):
    def handle_if(self, outcome: Outcome) -> bool:
        MISDEEDS.get(attempt.path_with_query(), lambda: None)()
        return True
