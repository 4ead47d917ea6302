"""What the other cases left in fusebox's log."""

from collections import Counter

from case import case, equal
from wait import until

# What cases ask for: `curl --http2-prior-knowledge`, `curl --proxytunnel`, a `#` of litmus.
REFUSED = {"version", "connect", "target"}


@case("the log: the origin saw the requests of the access lines, each once, and no other")
def _(site):
    def logged():
        return Counter(line["request_id"] for line in site.access()
                       if line["route"] == "origin" and line["attempts"])
    seen = Counter(request.identity for request in site.origin.requests)
    until("all lines are there", lambda: sum(logged().values()) >= sum(seen.values()))
    equal(logged() - seen, Counter(), "only logged")
    equal(seen - logged(), Counter(), "only seen")
    equal(max(seen.values()), 1, "the same request")
    equal(site.origin.flaws, [], "flaws")


@case("the log: nothing was refused that should not be, no upstream failed")
def _(site):
    equal(site.refused().keys() - REFUSED, set(), "refused")
    failed = [line for line in site.log() if line["level"] == "ERROR" and line.get("route")]
    equal(failed[:1], [], "failed")
