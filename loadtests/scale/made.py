"""Facts of any size straight into a Replica, by the service's own loader, for sizes that no Redis of this machine would hold.

They are shaped as the benchmark's (`bench.facts`): one User in five owns a list of 25 entries on average, so there are five
entries to a User; and they come in no order, as a scan of Redis shows them. In the place of Redis stands `MadeSource`, whose
Changelogs have nothing behind the snapshot.

Called by `scale.__main__`, in a process of its own, so that its memory is measured without that of the caller.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from gate.clock import wall_ms
from gate.core.changes import Change
from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.revision import Position
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.replica import files
from gate.replica.layout import replica_dir
from gate.replica.loader import load_snapshot
from loadtests.bench import facts

ENTRIES_A_USER = 5
PARTITIONS = 16
LISTS_A_BATCH = 400
USERS_A_BATCH = 10_000
SAMPLED_EVERY_S = 0.2
REPORTED_EVERY_S = 10.0
BLOCK_BYTES = 512
"""The unit of `st_blocks`."""


def users_for(entries: int) -> int:
    """How many Users there are to so many list entries."""
    return max(facts.LEAST_USERS, entries // ENTRIES_A_USER)


class MadeSource:
    """A `ChangeSource` of made-up facts of one App."""

    def __init__(self, app: AppFacts, users: int) -> None:
        self._app = app
        self._users = users
        self.entries = 0
        self.making_s = 0.0
        """Time spent on making facts up, which no loader of a real snapshot spends."""

    @property
    def partitions(self) -> int:
        return PARTITIONS

    @property
    def is_partly_away(self) -> bool:
        """Never: there is no server."""
        return False

    async def prepare(self) -> None:
        """Nothing to make sure of."""

    async def heads(self) -> list[Position]:
        """The same at any time."""
        return [Position("made", 1, "made")] * PARTITIONS

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        return "made"

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """No Change, ever."""
        await asyncio.sleep(block_ms / 1_000)
        return {}

    def reconnect(self, problem: str) -> None:
        """Nothing is connected."""

    async def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """All facts, some ten thousand entries at a time."""
        made = self._batches()
        while True:
            began = time.perf_counter()
            batch = next(made, None)
            self.making_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch
            await asyncio.sleep(0)

    def _batches(self) -> Iterator[list[Part]]:
        key, users, until_ms = self._app.key, self._users, wall_ms() + 30 * facts.DAY_MS
        rng = random.Random(facts.SEED)
        draw, randint = rng.random, rng.randint
        batch: list[Part] = [AppPart(self._app)]
        owners = -(-users // facts.OWNER_EVERY)
        for rank in range(owners):
            nth = rank * facts.SHUFFLE % owners
            owner = b"%012d" % (nth * facts.OWNER_EVERY)
            drawn = {b"%012d" % int(draw() * users) for _ in range(randint(1, facts.LARGEST_LIST))}
            members = list(drawn)
            self.entries += len(members)
            if nth % facts.WHITELIST_EVERY_OWNER == 0:
                batch.append(UserPart(key, owner, UserFacts(whitelist_on=True)))
                batch.append(ListPart(key, ListKind.WHITELIST, owner, members, FOREVER_MS))
            else:
                cut = len(members) - len(members) // facts.ENDING_SHARE
                batch.append(ListPart(key, ListKind.BLACKLIST, owner, members[:cut], FOREVER_MS))
                if cut < len(members):
                    batch.append(ListPart(key, ListKind.BLACKLIST, owner, members[cut:], until_ms))
            if len(batch) >= LISTS_A_BATCH:
                yield batch
                batch = []
        yield batch
        banned, muted = UserFacts(banned_until_ms=until_ms), UserFacts(muted_until_ms=until_ms)
        for start, step, of in (
            (facts.BANNED_AT, facts.BANNED_EVERY, banned),
            (facts.MUTED_AT, facts.MUTED_EVERY, muted),
        ):
            for first in range(start, users, step * USERS_A_BATCH):
                numbers = range(first, min(users, first + step * USERS_A_BATCH), step)
                yield [UserPart(key, facts.user_id(number), of) for number in numbers]


def build(line: Connection, data: Path, app: AppFacts, users: int) -> None:
    """The work of the process: put a facts file in the place of the one in use, and report what that took.

    Sends `("at", seconds, entries made, bytes on disk)` now and then, and at the end `("done", figures)`.
    """
    directory = replica_dir(data)
    path = files.next_facts(directory)
    source = MadeSource(app, users)
    began = sampled = reported = time.perf_counter()
    most_memory = most_disk = 0

    def tick() -> None:
        nonlocal sampled, reported, most_memory, most_disk
        now = time.perf_counter()
        if now - sampled >= SAMPLED_EVERY_S:
            sampled = now
            most_memory = max(most_memory, own_memory_bytes())
            most_disk = max(most_disk, disk_bytes(directory))
        if now - reported >= REPORTED_EVERY_S:
            reported = now
            line.send(("at", now - began, source.entries, most_disk))

    file = asyncio.run(load_snapshot(source, path, tick=tick))
    took_s = time.perf_counter() - began
    file.close_clean()
    files.make_current(path)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "users": users,
        "entries": source.entries,
        "load_s": round(took_s - source.making_s, 1),
        "making_s": round(source.making_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "close_s": round(time.perf_counter() - began - took_s, 1),
        "load_memory_bytes": most_memory,
        "load_disk_bytes": most_disk,
        "file_bytes": path.stat().st_blocks * BLOCK_BYTES,
    }
    line.send(("done", figures))


def own_memory_bytes() -> int:
    """This process's memory that no file stands behind."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1_024 for row in rows if row.startswith("RssAnon:"))


def disk_bytes(directory: Path) -> int:
    """The bytes on disk in and under a directory."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total
