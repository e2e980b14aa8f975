"""The effect of each kind of Change on the facts, inside one write transaction: a table from kind to puts and deletes.

Every put and delete goes through this module, because the file's checksum is maintained with it (`layout.META_CHECKSUM`): the
contribution of a key is subtracted before the key is changed and added afterwards.

Users are read once, changed in memory and written once per transaction, since bulk Changes contain many for one User. A list's
entries are found through its owner's record, which holds their number, so the number is part of the record in memory. Every
commit carries its journal: the Users whose facts it touched, so that readers drop only those from their caches. The caller
commits after `flush`, or aborts; afterwards no part of this object may be used again.

Called only by `writer.FactsFile`; the loader passes its parts through the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import cast
from zlib import crc32

import lmdb
import msgspec

from gate.core.changes import Change, left_by_erasure
from gate.core.codec import pack_app, unpack_app
from gate.core.model import NO_FACTS, AppFacts, ListKind, UserFacts
from gate.errors import ChangelogBroken
from gate.replica.layout import (
    FIRST_LIST,
    JOURNAL_COMMITS,
    JOURNAL_EVERYTHING,
    LIST_NUMBERS,
    META_NEXT_APP,
    META_NEXT_LIST,
    META_PURGE_PREFIX,
    NO_LISTS,
    NO_RECORD,
    UserRecord,
    app_number_key,
    app_record_key,
    check_settings_key,
    checksum_of,
    journal_key,
    list_prefix,
    lists_prefix,
    pack_app_record,
    pack_check_record,
    pack_journal,
    pack_next_list,
    pack_until,
    pack_user_record,
    unpack_user_record,
    user_prefix,
)

# Past this a reader forgets everything instead: an import touches more Users than any reader has cached.
MAX_JOURNAL_USERS = 512

_SIZE_FIELD = {ListKind.BLACKLIST: "blacklist_size", ListKind.WHITELIST: "whitelist_size"}
_changed = msgspec.structs.replace


@dataclass
class FactsTxn:
    """The facts of one file, as seen and changed by one write transaction."""

    raw: lmdb.Transaction
    numbers: dict[str, int | None]
    """The Apps' numbers known so far (None: removed). This object adds to them."""
    retired: bool = False
    checksum_change: int = 0
    """Sum of this transaction's changes to the file's checksum."""
    _users: dict[bytes, UserRecord] = field(default_factory=dict)
    _next_list: int | None = None

    @cached_property
    def _cursor(self) -> lmdb.Cursor:
        return self.raw.cursor()

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        old = self.raw.replace(key, value)
        # crc32 of key and value together: the second argument continues the first checksum.
        self.checksum_change += crc32(value, crc32(key))
        if old is not None:
            self.checksum_change -= crc32(old, crc32(key))

    def delete(self, key: bytes) -> bool:
        """Delete one key. Returns whether it existed."""
        old = self.raw.pop(key)
        if old is None:
            return False
        self.checksum_change -= crc32(old, crc32(key))
        return True

    def append(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Append many keys that sort after all existing ones, in order. A put costs a tenth this way."""
        if pairs:
            self.checksum_change += checksum_of(pairs)
            _, added = self.raw.cursor().putmulti(pairs, append=True)
            assert added == len(pairs), "keys that do not sort after all others are left out"

    def apply(self, change: Change) -> None:
        """Apply one Change to the facts."""
        # The only kind that needs no App number first.
        if change.kind == "app-set":
            self.set_app(unpack_app(change.value))
            return
        number = self.numbers[change.app] if change.app in self.numbers else self.number_of(change.app)
        if number is None:
            return
        if (own := _OWN_FACTS.get(change.kind)) is not None:
            fact, value_of = own
            self.change_user(number, change.user, **{fact: value_of(change)})
        else:
            _APPLY[change.kind](self, number, change)

    def flush(self, *, journal: bool) -> None:
        """Write the changed Users, and the journal: which Users this commit touches. Call it once, before the commit."""
        # In key order, so that neighbouring Users touch each page once.
        for key in sorted(self._users):
            facts, lists = self._users[key]
            if facts == NO_FACTS:
                self.delete(key)
            else:
                self.put(key, pack_user_record(facts, lists))
        if self._next_list is not None:
            self.put(META_NEXT_LIST, pack_next_list(self._next_list))
        if journal:
            transaction_id, are_few = self.raw.id(), len(self._users) <= MAX_JOURNAL_USERS
            # Readers clear their caches if it names no User.
            self.put(journal_key(transaction_id), pack_journal(self._users) if are_few else JOURNAL_EVERYTHING)
            if transaction_id > JOURNAL_COMMITS:
                self.delete(journal_key(transaction_id - JOURNAL_COMMITS))

    def number_of(self, app_key: str) -> int | None:
        """Return the App's number in this file; assigns one to an unknown App. None for a removed App."""
        if app_key not in self.numbers:
            value = self.raw.get(app_number_key(app_key))
            if value is None:
                self.give_number(app_key, self._next_number())
            else:
                self.numbers[app_key] = int.from_bytes(value, "big") if value else None
        return self.numbers[app_key]

    def give_number(self, app_key: str, number: int) -> None:
        """Assign a number to the App in this file. The loader assigns numbers before the file has any."""
        self.numbers[app_key] = number
        self.put(app_number_key(app_key), number.to_bytes(4, "big"))
        self.put(META_NEXT_APP, max(number + 1, self._next_number()).to_bytes(4, "big"))

    def set_app(self, facts: AppFacts) -> None:
        """Create or replace an App's record."""
        number = self.number_of(facts.key)
        if number is None:
            raise ChangelogBroken("recreated", f"App {facts.key} was removed and exists again")
        record = pack_app_record(number, pack_app(facts))
        self.put(app_record_key(facts.key), record)
        self.put(check_settings_key(facts.key), pack_check_record(record, facts))

    def remove_app(self, app_key: str, number: int) -> None:
        """Hide the App from readers at once. `purge` deletes its facts step by step, since they may be millions."""
        self.delete(app_record_key(app_key))
        self.delete(check_settings_key(app_key))
        self.put(app_number_key(app_key), b"")
        self.put(META_PURGE_PREFIX + number.to_bytes(4, "big"), b"")
        # None is a tombstone: Changes of the removed App are ignored from now on.
        self.numbers[app_key] = None
        self.retired = True

    def user(self, key: bytes) -> UserRecord:
        """Return a User's record by key, with the changes of this transaction."""
        record = self._users.get(key)
        if record is None:
            packed = cast("bytes | None", self.raw.get(key))
            record = unpack_user_record(packed) if packed is not None else NO_RECORD
        return record

    def change_user(self, number: int, user: bytes, **facts: int) -> None:
        """Set some of a User's own facts; `flush` writes its record."""
        key = user_prefix(number) + user
        known, lists = self.user(key)
        self._users[key] = UserRecord(_changed(known, **facts), lists)

    def add_entries(self, number: int, kind: ListKind, owner: bytes, members: Sequence[bytes], until_ms: int) -> None:
        """Put entries on a list. Existing entries get the new end and are not counted again."""
        key = user_prefix(number) + owner
        facts, known_lists = self.user(key)
        # The first entry gives the User its list number.
        lists = known_lists or self._new_lists()
        prefix, value = list_prefix(lists, kind), pack_until(until_ms)
        # Locals and one sum for the loop: a bulk Change has a thousand members.
        replace, added, change = self.raw.replace, 0, 0
        for entry in sorted({prefix + member for member in members}):
            old, entry_crc = replace(entry, value), crc32(entry)
            change += crc32(value, entry_crc)
            if old is None:
                added += 1
            else:
                change -= crc32(old, entry_crc)
        self.checksum_change += change
        self._resize(key, UserRecord(facts, lists), kind, added)

    def remove_entries(self, number: int, kind: ListKind, owner: bytes, members: Sequence[bytes]) -> None:
        """Remove entries from a list. Entries that are not on it are not counted."""
        key = user_prefix(number) + owner
        record = self.user(key)
        if record.lists != NO_LISTS:
            prefix, delete = list_prefix(record.lists, kind), self.delete
            self._resize(key, record, kind, -sum(delete(prefix + member) for member in members))

    def erase_user(self, number: int, user: bytes, left: UserFacts) -> None:
        """Delete a User's own lists and own facts, except those `left`. Entries on other Users' lists stay: they are theirs."""
        key = user_prefix(number) + user
        self._delete_lists(self.user(key).lists, limit=None)
        self._users[key] = UserRecord(left, NO_LISTS)

    def purge(self, limit: int) -> bool:
        """Delete up to `limit` facts of removed Apps. Returns False if none was left."""
        purge_key = self._key_from(META_PURGE_PREFIX)
        if not purge_key.startswith(META_PURGE_PREFIX):
            return False
        prefix = user_prefix(int.from_bytes(purge_key[len(META_PURGE_PREFIX) :], "big"))
        # Restarts at the prefix: deleted keys are gone, so no position has to be remembered.
        while limit > 0:
            key = self._key_from(prefix)
            if not key.startswith(prefix):
                self.delete(purge_key)
                return True
            limit -= self._purge_user(key, cast("bytes", self._cursor.value()), limit)
        return True

    def _next_number(self) -> int:
        return int.from_bytes(self.raw.get(META_NEXT_APP, b""), "big")

    def _new_lists(self) -> int:
        """Return a list number that no User of this file ever had."""
        if self._next_list is None:
            self._next_list = int.from_bytes(self.raw.get(META_NEXT_LIST, b""), "big") or FIRST_LIST
        number = self._next_list
        if number >= LIST_NUMBERS:
            raise ChangelogBroken("list-numbers", "this file has used all list numbers; a new file starts again at 1")
        self._next_list = number + 1
        return number

    def _resize(self, key: bytes, record: UserRecord, kind: ListKind, by: int) -> None:
        if by:
            field = _SIZE_FIELD[kind]
            facts = _changed(record.facts, **{field: getattr(record.facts, field) + by})
            # The last entry releases the number; it is never used again.
            has_entries = facts.blacklist_size or facts.whitelist_size
            self._users[key] = UserRecord(facts, record.lists if has_entries else NO_LISTS)

    def _purge_user(self, key: bytes, packed: bytes, limit: int) -> int:
        """Delete up to `limit` of one User's facts, its record last: without the record its entries can't be found."""
        deleted = self._delete_lists(unpack_user_record(packed).lists, limit)
        if deleted < limit:
            self.delete(key)
            deleted += 1
        return deleted

    def _key_from(self, start: bytes) -> bytes:
        """Return the first key at or after `start`, with the cursor on it; "" past the last."""
        return cast("bytes", self._cursor.key()) if self._cursor.set_range(start) else b""

    def _delete_lists(self, lists: int, limit: int | None) -> int:
        if lists == NO_LISTS:
            return 0
        prefix, cursor, deleted = lists_prefix(lists), self._cursor, 0
        key = self._key_from(prefix)
        while deleted != limit and key.startswith(prefix):
            self.checksum_change -= crc32(cast("bytes", cursor.value()), crc32(key))
            # LMDB's delete moves the cursor to the next key.
            key = cast("bytes", cursor.key()) if cursor.delete() else b""
            deleted += 1
        return deleted


def _adds(kind: ListKind) -> Callable[[FactsTxn, int, Change], None]:
    return lambda txn, number, change: txn.add_entries(number, kind, change.user, change.members, change.until_ms)


def _removes(kind: ListKind) -> Callable[[FactsTxn, int, Change], None]:
    return lambda txn, number, change: txn.remove_entries(number, kind, change.user, change.members)


# By kind: the fact of its User that it sets, and to which value.
_OWN_FACTS: dict[str, tuple[str, Callable[[Change], int]]] = {
    "user-registered": ("registered", lambda change: change.value != b"0"),
    "user-deactivated": ("deactivated", lambda _: True),
    "user-reactivated": ("deactivated", lambda _: False),
    "ban-imposed": ("banned_until_ms", attrgetter("until_ms")),
    "ban-lifted": ("banned_until_ms", lambda _: 0),
    "mute-imposed": ("muted_until_ms", attrgetter("until_ms")),
    "mute-lifted": ("muted_until_ms", lambda _: 0),
    "tokens-revoked": ("tokens_valid_from_ms", lambda change: int(change.value)),
    "whitelist-switched": ("whitelist_on", lambda change: change.value == b"1"),
}

_APPLY: dict[str, Callable[[FactsTxn, int, Change], None]] = {
    "app-removed": lambda txn, number, change: txn.remove_app(change.app, number),
    "user-erased": lambda txn, number, change: txn.erase_user(number, change.user, left_by_erasure(change.value)),
    "blocked": _adds(ListKind.BLACKLIST),
    "unblocked": _removes(ListKind.BLACKLIST),
    "admitted": _adds(ListKind.WHITELIST),
    "unadmitted": _removes(ListKind.WHITELIST),
}
