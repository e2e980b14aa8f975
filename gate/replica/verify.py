"""Does this node's Replica equal Redis? A second Replica is loaded beside it, brought to the same Positions, and compared.

Nothing is stopped for it: one read transaction holds the Replica still while the replicator goes on, and the second copy
follows the Changelogs to exactly where that transaction stands. So a difference is a defect, never a write in between.

Called by `gate replica verify` and by tests, in a process of its own or beside anything else.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import lmdb

from gate.clock import monotonic_ms, wall_ms
from gate.core.codec import unpack_user
from gate.core.ids import shown
from gate.core.model import FOREVER_MS, ListKind
from gate.core.revision import NOWHERE, Position
from gate.errors import ChangelogBroken
from gate.replica import envs
from gate.replica.following import slices
from gate.replica.layout import (
    META_PARTITIONS,
    app_record_key,
    current_facts,
    facts_name,
    list_prefix,
    position_key,
    unpack_position,
    unpack_until,
    user_prefix,
)
from gate.replica.loader import load_snapshot
from gate.replica.source import ChangeSource
from gate.replica.writer import FactsFile

MAX_SHOWN = 20
CATCH_UP_MS = 10_000
"""How long the Replica may take to reach the snapshot's Positions; a live one is there already."""
LOOK_EVERY_S = 0.05
COMPARED_AT_ONCE = 20_000
READ_BLOCK_MS = 50

Fact = tuple[bytes, bytes]
_PAST_THE_END: Fact = (b"\xff" * 200, b"")


class Difference(NamedTuple):
    """One fact that differs, as text for people; "" where there is none."""

    app: str
    fact: str
    in_replica: str
    in_redis: str


class Report(NamedTuple):
    """What `verify` found. `problem` says why the two could not be compared."""

    facts: int
    differences: int
    first: tuple[Difference, ...]
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether every fact is the same on both sides."""
        return not self.differences and not self.problem


async def verify(directory: Path, source: ChangeSource) -> Report:
    """Compare the Replica in `directory` with Redis, fact by fact. `ReplicaMissing`, `StoreUnavailable`, `ReplicaFull`."""
    with tempfile.TemporaryDirectory(prefix="gate-verify-") as scratch:
        try:
            copy = await load_snapshot(source, Path(scratch) / facts_name(1))
            with closing(copy):
                return await _compared(directory, source, copy)
        except ChangelogBroken as fault:
            return Report(0, 0, (), f"the Replica and Redis have no common history now: {fault}")


async def _compared(directory: Path, source: ChangeSource, copy: FactsFile) -> Report:
    deadline_ms = monotonic_ms() + CATCH_UP_MS
    while True:
        with _held_still(current_facts(directory)) as replica:
            held = _positions(replica)
            if _is_ahead(held, copy.positions):
                await _follow_to(held, source, copy)
                with copy.read() as redis:
                    return await _compare(replica, redis)
        if monotonic_ms() > deadline_ms:
            return Report(0, 0, (), f"the Replica did not reach Redis's heads within {CATCH_UP_MS} ms: see its status")
        await asyncio.sleep(LOOK_EVERY_S)


@contextmanager
def _held_still(path: Path) -> Iterator[lmdb.Transaction]:
    env = envs.acquire(path)
    try:
        with env.begin() as txn:
            yield txn
    finally:
        envs.release(path, env)


def _positions(txn: lmdb.Transaction) -> list[Position]:
    values = (_get(txn, position_key(partition)) for partition in range(int(_get(txn, META_PARTITIONS) or b"0")))
    return [NOWHERE if value is None else unpack_position(value).position for value in values]


def _is_ahead(held: Sequence[Position], copy: Sequence[Position]) -> bool:
    """`ChangelogBroken` if they can't be compared at all."""
    if len(held) != len(copy):
        raise ChangelogBroken("partitions", f"{len(held)} here, {len(copy)} in Redis")
    for partition, (ours, theirs) in enumerate(zip(held, copy, strict=True)):
        if ours.epoch != theirs.epoch:
            raise ChangelogBroken("epoch", f"Partition {partition} is of another epoch here")
    return all(ours.seq >= theirs.seq for ours, theirs in zip(held, copy, strict=True))


async def _follow_to(held: Sequence[Position], source: ChangeSource, copy: FactsFile) -> None:
    deadline_ms = monotonic_ms() + CATCH_UP_MS
    while any(ours.seq < theirs.seq for ours, theirs in zip(copy.positions, held, strict=True)):
        changes = await source.read(copy.positions, READ_BLOCK_MS)
        wanted = {p: [change for change in batch if change.seq <= held[p].seq] for p, batch in changes.items()}
        for portion in slices(wanted):
            copy.apply(portion, wall_ms())
        if not changes and monotonic_ms() > deadline_ms:
            raise ChangelogBroken("behind", "Redis no longer has what is applied here")
    for partition, (ours, theirs) in enumerate(zip(copy.positions, held, strict=True)):
        if ours.tip != theirs.tip:
            raise ChangelogBroken("forked", f"Partition {partition} has another write at {ours.seq} here")


async def _compare(replica: lmdb.Transaction, redis: lmdb.Transaction) -> Report:
    facts = differences = 0
    first: list[Difference] = []
    for app in sorted(_apps(replica) | _apps(redis)):
        for what, ours, theirs in _pairs(replica, redis, app):
            facts += 1
            if facts % COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if ours != theirs:
                differences += 1
                if len(first) < MAX_SHOWN:
                    first.append(_difference(app, what, ours, theirs))
    return Report(facts, differences, tuple(first))


def _apps(txn: lmdb.Transaction) -> set[str]:
    return {key.decode() for key, _ in _range(txn, b"A")}


def _pairs(
    replica: lmdb.Transaction, redis: lmdb.Transaction, app: str
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Each fact of an App by its key without the App's number, which differs from file to file."""
    ours, theirs = (_get(txn, app_record_key(app)) or b"" for txn in (replica, redis))
    yield b"A", ours[4:] or None, theirs[4:] or None
    our_number, their_number = (int.from_bytes(record[:4], "big") for record in (ours, theirs))
    for tag, prefix in _PREFIXES.items():
        merged = _merged(
            _range(replica, prefix(our_number)) if ours else iter(()),
            _range(redis, prefix(their_number)) if theirs else iter(()),
        )
        for key, in_replica, in_redis in merged:
            yield tag + key, in_replica, in_redis


_PREFIXES: dict[bytes, Callable[[int], bytes]] = {
    b"U": user_prefix,
    b"B": lambda number: list_prefix(ListKind.BLACKLIST, number),
    b"W": lambda number: list_prefix(ListKind.WHITELIST, number),
}


def _range(txn: lmdb.Transaction, prefix: bytes) -> Iterator[Fact]:
    """Keys that begin with `prefix`, without it, and their values."""
    cursor = txn.cursor()
    if not cursor.set_range(prefix):
        return
    size = len(prefix)
    for key, value in cast("Iterator[Fact]", cursor.iternext()):
        if not key.startswith(prefix):
            return
        yield key[size:], value


def _merged(ours: Iterator[Fact], theirs: Iterator[Fact]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    our_key, our_value = next(ours, _PAST_THE_END)
    their_key, their_value = next(theirs, _PAST_THE_END)
    while (key := min(our_key, their_key)) != _PAST_THE_END[0]:
        here, there = our_key == key, their_key == key
        yield key, our_value if here else None, their_value if there else None
        if here:
            our_key, our_value = next(ours, _PAST_THE_END)
        if there:
            their_key, their_value = next(theirs, _PAST_THE_END)


def _difference(app: str, what: bytes, ours: bytes | None, theirs: bytes | None) -> Difference:
    tag, key = what[:1], what[1:]
    if tag == b"A":
        return Difference(app, "the App's record", _text(ours), _text(theirs))
    if tag == b"U":
        return Difference(app, f"User {shown(key)}", _user_text(ours), _user_text(theirs))
    owner, member = key[1 : 1 + key[0]], key[1 + key[0] :]
    name = "blacklist" if tag == b"B" else "whitelist"
    return Difference(app, f"{name} of {shown(owner)}: {shown(member)}", _until_text(ours), _until_text(theirs))


def _text(value: bytes | None) -> str:
    return "" if value is None else shown(value)


def _user_text(value: bytes | None) -> str:
    return "" if value is None else str(unpack_user(value))


def _until_text(value: bytes | None) -> str:
    if value is None:
        return ""
    until_ms = unpack_until(value)
    return "without end" if until_ms >= FOREVER_MS else f"until {until_ms}"


def _get(txn: lmdb.Transaction, key: bytes) -> bytes | None:
    return cast("bytes | None", txn.get(key))
