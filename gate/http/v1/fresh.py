"""How fresh an answer is: the wait for a demanded Revision, the bound on staleness, and what the answer says of both.

What an answer says is read before the facts are, so that the Verdict is never older than the Revision beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.core.partition import partition_of
from gate.core.revision import MAX_REVISIONS, Revision, join_revisions, parse_revisions
from gate.errors import AppUnknown, InvalidInput, Stale
from gate.http.calls import Call
from gate.http.errors import MinimumUnmet
from gate.http.options import MIN_POLL_S, MIN_WAIT_MS
from gate.http.ports import AppView, Deps


class Freshness(NamedTuple):
    """What an answer rests on. `revision` is None where the Partitions are too many to name."""

    revision: str | None
    stale_ms: int


async def demanded(call: Call, minimum: str | None) -> AppView:
    """The App's facts, at least as new as `minimum`; `MinimumUnmet` if they don't get there in time."""
    if minimum is None:
        return call.view
    try:
        revisions = parse_revisions(minimum)
    except InvalidInput as fault:
        raise InvalidInput("min", fault.problem) from None
    give_up_ms = monotonic_ms() + MIN_WAIT_MS
    replica = call.deps.replica
    while (reached := replica.reaches(revisions)) is not True:
        if monotonic_ms() >= give_up_ms:
            why = "has not applied it yet" if reached is False else "follows another history"
            raise MinimumUnmet(f"the Revision {minimum} was demanded, but this node {why}")
        await asyncio.sleep(MIN_POLL_S)
    view = replica.app(call.app_key)
    if view is None:
        raise AppUnknown("the App was removed meanwhile")
    return view


def freshness_of(call: Call, users: Iterable[bytes]) -> Freshness:
    """For an answer about these Users. `Stale` if the deployment refuses to answer from facts this old."""
    replica = call.deps.replica
    stale_ms = bearable(call.deps)
    partitions = {partition_of(call.app_key, user, replica.partitions) for user in users}
    positions = ((partition, replica.applied(partition)) for partition in partitions)
    revisions = [Revision(partition, at.epoch, at.seq) for partition, at in positions if at is not None and at.epoch]
    return Freshness(join_revisions(revisions), stale_ms)


def freshness(call: Call) -> Freshness:
    """For an answer about many Users: every Partition's Revision."""
    stale_ms = bearable(call.deps)
    revisions = call.deps.replica.applied_all()
    return Freshness(join_revisions(revisions) if len(revisions) <= MAX_REVISIONS else None, stale_ms)


def bearable(deps: Deps) -> int:
    """How old this node's facts are, ms; `Stale` if the deployment refuses to answer from them."""
    stale_ms = deps.replica.board().stale_ms
    bound_ms = deps.options.max_staleness_ms
    if bound_ms and stale_ms > bound_ms and deps.options.on_stale == "refuse":
        raise Stale(f"this node's facts are {stale_ms} ms old, and the deployment refuses past {bound_ms} ms")
    return stale_ms
