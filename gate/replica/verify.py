"""Compares this node's Replica with Redis: loads a second Replica, brings it to the same Positions, and compares all facts.

Nothing is stopped: one read transaction holds the Replica at one commit while the replicator continues, and the second copy
follows the Changelogs to exactly that commit. So a difference is a defect, never a write in between. Before that, a child
process scrubs the file, because a damaged page may kill the process that reads it.

Called by `gate replica verify` and by tests, in a process of its own or next to other work.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import lmdb

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import slices
from gate.core.ids import shown
from gate.core.model import FOREVER_MS, ListKind, UserFacts
from gate.core.revision import NOWHERE, Position
from gate.errors import ChangelogBroken
from gate.replica import envs, file_check, files
from gate.replica.files import report_damage
from gate.replica.layout import (
    LIST_TAG,
    META_PARTITIONS,
    NO_LISTS,
    NO_RECORD,
    app_record_key,
    check_settings_key,
    current_facts,
    facts_name,
    list_prefix,
    position_key,
    unpack_position,
    unpack_until,
    unpack_user_record,
    user_prefix,
)
from gate.replica.loader import load_snapshot
from gate.replica.ports import ChangeSource
from gate.replica.writer import FactsFile

MAX_SHOWN = 20
# Time for the Replica to reach the snapshot's Positions; a running one is there already.
CATCH_UP_MS = 10_000
LOOK_EVERY_S = 0.05
COMPARED_AT_ONCE = 20_000
READ_BLOCK_MS = 50

Fact = tuple[bytes, bytes]
_FOR_CHECKS = b"C"
_PAST_THE_END: Fact = (b"\xff" * 200, b"")


class Compared(NamedTuple):
    """One fact on each side, None if absent. `owner` without a list is a User's own facts, "" is the App's record.

    `member` with "" as the owner is the part of that record for checks.
    """

    owner: bytes
    kind: ListKind | None
    member: bytes
    in_replica: bytes | UserFacts | None
    in_redis: bytes | UserFacts | None


class Difference(NamedTuple):
    """One fact that differs, as text for people; "" if absent."""

    app: str
    fact: str
    in_replica: str
    in_redis: str


class Report(NamedTuple):
    """The result of `verify`. `problem` is the reason if the two could not be compared."""

    facts: int
    differences: int
    first: tuple[Difference, ...]
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether every fact is equal on both sides."""
        return not self.differences and not self.problem


async def verify(directory: Path, source: ChangeSource) -> Report:
    """Compare a Replica with Redis, fact by fact. Raises `ReplicaMissing`, `StoreUnavailable`, `ReplicaFull`."""
    facts = current_facts(directory)
    damage = await _damage(facts)
    if damage and not damage.startswith(file_check.DOES_NOT_ADD_UP):
        return Report(0, 0, (), f"{facts.name} is damaged: {damage}")
    report = await _against_redis(directory, source)
    if damage and report.equal:
        return report._replace(problem=f"{facts.name} is damaged, though its facts equal Redis: {damage}")
    return report


async def _damage(facts: Path) -> str | None:
    """Return the damage that a child finds in the file. It is also reported to the replicator."""
    try:
        damage = await file_check.scrubbed(facts)
    except TimeoutError:
        return None
    if damage and files.is_current(facts):
        report_damage(facts, damage)
    return damage


async def _against_redis(directory: Path, source: ChangeSource) -> Report:
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
            # The copy can follow to the held commit, but never go back.
            if _is_ahead(held, copy.positions):
                await _follow_to(held, source, copy)
                with copy.read() as redis:
                    return await compare(replica, redis)
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
    """Return whether `held` has reached `copy`. Raises `ChangelogBroken` if they can't be compared."""
    if len(held) != len(copy):
        raise ChangelogBroken("partitions", f"{len(held)} here, {len(copy)} in Redis")
    for partition, (ours, theirs) in enumerate(zip(held, copy, strict=True)):
        if ours.epoch != theirs.epoch:
            raise ChangelogBroken("epoch", f"Partition {partition} has another epoch here")
    return all(ours.seq >= theirs.seq for ours, theirs in zip(held, copy, strict=True))


async def _follow_to(held: Sequence[Position], source: ChangeSource, copy: FactsFile) -> None:
    deadline_ms = monotonic_ms() + CATCH_UP_MS
    while any(ours.seq < theirs.seq for ours, theirs in zip(copy.positions, held, strict=True)):
        changes = await source.read(copy.positions, READ_BLOCK_MS)
        # Only up to the held commit: a Change past it would look like a difference.
        wanted = {p: [change for change in batch if change.seq <= held[p].seq] for p, batch in changes.items()}
        for portion in slices(wanted):
            copy.apply(portion, wall_ms())
        if not changes and monotonic_ms() > deadline_ms:
            raise ChangelogBroken("behind", "Redis no longer has what is applied here")
    for partition, (ours, theirs) in enumerate(zip(copy.positions, held, strict=True)):
        if ours.tip != theirs.tip:
            raise ChangelogBroken("forked", f"Partition {partition} has another write at {ours.seq} here")


async def compare(replica: lmdb.Transaction, redis: lmdb.Transaction) -> Report:
    facts = differences = 0
    first: list[Difference] = []
    for app in sorted(apps_in(replica) | apps_in(redis)):
        for fact in facts_of_both(replica, redis, app):
            facts += 1
            if facts % COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if fact.in_replica != fact.in_redis:
                differences += 1
                if len(first) < MAX_SHOWN:
                    first.append(_difference(app, fact))
    return Report(facts, differences, tuple(first))


def apps_in(txn: lmdb.Transaction) -> set[str]:
    """Return the keys of all Apps in a facts file."""
    return {key.decode() for key, _ in _range(txn, b"A")}


def facts_of_both(replica: lmdb.Transaction, redis: lmdb.Transaction, app: str) -> Iterator[Compared]:
    """Yield each fact of an App. Numbers of Apps and lists are local to a file, so they are not compared."""
    ours, theirs = (_get(txn, app_record_key(app)) or b"" for txn in (replica, redis))
    # Without the App's number, which is local to a file.
    yield Compared(b"", None, b"", ours[4:] or None, theirs[4:] or None)
    here, there = (_for_checks(txn, app) for txn in (replica, redis))
    if here is not None and here != there:  # a service older than 0.4 writes no such key
        yield Compared(b"", None, _FOR_CHECKS, here, there)
    # A merge of two sorted sequences: memory does not grow with the file.
    for user, in_replica, in_redis in _merged(_users(replica, ours), _users(redis, theirs)):
        our, their = (NO_RECORD if packed is None else unpack_user_record(packed) for packed in (in_replica, in_redis))
        yield Compared(user, None, b"", in_replica and our.facts, in_redis and their.facts)
        for kind in LIST_TAG:
            for member, our_end, their_end in _merged(_list(replica, our.lists, kind), _list(redis, their.lists, kind)):
                yield Compared(user, kind, member, our_end, their_end)


def _for_checks(txn: lmdb.Transaction, app: str) -> bytes | None:
    """Return the part of an App's record for checks, without CRC-32 and number, which are local to this file."""
    settings = _get(txn, check_settings_key(app))
    return settings and settings[8:]


def _users(txn: lmdb.Transaction, app_record: bytes) -> Iterator[Fact]:
    return _range(txn, user_prefix(int.from_bytes(app_record[:4], "big"))) if app_record else iter(())


def _list(txn: lmdb.Transaction, lists: int, kind: ListKind) -> Iterator[Fact]:
    return iter(()) if lists == NO_LISTS else _range(txn, list_prefix(lists, kind))


def _range(txn: lmdb.Transaction, prefix: bytes) -> Iterator[Fact]:
    """Yield keys that begin with `prefix`, without it, and their values."""
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
    # The sentinel sorts after every real key.
    while (key := min(our_key, their_key)) != _PAST_THE_END[0]:
        here, there = our_key == key, their_key == key
        yield key, our_value if here else None, their_value if there else None
        if here:
            our_key, our_value = next(ours, _PAST_THE_END)
        if there:
            their_key, their_value = next(theirs, _PAST_THE_END)


def _difference(app: str, fact: Compared) -> Difference:
    ours, theirs = (_text(fact, value) for value in (fact.in_replica, fact.in_redis))
    if not fact.owner:
        name = "the App's record" + (", as checks read it" if fact.member else "")
        return Difference(app, name, ours, theirs)
    if fact.kind is None:
        return Difference(app, f"User {shown(fact.owner)}", ours, theirs)
    name = "blacklist" if fact.kind is ListKind.BLACKLIST else "whitelist"
    return Difference(app, f"{name} of {shown(fact.owner)}: {shown(fact.member)}", ours, theirs)


def _text(fact: Compared, value: bytes | UserFacts | None) -> str:
    if value is None:
        return ""
    if isinstance(value, UserFacts):
        return str(value)
    if fact.kind is None:
        return shown(value)
    until_ms = unpack_until(value)
    return "without end" if until_ms >= FOREVER_MS else f"until {until_ms}"


def _get(txn: lmdb.Transaction, key: bytes) -> bytes | None:
    return cast("bytes | None", txn.get(key))
