"""The registry of nodes as it is once a deployment has run for a lease, so that a test need not wait for one.

Until then, a write is acknowledged as `node` at most (docs/decisions/0011).
"""

from __future__ import annotations

import asyncio

from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store

BRIEF_LEASE_MS = 1


async def settle(store: Store) -> None:
    """Nothing is missing from the list: a node that is gone again has watched it for its whole, very brief lease."""
    watcher = NodeAnnouncer(store.client, "settler", lease_ttl_ms=BRIEF_LEASE_MS)
    while not (await store.writer.registry()).is_settled:
        await watcher.renew({})
        await asyncio.sleep(BRIEF_LEASE_MS / 1_000)
    await watcher.leave()
