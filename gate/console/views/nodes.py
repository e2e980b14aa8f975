"""All nodes that hold a lease, as each reports itself: host, version, roles, how far it is behind, disk, Redis, clients."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console.labels import NODE_STATES
from gate.console.live import Part, stream
from gate.console.looks import look, rows_of
from gate.console.pages import page, rendered
from gate.console.request_context import ConsoleContext

LOW_DISK = 0.1
"""Of the disk that is free: below that, a row says so."""


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    return page(context, "nodes.html", **await _values(context, is_page=True))


async def _values(context: ConsoleContext, *, is_page: bool) -> dict[str, Any]:
    seen = await look(context, "", is_page=is_page)
    # A node that lags comes first: it is what people look for.
    rows = sorted(rows_of(seen), key=lambda row: (not row.is_behind, row.name))
    away = context.operator.away or seen.problem
    return {"away": away, "seen": seen, "rows": rows, "states": NODE_STATES, "low_disk": LOW_DISK}


async def _part(context: ConsoleContext) -> str:
    values = await _values(context, is_page=False)
    return rendered(context.language, "nodes_now.html", now_ms=context.now_ms, **values)


live = stream(Part("now", _part, 2_000))
"""What changes of it, as it changes."""
