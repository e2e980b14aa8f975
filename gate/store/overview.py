"""What happens now, read from Redis: who is online, what each node reports, the distance, the latest Bans and kicks.

One look, for `gate top` and for the console, so that they show the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from gate.core.presence import Counts
from gate.errors import StoreUnavailable
from gate.store.audit import AuditEntry
from gate.store.node_reports import ANSWERS_WITHIN_S, NodeReport, ask_reports
from gate.store.presence import PresenceStore
from gate.store.store import Store

# Of the audit: how many entries are read, and how many of them are shown.
LOOKED_AT, SHOWN = 100, 8
RECENT_KINDS = frozenset(("ban-imposed", "mute-imposed", "kicked", "user-deactivated"))


class Overview(NamedTuple):
    """One look. Without `online` and `recent` if it was not of an App; with nothing but `problem` if Redis is away."""

    problem: str
    ping_ms: float
    nodes: Mapping[str, NodeReport | None]
    online: Counts | None
    recent: list[AuditEntry]


async def read_overview(
    store: Store,
    presence: PresenceStore | None,
    app_key: str,
    *,
    within_s: float = ANSWERS_WITHIN_S,
    with_samples: bool = False,
) -> Overview:
    """Look once. A node that does not answer within that time is listed without a report."""
    try:
        ping_ms, nodes, online, recent = await asyncio.gather(
            _pinged(store),
            ask_reports(store, within_s, with_samples=with_samples),
            _counts(presence, app_key),
            _recent(store, app_key if presence is not None else ""),
        )
    except StoreUnavailable as fault:
        return Overview(str(fault), 0.0, {}, None, [])
    return Overview("", ping_ms, nodes, online, recent)


async def _pinged(store: Store) -> float:
    began_s = time.monotonic()
    await store.ping()
    # In fractions of a millisecond, so not by `clock.monotonic_ms`.
    return (time.monotonic() - began_s) * 1_000


async def _counts(presence: PresenceStore | None, app_key: str) -> Counts | None:
    return None if presence is None else await presence.counts(app_key)


async def _recent(store: Store, app_key: str) -> list[AuditEntry]:
    if not app_key:
        return []
    page, _ = await store.audit.page(app_key, LOOKED_AT)
    return [entry for entry in page if entry.kind in RECENT_KINDS][:SHOWN]
