"""How fresh an answer is: the wait for a demanded Revision, the bound on staleness, and what the answer says of both.

The age of the facts is asked before they are read. The Revision and the Verdict are of one commit.
"""

from __future__ import annotations

import asyncio

from gate.clock import monotonic_ms
from gate.core.revision import MAX_REVISIONS, join_revisions, parse_revisions
from gate.errors import InvalidInput, Stale
from gate.http.context import AppRequest, Deps
from gate.http.errors import MinimumUnmet
from gate.http.options import MIN_POLL_S, MIN_WAIT_MS
from gate.replica.positions import applied_all, reaches
from gate.replica.reading import Reading


async def wait_for_revision(call: AppRequest, minimum: str | None) -> None:
    """Return once the facts are at least as new as `minimum`; `MinimumUnmet` if they don't get there in time."""
    if minimum is None:
        return
    try:
        revisions = parse_revisions(minimum)
    except InvalidInput as fault:
        raise InvalidInput("min", fault.problem) from None
    give_up_ms = monotonic_ms() + MIN_WAIT_MS
    while True:
        with call.deps.replica as snapshot:
            reached = reaches(snapshot, revisions)
        if reached:
            return
        if monotonic_ms() >= give_up_ms:
            why = "has not applied it yet" if reached is False else "follows another history"
            raise MinimumUnmet(f"the Revision {minimum} was demanded, but this node {why}")
        await asyncio.sleep(MIN_POLL_S)


def revision_of_all(snapshot: Reading) -> str | None:
    """How far every Partition is applied; None where they are too many to name."""
    revisions = applied_all(snapshot)
    return join_revisions(revisions) if len(revisions) <= MAX_REVISIONS else None


def check_staleness(deps: Deps) -> int:
    """How old this node's facts are, ms; `Stale` if the deployment refuses to answer from them."""
    stale_ms = deps.replica.stale_ms()
    bound_ms = deps.options.max_staleness_ms
    if bound_ms and stale_ms > bound_ms and deps.options.on_stale == "refuse":
        raise Stale(f"this node's facts are {stale_ms} ms old, and the deployment refuses past {bound_ms} ms")
    return stale_ms
