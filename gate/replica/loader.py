"""Loads a fresh snapshot into a new facts file, apart from the current one, until it may replace that.

The heads are read before the scan begins. A fact that changes during the scan may appear in it or not. Applying the Changelog
from those heads settles both cases, because a Change states its fact outright. Changes are fetched and kept during the scan, so
that Redis may trim its log meanwhile. Otherwise a snapshot that takes longer than the log's length could never catch up.

Called by the replicator and by `verify`. Nothing reads the new file before it is complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gate.clock import wall_ms
from gate.core.changes import Change, ChangeUnreadable, check_heads, slices
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaForeign, ReplicaFull, StoreUnavailable
from gate.replica.bulk import SnapshotBuild
from gate.replica.changelog_checks import reached
from gate.replica.files import delete_facts, require_room
from gate.replica.layout import MAP_BYTES
from gate.replica.ports import ChangeSource
from gate.replica.writer import FactsFile

# Changes and members kept while a snapshot loads, some 300 MB at most. Past it, Redis's own log must suffice.
SPOOL_MAX_WEIGHT = 2_000_000
# Also the time that a small load may wait for the last read to end.
SPOOL_BLOCK_MS = 20

# Called between steps; raises to abort the load.
Tick = Callable[[], None]


async def load_snapshot(
    source: ChangeSource, path: Path, *, map_bytes: int = MAP_BYTES, tick: Tick = lambda: None
) -> FactsFile:
    """Build the facts file at `path` and catch up with the heads as of the end of the scan.

    Raises `ChangelogBroken` if the Changelog breaks meanwhile, `StoreUnavailable`, `ReplicaFull`. Then no file is left.
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
        if isinstance(fault, (OSError, ReplicaForeign)):  # about the new file; the current one may be sound
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
            await asyncio.sleep(0)  # lets the heartbeat renew the lease
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
            # Nothing came although the heads are ahead: the log may have been trimmed or replaced.
            check_heads(file.positions, await source.heads())
        await apply_in_slices(file, changes, tick)


async def apply_in_slices(file: FactsFile, changes: Mapping[int, Sequence[Change]], tick: Tick) -> None:
    """Apply the Changes of one read. Other tasks run between portions."""
    for portion in slices(changes):
        file.apply(portion, wall_ms())
        await asyncio.sleep(0)
        tick()


class Spool:
    """Changes that are fetched before they can be applied."""

    def __init__(self, source: ChangeSource, heads: Sequence[Position]) -> None:
        self._source = source
        # A copy: it advances independently of the file.
        self._read_up_to = list(heads)
        self._kept: deque[Mapping[int, Sequence[Change]]] = deque()
        self._weight = 0
        self.stopped = False

    async def fill(self) -> None:
        """Fetch until stopped or full. A failure ends it silently: catching up repeats the read and reports it."""
        while not self.stopped and self._weight < SPOOL_MAX_WEIGHT:
            try:
                changes = await self._source.read(self._read_up_to, SPOOL_BLOCK_MS)
            # Not fatal here: `_catch_up` meets the same problem.
            except (StoreUnavailable, ChangelogBroken, ChangeUnreadable):
                return
            self._keep(changes)

    def drain(self) -> list[Mapping[int, Sequence[Change]]]:
        """Return the kept Changes, oldest first."""
        kept, self._kept = list(self._kept), deque()
        return kept

    def _keep(self, changes: Mapping[int, Sequence[Change]]) -> None:
        for partition, batch in changes.items():
            # The next read continues after the last kept Change.
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
