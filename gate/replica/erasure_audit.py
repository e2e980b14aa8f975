"""The Replica's part of the erasure audit: every key that can hold the User's id is checked.

Data that LMDB deleted is invisible to every reader, but its pages are overwritten only when they are reused. A rebuilt file
(`gate replica rebuild`) holds none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import cast

import lmdb

from gate.core.model import ListKind, UserFacts
from gate.core.occurrence import Occurrence, Tally
from gate.replica import envs
from gate.replica.layout import (
    NO_LISTS,
    app_record_key,
    current_facts,
    list_prefix,
    unpack_journal,
    unpack_user_record,
    user_prefix,
)

_LIST_NAMES = {ListKind.BLACKLIST: "black", ListKind.WHITELIST: "white"}


def occurrences(directory: Path, app_key: str, user: bytes) -> list[Occurrence]:
    """Return every place in the Replica's facts that holds the id. Raises `ReplicaMissing`, `ReplicaForeign`."""
    path = current_facts(directory)
    env = envs.acquire(path)
    try:
        with env.begin() as txn:
            return _found(txn, app_key, user).all()
    finally:
        envs.release(path, env)


def _found(txn: lmdb.Transaction, app_key: str, user: bytes) -> Tally:
    tally = Tally()
    record = cast("bytes | None", txn.get(app_record_key(app_key)))
    if record is None:
        return tally
    number = int.from_bytes(record[:4], "big")
    _check_record(txn, number, user, tally)
    _check_lists(txn, number, user, tally)
    tally.add("the journal of recent commits", True, _in_journals(txn, number, user))
    return tally


def _check_record(txn: lmdb.Transaction, number: int, user: bytes, tally: Tally) -> None:
    packed = cast("bytes | None", txn.get(user_prefix(number) + user))
    if packed is None:
        return
    facts = unpack_user_record(packed).facts
    # The facts that an erasure keeps, see `core.changes.left_by_erasure`.
    kept = UserFacts(
        deactivated=facts.deactivated,
        registered=facts.deactivated and facts.registered,
        tokens_valid_from_ms=facts.tokens_valid_from_ms,
    )
    tally.add("its own record: that it is out of use, since when Tokens are valid", True)
    if facts != kept:
        tally.add("its own record: other facts", False)


def _check_lists(txn: lmdb.Transaction, number: int, user: bytes, tally: Tally) -> None:
    """An entry can only be found through its owner's record, so all of the App's Users are read."""
    prefix = user_prefix(number)
    cursor = txn.cursor()
    if not cursor.set_range(prefix):
        return
    for key, packed in cast("list[tuple[bytes, bytes]]", cursor.iternext()):
        if not key.startswith(prefix):
            return
        lists = unpack_user_record(packed).lists
        if lists == NO_LISTS:
            continue
        for kind in ListKind:
            # `endswith` is a cheap filter before the slice.
            if key.endswith(user) and key[len(prefix) :] == user:
                tally.add(f"its own {_LIST_NAMES[kind]}list", False, _size(txn, list_prefix(lists, kind)))
            if txn.get(list_prefix(lists, kind) + user) is not None:
                tally.add(f"{_LIST_NAMES[kind]}lists of others", True)


def _size(txn: lmdb.Transaction, prefix: bytes) -> int:
    cursor = txn.cursor()
    if not cursor.set_range(prefix):
        return 0
    keys = cast("Iterator[bytes]", cursor.iternext(keys=True, values=False))
    return len(list(takewhile(lambda key: key.startswith(prefix), keys)))


def _in_journals(txn: lmdb.Transaction, number: int, user: bytes) -> int:
    cursor = txn.cursor()
    if not cursor.set_range(b"J"):
        return 0
    found = 0
    for key, value in cast("list[tuple[bytes, bytes]]", cursor.iternext()):
        if not key.startswith(b"J"):
            break
        # "*" names no User, and "" is an empty journal.
        if value not in (b"*", b""):
            found += (number, user) in list(unpack_journal(value))
    return found
