"""The replicator: makes sure that the first App exists, then keeps this node's Replica in step with Redis.

One at a time in a data directory: an orphan of a supervisor that was killed may still be closing its files in order, so a new
one waits for its lock first. One at a time under a node's id, too: a copy of a directory refuses to start beside the other.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os

from gate.clock import wall_ms
from gate.errors import CannotStart
from gate.replica.replicator import Replicator
from gate.service.credentials import ensure_first
from gate.service.places import place_of
from gate.service.role import ORPHAN_GRACE_S, Post
from gate.service.stores import connected_store
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store

LOCK_FILE = "replicator.writing"
LOCK_LOOK_EVERY_S = 0.01
GC_THRESHOLDS = (100_000, 50, 100)
"""Changes are many small objects that no cycle holds. Of 100,000, a second of CPU time reads 300,000 so, and 190,000 with
Python's own (700, 10, 10)."""


async def main(post: Post) -> None:
    """Replicate until told to stop."""
    gc.set_threshold(*GC_THRESHOLDS)
    lock = await _sole_writer(post)
    store = await connected_store(post)
    if store is None:
        return
    is_embedded = post.config.redis is None
    announcer = store.announcer(post.order.node_id, place_of(post.places.data), owns_server=is_embedded)
    try:
        if not post.order.is_restart:  # a service that runs is refused nothing
            await _refuse_a_copy(post, announcer)
        await _ensure_first(post, store)
        await _replicate(post, store, announcer)
    finally:
        await store.aclose()
        os.close(lock)


async def _refuse_a_copy(post: Post, announcer: NodeAnnouncer) -> None:
    if await announcer.has_rival():
        raise CannotStart(
            f"a node of this one's id, {post.order.node_id}, runs already, in a data directory that was copied from or to "
            f"{post.places.data}: delete {post.places.node_id}, and start again"
        )


async def _replicate(post: Post, store: Store, announcer: NodeAnnouncer) -> None:
    replicator = Replicator(
        post.places.replica,
        store.changelog,
        announcer,
        before_snapshot=lambda: _ensure_first(post, store),
    )
    running = asyncio.create_task(replicator.run())
    stopping = asyncio.ensure_future(post.stopping.wait())
    ready = asyncio.create_task(_say_ready(post, replicator))
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    stopping.cancel()
    replicator.stop()
    await running


async def _ensure_first(post: Post, store: Store) -> None:
    await ensure_first(post.places.credentials, store.apps, store.operators, wall_ms())


async def _say_ready(post: Post, replicator: Replicator) -> None:
    await replicator.ready.wait()
    post.ready()


async def _sole_writer(post: Post) -> int:
    path = post.places.run / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(int(2 * ORPHAN_GRACE_S / LOCK_LOOK_EVERY_S)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            await asyncio.sleep(LOCK_LOOK_EVERY_S)
    raise CannotStart(f"another replicator still writes in {post.places.replica} (it holds {path}); end it first")
