"""The compiled core, after a self-test that it decides as `core.decide` does: `trusted_core`.

The first reader of a process writes a small temporary facts file with Users of every kind, and compares the core's and the
table's answers to 512 questions about them, in some five milliseconds. If one answer differs, or the file can't be written,
this process uses the Python code. So a faulty build is noticed before it answers a request.

Called by `opening` and `app_reading`; by the roles and `gate doctor`, which report `state`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import product
from types import ModuleType
from typing import NamedTuple

import lmdb

from gate import native
from gate.core.decide import decide
from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, UserFacts
from gate.replica.layout import (
    LAYOUT_VERSION,
    META_LAYOUT,
    list_prefix,
    pack_check_settings,
    pack_until,
    pack_user_record,
    user_prefix,
)

_MAP_BYTES = 1 << 24
APP_NUMBER = 0x010203
_ENDS_MS, _BEFORE_MS = 5_000, 4_999
_CACHED_USERS = 1_000


class Entry(NamedTuple):
    """One list entry."""

    kind: ListKind
    owner: bytes
    member: bytes
    until_ms: int


class Question(NamedTuple):
    """May `sender` message `recipient` at that moment?"""

    sender: bytes
    recipient: bytes
    now_ms: int


class Facts(NamedTuple):
    """One App's facts, in the form that `decide` requires."""

    app: AppFacts
    users: Mapping[bytes, UserFacts]
    entries: Mapping[tuple[ListKind, bytes, bytes], int]

    @classmethod
    def of(cls, app: AppFacts, users: Mapping[bytes, UserFacts], entries: Iterable[Entry]) -> Facts:
        """Return the facts that `write_facts_file` writes."""
        return cls(app, users, {entry[:3]: entry.until_ms for entry in entries})

    def user(self, user_id: bytes) -> UserFacts:
        """Return the User's facts."""
        return self.users.get(user_id, NO_FACTS)

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """Return the end of the entry; 0 if it does not exist."""
        return self.entries.get((kind, owner, member), 0)


@cache
def trusted_core() -> ModuleType | None:
    """Return the core's module if it exists and passed the self-test, else None."""
    return native.core if native.core is not None and not _fault(native.core) else None


def state() -> tuple[bool, str]:
    """Return whether the core answers checks in this process, and the reason if not."""
    if trusted_core() is not None:
        return True, ""
    return False, native.why_not or f"not used: {_fault(native.core)}"


def write_facts_file(path: str, users: Mapping[bytes, UserFacts], entries: Iterable[Entry]) -> None:
    """Write a facts file with these facts of one App, with the keys that a check reads."""
    numbers = {user: number for number, user in enumerate(users, 1)}
    pairs = [(user_prefix(APP_NUMBER) + user, pack_user_record(facts, numbers[user])) for user, facts in users.items()]
    pairs.append((META_LAYOUT, LAYOUT_VERSION))
    pairs += [
        (list_prefix(numbers[entry.owner], entry.kind) + entry.member, pack_until(entry.until_ms)) for entry in entries
    ]
    with (
        lmdb.open(path, subdir=False, map_size=_MAP_BYTES, sync=False, lock=False) as env,
        env.begin(write=True) as txn,
    ):
        for key, value in pairs:
            txn.put(key, value)


def disagreements(core: ModuleType, path: str, facts: Facts, questions: Iterable[Question]) -> list[Question]:
    """Return the questions that core and table answer differently: the word from file and from cache, and the full answer."""
    checks, app = core.Checks(_CACHED_USERS, os.urandom(16)), facts.app
    wrong = []
    with lmdb.open(path, subdir=False, readonly=True, map_size=_MAP_BYTES, lock=False) as env, env.begin() as txn:
        snapshot = core.Snapshot(path)
        try:
            snapshot.is_open = snapshot.at(txn.id())
            checks.adopt(snapshot, pack_check_settings(APP_NUMBER, app))
            for question in questions:
                expected = decide(facts, *question)
                # Twice: the first call reads the file, the second its cache.
                words = {checks.word(*question) for _ in range(2)}
                if words != {expected.word} or checks.decide(*question) != expected:
                    wrong.append(question)
        finally:
            snapshot.close()
    return wrong


@contextmanager
def _scratch_file() -> Iterator[str]:
    """Yield the path of an empty file: in memory if possible, since a container may have no writable directory."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        # LMDB opens it through /proc like any other file.
        descriptor = os.memfd_create("gate-asked")
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="gate-") as directory:
            yield os.path.join(directory, "asked.mdb")


@cache
def _fault(core: ModuleType) -> str:
    """Return the core's fault; "" for none."""
    # Ids of 5 to 64 bytes, so that both kinds of cache slots are tested.
    people = {
        b"plain": NO_FACTS,
        b"known": UserFacts(registered=True, tokens_valid_from_ms=7),
        b"banned": UserFacts(registered=True, banned_until_ms=_ENDS_MS),
        b"muted": UserFacts(registered=True, muted_until_ms=FOREVER_MS),
        b"gone": UserFacts(registered=True, deactivated=True),
        b"guarded": UserFacts(registered=True, whitelist_on=True, whitelist_size=1),
        b"choosy" * 5: UserFacts(registered=True, blacklist_size=2),
        b"both" * 16: UserFacts(registered=True, whitelist_on=True, blacklist_size=1, whitelist_size=1),
    }
    entries = [
        Entry(ListKind.WHITELIST, b"guarded", b"known", FOREVER_MS),
        Entry(ListKind.BLACKLIST, b"choosy" * 5, b"known", FOREVER_MS),
        Entry(ListKind.BLACKLIST, b"choosy" * 5, b"guarded", _ENDS_MS),
        Entry(ListKind.BLACKLIST, b"both" * 16, b"known", FOREVER_MS),
        Entry(ListKind.WHITELIST, b"both" * 16, b"known", _ENDS_MS),
    ]
    # All settings that change the rules, in one App.
    strict = {"require_registered": True, "list_policy": "both", "exempt": frozenset(["muted", "known"])}
    apps = [
        AppFacts(key="asked", secrets=(), **settings)
        for settings in ({}, strict, {"whitelists": "on"}, {"whitelists": "off"})
    ]
    questions = [Question(*pair, now_ms) for pair in product(people, people) for now_ms in (_BEFORE_MS, _ENDS_MS)]
    try:
        with _scratch_file() as path:
            write_facts_file(path, people, entries)
            for app in apps:
                if disagreements(core, path, Facts.of(app, people, entries), questions):
                    return "an answer of its self-test differs from the rules; build it again (make setup)"
    except (OSError, ValueError, TypeError, AttributeError, lmdb.Error) as fault:
        return f"its self-test could not run: {fault}"
    return ""
