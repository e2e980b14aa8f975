"""How many are online: now, by platform and by Gateway, and as lines over the last hour.

`online/live` sends what changes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX, charts
from gate.console.live import Part, stream
from gate.console.pages import page, rendered, see_other
from gate.console.request_context import ConsoleContext
from gate.core.presence import Counts, Lease, Sample
from gate.errors import StoreUnavailable

SHOWN_MS = 3_600_000
_TICKS_MS = 600_000
_SMALL_TICKS_MS = 1_200_000


class GatewayRow(NamedTuple):
    """One Gateway of the table; without a lease where it only counts yet."""

    name: str
    lease: Lease | None
    age_ms: int
    sessions: int


async def begin(context: ConsoleContext) -> web.Response:
    """An App's address alone leads here."""
    return see_other(f"{PREFIX}{context.app_key}/online")


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    return page(context, "online.html", **await _numbers(context))


async def _part(context: ConsoleContext) -> str:
    """What changes of it."""
    values = {"away": context.operator.away, "app": context.app} | await _numbers(context)
    return rendered(context.language, "online_part.html", now_ms=context.now_ms, **values)


live = stream(Part("numbers", _part, 2_000))
"""What changes of it, as it changes."""


async def _numbers(context: ConsoleContext) -> dict[str, Any]:
    presence, key, since_ms = context.deps.presence, context.app_key, context.now_ms - SHOWN_MS
    try:
        counts, (leases,), samples = await asyncio.gather(
            presence.counts(key), presence.leases([key]), presence.history(key, since_ms)
        )
    except StoreUnavailable as fault:
        return {"counts": None, "away": str(fault)}
    return {
        "counts": counts,
        "by_platform": counts.by_platform(),
        "gateways": _gateways(counts, leases, context.now_ms),
        **_lines(samples, context.now_ms),
    }


def _gateways(counts: Counts, leases: Sequence[Lease], now_ms: int) -> list[GatewayRow]:
    """Those that hold most first."""
    sessions = counts.by_gateway()
    rows = [
        GatewayRow(one.gateway.decode(), one, max(0, now_ms - one.renewed_at_ms), sessions.pop(one.gateway, 0))
        for one in leases
    ]
    rows += [GatewayRow(gateway.decode(), None, 0, many) for gateway, many in sessions.items()]
    return sorted(rows, key=lambda row: (-row.sessions, row.name))


def _lines(samples: Sequence[Sample], now_ms: int) -> dict[str, Any]:
    """The charts: those of single Gateways on one scale, so that they compare."""
    if not samples:
        return {"platforms": None, "users": None, "by_gateway": {}}
    since_ms = now_ms - SHOWN_MS
    gateways = charts.of_gateways(samples)
    top = max((charts.most_of(values) for name, values in gateways.items() if name != charts.REST), default=0)
    users = {"Users": [(one.at_ms, one.users) for one in samples]}
    return {
        "platforms": charts.chart(charts.of_platforms(samples), since_ms, now_ms, tick_every_ms=_TICKS_MS),
        "users": charts.chart(users, since_ms, now_ms, tick_every_ms=_TICKS_MS),
        "by_gateway": {
            name: charts.chart(
                {name: values}, since_ms, now_ms, tick_every_ms=_SMALL_TICKS_MS, top=0 if name == charts.REST else top
            )
            for name, values in gateways.items()
        },
    }
