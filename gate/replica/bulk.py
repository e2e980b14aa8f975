"""Loading of a snapshot into a facts file that has no readers yet: sorted, so that each page is filled once.

A scan of Redis may return a list twice, and returns an entry's end apart from the entry. Nothing is counted or decided before
all facts of one User are together. Then its lists are numbered, sorted and counted. Numbers are assigned in the order of Users,
so entries come out in the order of their keys. The Users' records sort after all entries, so they are kept back.

Everything here runs in the event loop's thread, in steps of some 50 ms between which the caller lets other tasks run. py-lmdb
releases the interpreter lock for every single put, so puts in a thread next to a busy loop are a hundred times slower.

Called by the loader.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from gate.core.model import NO_FACTS, AppFacts
from gate.core.snapshot import ListPart, Part, UserPart
from gate.errors import ReplicaFull
from gate.replica.layout import (
    FIRST_LIST,
    LIST_NUMBERS,
    LIST_TAG,
    META_NEXT_LIST,
    NO_LISTS,
    lists_prefix,
    pack_next_list,
    pack_until,
    pack_user_record,
    unpack_user_record,
    user_prefix,
)
from gate.replica.sorter import BATCH_KEYS, Backlog, Pair, Run, Sorter
from gate.replica.writer import FactsFile

# In key order this takes some 20 ms.
PUTS_A_COMMIT = 50_000

# Tag of a run with a User's own facts. A run of entries begins with the tag of its list, followed by their end.
_FACTS = b"f"
_SIZE_FIELD = {tag: f"{kind.name.lower()}_size" for kind, tag in LIST_TAG.items()}
_NO_FACTS = pack_user_record(NO_FACTS, NO_LISTS)
_subject_of = itemgetter(0)


class SnapshotBuild:
    """Collects the parts of one snapshot and builds `file`, which must have no facts yet."""

    def __init__(self, file: FactsFile, scratch: Path, batch_keys: int = BATCH_KEYS) -> None:
        """`scratch` is a directory for what does not fit into memory; `close` deletes its contents."""
        self._file = file
        self._apps: dict[str, AppFacts] = {}
        self._numbers: dict[str, int] = {}
        self._scratch = scratch
        self._runs = Sorter(scratch / "runs", batch_keys)
        self._records = Backlog(scratch / "records", batch_keys)
        self._next_list = FIRST_LIST

    def add(self, parts: Sequence[Part]) -> int:
        """Add parts. Returns the number of facts in them."""
        runs: list[Run] = []
        entries = 0
        for part in parts:
            if isinstance(part, ListPart):
                owner = user_prefix(self._number(part.app)) + part.owner
                runs.append((owner, LIST_TAG[part.kind] + pack_until(part.until_ms), part.members))
                entries += len(part.members)
            elif isinstance(part, UserPart):
                packed = pack_user_record(part.facts, NO_LISTS)
                runs.append((user_prefix(self._number(part.app)) + part.user, _FACTS + packed, ()))
            else:
                self._apps[part.facts.key] = part.facts
        self._runs.add(runs, entries + len(runs))
        return entries + len(parts)

    def steps(self) -> Iterator[None]:
        """Write everything that was added, in short steps."""
        # All entries first: their keys (L) sort before those of Users (U).
        for batch in self._runs.batches():
            yield from self._put(self._settled(batch))
        for records in self._records.batches():
            yield from self._put(records)
        self._put_apps()

    def close(self) -> None:
        """Delete the spilled files."""
        self._runs.close()
        self._records.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _number(self, app_key: str) -> int:
        return self._numbers.setdefault(app_key, len(self._numbers))

    def _settled(self, batch: list[Run]) -> list[Pair]:
        """Return the entries of whole Users, in key order. The Users' records go to the backlog."""
        entries: list[Pair] = []
        records: list[Pair] = []
        for user, runs in groupby(batch, key=_subject_of):
            facts = _NO_FACTS
            lists: dict[bytes, list[Run]] = {}
            for run in runs:
                if run[1].startswith(_FACTS):
                    facts = run[1][1:]
                else:
                    lists.setdefault(run[1][:1], []).append(run)
            if lists:
                facts = self._number_lists(facts, lists, entries)
            # A User without facts has no record, as in the writer.
            if facts != _NO_FACTS:
                records.append((user, facts))
        self._records.add(records)
        return entries

    def _number_lists(self, facts: bytes, lists: dict[bytes, list[Run]], entries: list[Pair]) -> bytes:
        """Assign one User's lists the next number and add their entries. Returns the User's record."""
        number = self._next_list
        if number >= LIST_NUMBERS:
            raise ReplicaFull(f"more than {LIST_NUMBERS - FIRST_LIST} Users have entries on their lists")
        # Numbers of a new file are dense, so entries come out in key order.
        self._next_list = number + 1
        prefix = lists_prefix(number)
        sizes: dict[str, int] = {}
        # "B" sorts before "W", as in the keys.
        for tag in sorted(lists):
            found = _entries(prefix + tag, lists[tag])
            sizes[_SIZE_FIELD[tag]] = len(found)
            entries += found
        return pack_user_record(msgspec.structs.replace(unpack_user_record(facts).facts, **sizes), number)

    def _put(self, pairs: list[Pair]) -> Iterator[None]:
        for start in range(0, len(pairs), PUTS_A_COMMIT):
            # Nothing reads this file yet, so no reader needs a journal.
            with self._file.write(journal=False) as txn:
                txn.append(pairs[start : start + PUTS_A_COMMIT])
            yield

    def _put_apps(self) -> None:
        """Write the Apps' records and numbers, and the next list number.

        An App whose Users are in the snapshot, but not its own record, was being removed. It counts as removed: if such
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
            txn.put(META_NEXT_LIST, pack_next_list(self._next_list))


def _entries(prefix: bytes, runs: Sequence[Run]) -> list[Pair]:
    """Return one list in key order. If an entry came both with and without an end, the end counts."""
    # The usual case; `set` because a SCAN may return a member twice.
    if len(runs) == 1:
        _, header, members = runs[0]
        until = header[1:]
        return [(prefix + member, until) for member in sorted(set(members))]
    ends: dict[bytes, bytes] = {}
    for _, header, members in sorted(runs, key=lambda run: len(run[1])):  # headers without an end are shorter: first
        ends.update(dict.fromkeys(members, header[1:]))
    return [(prefix + member, ends[member]) for member in sorted(ends)]
