"""A naive model of the facts, compared with the Replica: plain dicts, one obvious line for each kind of Change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from zlib import crc32

import lmdb

from gate.core.changes import Change
from gate.core.codec import pack_app, unpack_app
from gate.core.model import NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.replica.layout import (
    META_CHECKSUM,
    META_NEXT_LIST,
    META_PURGE_PREFIX,
    list_prefix,
    pack_check_record,
    pack_checksum,
    unpack_until,
    unpack_user_record,
    user_prefix,
)
from gate.replica.writer import FactsFile

Entry = tuple[str, ListKind, bytes, bytes]


@dataclass
class Facts:
    """All facts that can be seen, in a form that two sources of them can be compared in."""

    apps: dict[str, AppFacts] = field(default_factory=dict)
    users: dict[tuple[str, bytes], UserFacts] = field(default_factory=dict)
    entries: dict[Entry, int] = field(default_factory=dict)


class Model:
    """The facts, as the design describes them."""

    def __init__(self) -> None:
        self.apps: dict[str, AppFacts] = {}
        self.own: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.entries: dict[Entry, int] = {}

    def apply(self, change: Change) -> None:
        own = self.own.setdefault((change.app, change.user), {})
        match change.kind:
            case "app-set":
                self.apps[change.app] = unpack_app(change.value)
            case "app-removed":
                self._drop_app(change.app)
            case "user-registered":
                own["registered"] = True
            case "user-deactivated" | "user-reactivated":
                own["deactivated"] = change.kind == "user-deactivated"
            case "ban-imposed" | "ban-lifted":
                own["banned_until_ms"] = change.until_ms
            case "mute-imposed" | "mute-lifted":
                own["muted_until_ms"] = change.until_ms
            case "tokens-revoked":
                own["tokens_valid_from_ms"] = int(change.value)
            case "whitelist-switched":
                own["whitelist_on"] = change.value == b"1"
            case "blocked" | "admitted":
                for member in change.members:
                    self.entries[change.app, kind_of(change), change.user, member] = change.until_ms
            case "unblocked" | "unadmitted":
                for member in change.members:
                    self.entries.pop((change.app, kind_of(change), change.user, member), None)
            case "user-erased":
                own.clear()
                if change.value:
                    own["deactivated"] = True
                    own["registered"] = change.value == b"dr"
                self.entries = {e: u for e, u in self.entries.items() if (e[0], e[2]) != (change.app, change.user)}

    def _drop_app(self, app: str) -> None:
        self.apps.pop(app, None)
        self.own = {key: own for key, own in self.own.items() if key[0] != app}
        self.entries = {entry: until for entry, until in self.entries.items() if entry[0] != app}

    def facts(self) -> Facts:
        """The facts that readers must see: those of existing Apps, with counted sizes."""
        keys = {*self.own, *((app, owner) for app, _, owner, _ in self.entries)}
        users = {key: self._user(key) for key in keys if key[0] in self.apps}
        return Facts(
            dict(self.apps),
            {key: facts for key, facts in users.items() if facts != NO_FACTS},
            {entry: until for entry, until in self.entries.items() if entry[0] in self.apps},
        )

    def _user(self, key: tuple[str, bytes]) -> UserFacts:
        sizes = [sum(e[:3] == (key[0], kind, key[1]) for e in self.entries) for kind in ListKind]
        return UserFacts(**self.own.get(key, {}), blacklist_size=sizes[0], whitelist_size=sizes[1])

    def parts(self) -> list[Part]:
        """A snapshot. Entries and their ends are separate, as in Redis."""
        parts: list[Part] = [AppPart(facts) for facts in self.apps.values()]
        parts += [UserPart(app, user, UserFacts(**own)) for (app, user), own in self.own.items() if own]
        for (app, kind, owner, member), until_ms in self.entries.items():
            parts.append(ListPart(app, kind, owner, [member], FOREVER))
            if until_ms < FOREVER:
                parts.append(ListPart(app, kind, owner, [member], until_ms))
        return parts

    def part(self, subject: Subject) -> Part | None:
        """The present parts of one subject."""
        match subject:
            case ("app", key):
                return AppPart(self.apps[key]) if key in self.apps else None
            case ("user", app, user):
                own = self.own.get((app, user))
                return UserPart(app, user, UserFacts(**own)) if own else None
            case ("entry", app, kind, owner, member):
                there = (app, kind, owner, member) in self.entries
                return ListPart(app, kind, owner, [member], FOREVER) if there else None
            case ("end", app, kind, owner, member):
                until_ms = self.entries.get((app, kind, owner, member), FOREVER)
                return ListPart(app, kind, owner, [member], until_ms) if until_ms < FOREVER else None
        raise AssertionError(subject)


Subject = tuple[Any, ...]


def subject_of(part: Part) -> Subject:
    """The subject of a part, so that a scan returns each once, with its present facts."""
    match part:
        case AppPart():
            return ("app", part.facts.key)
        case UserPart():
            return ("user", part.app, part.user)
        case ListPart():
            ends = part.until_ms < FOREVER
            return ("end" if ends else "entry", part.app, part.kind, part.owner, part.members[0])


FOREVER = (1 << 53) - 1


def kind_of(change: Change) -> ListKind:
    return ListKind.BLACKLIST if change.kind.endswith("blocked") else ListKind.WHITELIST


def facts_in(file: FactsFile) -> Facts:
    """Everything a reader of this file can see."""
    with file.read() as txn:
        if not _range(txn, META_PURGE_PREFIX):  # while an App is purged, its records count what may be gone
            check_numbers(txn)
        check_checksum(txn)
        check_settings(txn)
        return facts_seen(txn)


def facts_seen(txn: lmdb.Transaction) -> Facts:
    facts = Facts()
    for key, value in _range(txn, b"A"):
        app, number = key.decode(), int.from_bytes(value[:4], "big")
        facts.apps[app] = unpack_app(value[4:])
        for user, packed in _range(txn, user_prefix(number)):
            facts.users[app, user], lists = unpack_user_record(packed)
            for kind in ListKind:
                for member, until in _range(txn, list_prefix(lists, kind)):
                    facts.entries[app, kind, user, member] = unpack_until(until)
    return facts


def list_numbers(txn: lmdb.Transaction) -> dict[bytes, int]:
    """The list number in each User's record, by the record's key, removed Apps' too; only of Users that have one."""
    records = {key: unpack_user_record(packed).lists for key, packed in _range(txn, b"U")}
    return {key: number for key, number in records.items() if number}


def check_checksum(txn: lmdb.Transaction) -> None:
    """The facts add up to the checksum that the writer maintained."""
    found = {bytes(key): bytes(value) for key, value in txn.cursor() if bytes(key) != META_CHECKSUM}
    assert txn.get(META_CHECKSUM) == pack_checksum(sum(crc32(key + value) for key, value in found.items()))


def check_settings(txn: lmdb.Transaction) -> None:
    """The record for checks matches the App's record, and no other App has one."""
    records = {key: pack_check_record(record, unpack_app(record[4:])) for key, record in _range(txn, b"A")}
    assert dict(_range(txn, b"C")) == records


def check_numbers(txn: lmdb.Transaction) -> None:
    """A number belongs to one User, has as many entries as the record says, and no entry has another number."""
    numbers = list_numbers(txn)
    assert len(set(numbers.values())) == len(numbers)
    assert max(numbers.values(), default=0) < int.from_bytes(txn.get(META_NEXT_LIST, b"\x01"), "big")
    entries = Counter(rest[:5] for rest, _ in _range(txn, b"L"))
    expected: Counter[bytes] = Counter()
    for key, packed in _range(txn, b"U"):
        facts, number = unpack_user_record(packed)
        assert bool(number) == bool(facts.blacklist_size or facts.whitelist_size), key
        if number:
            expected[list_prefix(number, ListKind.BLACKLIST)[1:]] = facts.blacklist_size
            expected[list_prefix(number, ListKind.WHITELIST)[1:]] = facts.whitelist_size
    assert entries == +expected


def _range(txn: lmdb.Transaction, prefix: bytes) -> list[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    found = []
    if cursor.set_range(prefix):
        for key, value in cast("Iterator[tuple[bytes, bytes]]", iter(cursor)):  # the stubs allow for memoryviews
            if not key.startswith(prefix):
                break
            found.append((key[len(prefix) :], value))
    return found


class Changes:
    """Writes Changes in order, as a Partition's Changelog holds them."""

    def __init__(self, epoch: str = "e" * 16, app: str = "app") -> None:
        self.epoch = epoch
        self.app = app
        self.log: list[Change] = []
        self._writes = 0

    def __call__(
        self,
        kind: str,
        user: bytes = b"",
        members: Sequence[bytes] = (),
        *,
        until_ms: int = 0,
        value: bytes = b"",
        app: str | None = None,
    ) -> Change:
        self._writes += 1
        write_id = f"{id(self) & 0xFFFFFFFF:08x}{self._writes:08x}"
        previous = self.log[-1] if self.log else None
        change = Change(
            previous.seq + 1 if previous else 1, kind, 1, write_id, previous.write_id if previous else "",
            app or self.app, user, until_ms, tuple(members), value,
        )  # fmt: skip
        self.log.append(change)
        return change

    def app_set(self, app: str | None = None, **settings: Any) -> Change:
        key = app or self.app
        return self("app-set", app=key, value=pack_app(AppFacts(key=key, secrets=("s",), **settings)))
