"""The background worker: removes facts that have ended, to save room; a check counts them as absent by itself."""

from __future__ import annotations

import asyncio

import structlog

from gate.clock import wall_ms
from gate.errors import StoreUnavailable
from gate.metrics import FACTS_ENDED
from gate.service.role import Post
from gate.service.stores import connected_store
from gate.store.sweep import Sweep

SWEEP_EVERY_S = 5.0

log = structlog.get_logger()


async def main(post: Post) -> None:
    """Sweep until told to stop."""
    store = await connected_store(post)
    if store is None:
        return
    sweep = Sweep(store)
    post.ready()
    try:
        while not post.stopping.is_set():
            await _sweep(sweep)
            await _pause(post)
    finally:
        await store.aclose()


async def _sweep(sweep: Sweep) -> None:
    try:
        FACTS_ENDED.inc(await sweep.run(wall_ms()))
    except StoreUnavailable as away:  # the next round will do
        log.debug("sweep put off", problem=str(away))


async def _pause(post: Post) -> None:
    try:
        await asyncio.wait_for(post.stopping.wait(), SWEEP_EVERY_S)
    except TimeoutError:
        return
