"""Loads a fresh snapshot into a new facts file, aside, up to a moment at which it may replace the old one.

The heads are read before the scan begins. Whatever changes during the scan may show in it or not; applying the Changelog
from those heads settles both, because a Change states its fact outright. Changes are fetched while the scan runs and kept,
so that Redis may trim its log meanwhile: else a snapshot that takes longer than the log is long could never be caught up.

Called by the replicator and by `verify`. Nothing reads the new file before this is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gate.clock import wall_ms
from gate.core.changes import Change, ChangeUnreadable
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaForeign, ReplicaFull, StoreUnavailable
from gate.replica.bulk import SnapshotBuild
from gate.replica.changelog_checks import check_heads, reached, slices
from gate.replica.files import delete_facts, require_room
from gate.replica.layout import MAP_BYTES
from gate.replica.ports import ChangeSource
from gate.replica.writer import FactsFile

SPOOL_MAX_WEIGHT = 2_000_000
"""Changes and members kept while a snapshot loads, some 300 MB at the very most; past it, Redis's own log must do."""
SPOOL_BLOCK_MS = 20
"""Also how long a small load may wait for the last read to end."""

Tick = Callable[[], None]
"""Called between steps; raises to give the load up."""


async def load_snapshot(
    source: ChangeSource, path: Path, *, map_bytes: int = MAP_BYTES, tick: Tick = lambda: None
) -> FactsFile:
    """Build the facts file at `path` and catch up with the heads as they are at the end of the scan.

    Raises `ChangelogBroken` if the Changelog breaks meanwhile, `StoreUnavailable`, `ReplicaFull`; then no file is left.
    """
    require_room(path.parent)
    heads = await source.heads()
    file = FactsFile.create(path, source.partitions, map_bytes)
    try:
        async with _spooling(source, heads) as spool:
            await _build(source, file, tick)
            file.finish(heads, wall_ms())
        await _catch_up(source, file, spool, tick)
    except BaseException as fault:
        file.close()
        delete_facts(path)
        if isinstance(fault, (OSError, ReplicaForeign)):  # of the new file: it says nothing about the one in use
            raise ReplicaFull(f"{path.name} can't be built: {fault}") from fault
        raise
    return file


async def _build(source: ChangeSource, file: FactsFile, tick: Tick) -> None:
    build = SnapshotBuild(file, file.path.with_suffix(".loading"))
    try:
        async for parts in source.snapshot():
            build.add(parts)
            tick()
        for _ in build.steps():
            await asyncio.sleep(0)  # the lease has to be renewed meanwhile
            tick()
    finally:
        build.close()


async def _catch_up(source: ChangeSource, file: FactsFile, spool: Spool, tick: Tick) -> None:
    for changes in spool.drain():
        await apply_in_slices(file, changes, tick)
    heads = await source.heads()
    check_heads(file.positions, heads)
    while not reached(file.positions, heads):
        changes = await source.read(file.positions, SPOOL_BLOCK_MS)
        if not changes:
            check_heads(file.positions, await source.heads())
        await apply_in_slices(file, changes, tick)


async def apply_in_slices(file: FactsFile, changes: Mapping[int, Sequence[Change]], tick: Tick) -> None:
    """Apply what one read brought, letting others run in between."""
    for portion in slices(changes):
        file.apply(portion, wall_ms())
        await asyncio.sleep(0)
        tick()


class Spool:
    """Changes fetched ahead of the moment when they can be applied."""

    def __init__(self, source: ChangeSource, heads: Sequence[Position]) -> None:
        self._source = source
        self._read_up_to = list(heads)
        self._kept: deque[Mapping[int, Sequence[Change]]] = deque()
        self._weight = 0
        self.stopped = False

    async def fill(self) -> None:
        """Fetch until stopped or full. A failure ends it quietly: catching up asks for the same again, and meets it."""
        while not self.stopped and self._weight < SPOOL_MAX_WEIGHT:
            try:
                changes = await self._source.read(self._read_up_to, SPOOL_BLOCK_MS)
            except (StoreUnavailable, ChangelogBroken, ChangeUnreadable):
                return
            self._keep(changes)

    def drain(self) -> list[Mapping[int, Sequence[Change]]]:
        """What was kept, oldest first."""
        kept, self._kept = list(self._kept), deque()
        return kept

    def _keep(self, changes: Mapping[int, Sequence[Change]]) -> None:
        for partition, batch in changes.items():
            last = batch[-1]
            self._read_up_to[partition] = Position(self._read_up_to[partition].epoch, last.seq, last.write_id)
            self._weight += sum(1 + len(change.members) for change in batch)
        if changes:
            self._kept.append(changes)


@asynccontextmanager
async def _spooling(source: ChangeSource, heads: Sequence[Position]) -> AsyncIterator[Spool]:
    spool = Spool(source, heads)
    filling = asyncio.create_task(spool.fill())
    try:
        yield spool
    finally:
        spool.stopped = True
        await filling
