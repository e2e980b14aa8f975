"""The Gateways of an App: the lease and the Sessions of each; the slices of its Presence; the last hour as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import charts
from gate.console.live import Part, stream
from gate.console.pages import page, rendered
from gate.console.request_context import ConsoleContext
from gate.core.presence import SAMPLE_EVERY_MS, Counts, Lease
from gate.errors import StoreUnavailable

SHOWN_MS = 3_600_000
# Of the table: past that, Gateways with the fewest Sessions are only counted.
MOST_ROWS = 500
_TICKS_MS = 1_200_000


class GatewayRow(NamedTuple):
    """One Gateway of the table; without a lease where it only counts yet."""

    name: str
    lease: Lease | None
    age_ms: int
    sessions: int


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    now, hour = await asyncio.gather(_now(context), _hour(context))
    return page(context, "gateways.html", **{**hour, **now})


async def _now(context: ConsoleContext) -> dict[str, Any]:
    presence, key = context.deps.presence, context.app_key
    try:
        # At once, but not one moment: a Gateway may be in one of them alone, and has its row all the same.
        counts, slices, (leases,) = await asyncio.gather(
            presence.counts(key), presence.counts_by_slice(key), presence.leases([key])
        )
    except StoreUnavailable as fault:
        return {"counts": None, "away": context.operator.away or str(fault)}
    rows = _rows(counts, leases, context.now_ms)
    return {
        "away": context.operator.away,
        "counts": counts,
        "slices": slices,
        "holding": sum(row.lease is not None and row.lease.holds for row in rows),
        "rows": rows[:MOST_ROWS],
        "left_out": rows[MOST_ROWS:],
        "by_platform": counts.by_platform(),
    }


def _rows(counts: Counts, leases: Sequence[Lease], now_ms: int) -> list[GatewayRow]:
    """Those that hold most first."""
    # Emptied below: what is left counts without a lease.
    sessions = counts.by_gateway()
    rows = [
        GatewayRow(one.gateway.decode(), one, max(0, now_ms - one.renewed_at_ms), sessions.pop(one.gateway, 0))
        for one in leases
    ]
    rows += [GatewayRow(gateway.decode(), None, 0, many) for gateway, many in sessions.items()]
    return sorted(rows, key=lambda row: (-row.sessions, row.name))


async def _hour(context: ConsoleContext) -> dict[str, Any]:
    """The charts: those of single Gateways on one scale, so that they compare."""
    # To the slot: a part that did not change is the same text, and is not sent again.
    now_ms = context.now_ms // SAMPLE_EVERY_MS * SAMPLE_EVERY_MS
    since_ms = now_ms - SHOWN_MS
    try:
        samples = await context.deps.presence.history(context.app_key, since_ms)
    except StoreUnavailable:
        samples = []
    gateways = charts.of_gateways(samples)
    # The rest is many Gateways in one line: on the same scale it would flatten all others.
    top = max((charts.most_of(values) for name, values in gateways.items() if name != charts.REST), default=0)
    return {
        "by_gateway": {
            name: charts.chart(
                {name: values}, since_ms, now_ms, tick_every_ms=_TICKS_MS, top=0 if name == charts.REST else top
            )
            for name, values in gateways.items()
        }
    }


async def _now_part(context: ConsoleContext) -> str:
    values = await _now(context)
    return rendered(context.language, "gateways_now.html", app=context.facts, now_ms=context.now_ms, **values)


async def _hour_part(context: ConsoleContext) -> str:
    return rendered(context.language, "gateways_hour.html", app=context.facts, **await _hour(context))


# What changes of it, as it changes.
live = stream(Part("now", _now_part, 2_000), Part("hour", _hour_part, SAMPLE_EVERY_MS))
