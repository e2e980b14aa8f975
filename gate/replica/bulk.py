"""Putting a snapshot into a facts file that nobody reads yet: all of it sorted, each page filled once.

A scan of Redis may show a list twice, and shows an entry's end apart from the entry, so nothing is counted or settled before
everything of one owner lies side by side. Then the list is put in order and its size becomes one more fact of its owner.

Everything here runs in the event loop's own thread, in steps of some 50 ms between which the caller lets others run: py-lmdb
gives up the interpreter lock for every single put, so that puts in a thread beside a busy loop are a hundred times slower.

Called by the loader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from gate.core.codec import pack_user, unpack_user
from gate.core.model import NO_FACTS, AppFacts
from gate.core.snapshot import ListPart, Part, UserPart
from gate.replica.layout import LIST_TAG, NO_END, list_prefix, owner_part, pack_until, user_prefix
from gate.replica.sorter import BATCH_KEYS, Run, Sorter
from gate.replica.writer import FactsFile

PUTS_A_COMMIT = 50_000
"""In order, this takes some 20 ms."""

_FACTS = b"f"
"""Ends the run of a User's own facts; the tag of a list ends the run with its size."""
_SIZE_FIELD = {tag: f"{kind.name.lower()}_size" for kind, tag in LIST_TAG.items()}
_prefix_of = itemgetter(0)


class SnapshotBuild:
    """Takes the parts of one snapshot and builds `file`, which must have no facts yet."""

    def __init__(self, file: FactsFile, scratch: Path, batch_keys: int = BATCH_KEYS) -> None:
        """`scratch` is a directory for what does not fit into memory; `close` deletes what is in it."""
        self._file = file
        self._apps: dict[str, AppFacts] = {}
        self._numbers: dict[str, int] = {}
        self._lists = Sorter(scratch / "lists", batch_keys)
        self._users = Sorter(scratch / "users", batch_keys)

    def add(self, parts: Sequence[Part]) -> int:
        """Take parts in; returns how many facts they are."""
        lists: list[Run] = []
        users: list[Run] = []
        entries = 0
        for part in parts:
            if isinstance(part, ListPart):
                prefix = list_prefix(part.kind, self._number(part.app)) + owner_part(part.owner)
                lists.append((prefix, pack_until(part.until_ms), part.members))
                entries += len(part.members)
            elif isinstance(part, UserPart):
                users.append((user_prefix(self._number(part.app)) + part.user, pack_user(part.facts), (_FACTS,)))
            else:
                self._apps[part.facts.key] = part.facts
        self._lists.add(lists, entries)
        self._users.add(users, len(users))
        return entries + len(parts)

    def steps(self) -> Iterator[None]:
        """Write everything that was taken in, a short step at a time."""
        yield from self._put_lists()
        yield from self._put_users()
        self._put_apps()

    def close(self) -> None:
        """Delete what was spilled."""
        self._lists.close()
        self._users.close()

    def _number(self, app_key: str) -> int:
        return self._numbers.setdefault(app_key, len(self._numbers))

    def _put_lists(self) -> Iterator[None]:
        for batch in self._lists.batches():
            items: list[tuple[bytes, bytes]] = []
            sizes: list[Run] = []
            for prefix, runs in groupby(batch, key=_prefix_of):
                entries = _entries(prefix, list(runs))
                sizes.append((_owner_key(prefix), len(entries).to_bytes(4, "big"), (prefix[:1],)))
                items += entries
            self._users.add(sizes, len(sizes))
            yield from self._put(items, append=True)

    def _put_users(self) -> Iterator[None]:
        for batch in self._users.batches():
            users = ((key, _merged_user(runs)) for key, runs in groupby(batch, key=_prefix_of))
            yield from self._put([(key, packed) for key, packed in users if packed], append=False)

    def _put(self, items: list[tuple[bytes, bytes]], *, append: bool) -> Iterator[None]:
        for start in range(0, len(items), PUTS_A_COMMIT):
            with self._file.write(journal=False) as txn:
                txn.raw.cursor().putmulti(items[start : start + PUTS_A_COMMIT], append=append)
            yield

    def _put_apps(self) -> None:
        """Put the Apps' records and numbers.

        An App whose Users the snapshot showed, but not its own record, was being removed. It counts as removed: if such
        an App is created again later, the facts left here must not come back with it.
        """
        with self._file.write(journal=False) as txn:
            for app_key in self._apps:
                self._number(app_key)
            for app_key, number in self._numbers.items():
                txn.give_number(app_key, number)
                if app_key in self._apps:
                    txn.set_app(self._apps[app_key])
                else:
                    txn.remove_app(app_key, number)


def _owner_key(prefix: bytes) -> bytes:
    """The key of the facts of the User that owns the list whose keys begin with `prefix`."""
    return b"U" + prefix[1:4] + prefix[5:]


def _entries(prefix: bytes, runs: Sequence[Run]) -> list[tuple[bytes, bytes]]:
    """One list, in order. Where an entry came both with and without an end, the end stands."""
    if len(runs) == 1:
        _, value, members = runs[0]
        return [(prefix + member, value) for member in sorted(set(members))]
    ends: dict[bytes, bytes] = {}
    for _, value, members in sorted(runs, key=lambda run: run[1] != NO_END):
        ends.update(dict.fromkeys(members, value))
    return [(prefix + member, ends[member]) for member in sorted(ends)]


def _merged_user(runs: Iterator[Run]) -> bytes:
    """A User's own facts and list sizes as one value; "" if there is nothing to keep."""
    facts = NO_FACTS
    sizes: dict[str, int] = {}
    for _, value, (what,) in runs:
        if what == _FACTS:
            facts = unpack_user(value)
        else:
            sizes[_SIZE_FIELD[what]] = int.from_bytes(value, "big")
    merged = msgspec.structs.replace(facts, **sizes)
    return b"" if merged == NO_FACTS else pack_user(merged)
