"""One thread's place in the Replica, and the quick decision: the hot path of the whole product.

A `Reading` brackets work between `refresh` (a read transaction on the newest commit, about 0.15 us) and `release` (so that no
old page stays pinned while the thread idles). Inside the bracket an `AppReading` answers checks. What it decides from:

- A cache of the two questions that `core.decide` allows to be answered ahead of time and of the time of day: is this sender
  clear of rules 1 to 4, and what do rules 5 to 8 leave to look at for this recipient. One entry serves a User in both roles.
- At most one list entry, read from LMDB by its full key. Nothing about a pair is ever cached.
- In every other case the table itself, `core.decide.decide`, over the same transaction.

The cache is valid for one commit. When `refresh` sees another, the journal that each commit carries names the Users it
touched, and only those are forgotten; any gap in the journal forgets all. That is exact, not a timeout: facts and journal are
one transaction. A facts file that was replaced says so by `successor`; `refresh` then moves to the newer file.

Invariants: single-threaded; nothing read outside the bracket; a change acknowledged before `refresh` is seen after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb

from gate.clock import wall_ms
from gate.core.codec import unpack_app, unpack_user
from gate.core.decide import Asks, decide, recipient_asks, sender_is_clear
from gate.core.ids import user_id as checked_id
from gate.core.model import NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.verdict import Verdict, Word
from gate.errors import AppUnknown
from gate.replica import envs
from gate.replica.layout import (
    JOURNAL_EVERYTHING,
    META_PARTITIONS,
    META_SUCCESSOR,
    PositionRecord,
    app_record_key,
    current_facts,
    journal_key,
    list_prefix,
    owner_part,
    position_key,
    unpack_journal,
    unpack_position,
    unpack_until,
    user_prefix,
)

DEFAULT_CACHED_USERS = 1 << 20
"""Users an App keeps in a thread's cache before it starts over; about 120 bytes each, only for Users that were asked about."""

_JOURNAL_REACH = 256
"""Commits to catch up by journal; past this, emptying the cache is cheaper."""

ALLOWED: Word = "allowed"


@dataclass(frozen=True, slots=True)
class Standing:
    """A User's answers ahead of time. `entry_prefix` None: as a recipient nothing can deny; "": ask the table."""

    clear: bool
    entry_prefix: bytes | None
    word_if_absent: Word | None
    word_if_endless: Word | None


PLAIN = Standing(True, None, None, None)
"""A User whose facts deny nothing and ask nothing: most Users, so one shared object, compared by identity."""


class AppReading:
    """One App's facts as one thread reads them. Also the `FactsView` that `decide` asks."""

    __slots__ = (
        "_cached_users",
        "_key",
        "_lists",
        "_moves",
        "_raw",
        "_reading",
        "_standings",
        "_users",
        "app",
        "number",
    )

    def __init__(self, reading: Reading, key: str, cached_users: int) -> None:
        self._reading = reading
        self._key = app_record_key(key)
        self._cached_users = cached_users
        self._standings: dict[bytes, Standing] = {}
        self._raw = b""
        self._moves = -1
        self.number = 0
        self.app = AppFacts(key=key, secrets=())
        self._users = b""
        self._lists: dict[ListKind, bytes] = {}

    def sync(self) -> bool:
        """Look at the App's record if the Replica moved since; False if there is no such App (any more)."""
        if self._moves != self._reading.moves:
            self._moves = self._reading.moves
            raw = self._reading.get(self._key) or b""
            if raw != self._raw:
                self._adopt(raw)
        return bool(self._raw)

    def _adopt(self, raw: bytes) -> None:
        self._raw = raw
        self._standings.clear()
        if raw:
            self.number = int.from_bytes(raw[:4], "big")
            self.app = unpack_app(raw[4:])
            self._users = user_prefix(self.number)
            self._lists = {kind: list_prefix(kind, self.number) for kind in ListKind}

    def forget(self, user: bytes) -> None:
        """Drop what is cached of one User."""
        self._standings.pop(user, None)

    def forget_all(self) -> None:
        """Drop everything cached, the App's own record included."""
        self._standings.clear()
        self._raw = b""

    def user(self, user_id: bytes) -> UserFacts:
        """The User's facts, fresh from this transaction."""
        packed = self._reading.get(self._users + user_id)
        return unpack_user(packed) if packed else NO_FACTS

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """When the entry ends, or 0 if there is none."""
        value = self._reading.get(self._lists[kind] + owner_part(owner) + member)
        return 0 if value is None else unpack_until(value)

    def decide(self, sender: bytes, recipient: bytes, now_ms: int) -> Verdict:
        """The full decision at a moment."""
        return decide(self, sender, recipient, now_ms)

    def words(self, name: bytes, checks: Iterable[Sequence[bytes]]) -> list[Word]:
        """The Verdict words for (name, sender, recipient) sequences: as parsed commands are, so nothing is copied.

        `ValueError` if one has another name or not exactly two arguments: looking here is half the price of looking before.
        """
        cached = self._standings.get
        load = self._load
        get = self._reading.get
        words: list[Word] = []
        append = words.append
        for called, sender, recipient in checks:
            if called != name:
                raise ValueError("not one command over and over")
            s = cached(sender) or load(sender)
            r = cached(recipient) or load(recipient)
            if s.clear:  # inlined rather than shared with `words_to`: a call here costs a tenth of the throughput
                prefix = r.entry_prefix
                if prefix is None:
                    append(ALLOWED)
                    continue
                if prefix:
                    value = get(prefix + sender)
                    word = r.word_if_absent if value is None else None if value else r.word_if_endless
                    if word is not None:
                        append(word)
                        continue
            append(decide(self, sender, recipient, wall_ms()).word)
        return words

    def words_to(self, sender: bytes, recipients: Iterable[bytes]) -> list[Word]:
        """The Verdict words for one sender and many recipients."""
        cached = self._standings.get
        load = self._load
        if not (cached(sender) or load(sender)).clear:
            now_ms = wall_ms()
            return [decide(self, sender, recipient, now_ms).word for recipient in recipients]
        get = self._reading.get
        words: list[Word] = []
        append = words.append
        for recipient in recipients:
            r = cached(recipient) or load(recipient)
            prefix = r.entry_prefix
            if prefix is None:
                append(ALLOWED)
                continue
            word = None
            if prefix:
                value = get(prefix + sender)
                word = r.word_if_absent if value is None else None if value else r.word_if_endless
            append(decide(self, sender, recipient, wall_ms()).word if word is None else word)
        return words

    def word(self, sender: bytes, recipient: bytes) -> Word:
        """The Verdict word for one pair."""
        cached = self._standings.get
        s = cached(sender) or self._load(sender)
        r = cached(recipient) or self._load(recipient)
        if s.clear:
            prefix = r.entry_prefix
            if prefix is None:
                return ALLOWED
            if prefix:
                value = self._reading.get(prefix + sender)
                word = r.word_if_absent if value is None else None if value else r.word_if_endless
                if word is not None:
                    return word
        return decide(self, sender, recipient, wall_ms()).word

    def word_now(self, sender: bytes, recipient: bytes) -> Word:
        """`word` in a bracket of its own, for a caller with a single question. `AppUnknown` if the App was removed."""
        reading = self._reading
        reading.refresh()
        try:
            if not self.sync():
                raise AppUnknown(f"the App {self.app.key!r} was removed")
            return self.word(sender, recipient)
        finally:
            reading.release()

    def _load(self, user_id: bytes) -> Standing:
        checked_id(user_id)  # here and not earlier: an id that is cached was checked when it was loaded
        standings = self._standings
        if len(standings) >= self._cached_users:
            standings.clear()
        standing = self._standing(user_id, self.user(user_id))
        standings[user_id] = standing
        return standing

    def _standing(self, user_id: bytes, facts: UserFacts) -> Standing:
        clear = sender_is_clear(self.app, facts)
        asks = recipient_asks(self.app, facts)
        if asks is Asks.NOTHING:
            return PLAIN if clear else Standing(False, None, None, None)
        if asks is Asks.EVERYTHING:
            return Standing(clear, b"", None, None)
        # An exempt sender is never refused by a list, so only the word that lets it pass is known ahead of time.
        lists_bind_all = not self.app.exempt
        if asks is Asks.BLACKLIST:
            prefix = self._lists[ListKind.BLACKLIST] + owner_part(user_id)
            return Standing(clear, prefix, ALLOWED, "blacklisted" if lists_bind_all else None)
        prefix = self._lists[ListKind.WHITELIST] + owner_part(user_id)
        return Standing(clear, prefix, "not-whitelisted" if lists_bind_all else None, ALLOWED)


class Reading:
    """One thread's bracketed access to the newest facts of a Replica directory."""

    __slots__ = ("_apps", "_cached_users", "_directory", "_env", "_path", "_seen", "_txn", "get", "moves")

    def __init__(self, directory: Path, cached_users: int = DEFAULT_CACHED_USERS) -> None:
        """Open the current facts; `ReplicaMissing` or `ReplicaForeign` if there are none to read."""
        self._directory = directory
        self._cached_users = cached_users
        self._apps: dict[str, AppReading] = {}
        self._path = current_facts(directory)
        self._env = envs.acquire(self._path)
        self._seen = -1
        self._txn: lmdb.Transaction | None = None
        self.moves = 0
        self.refresh()
        self.release()

    def refresh(self) -> None:
        """Begin to read at the newest commit, dropping from the caches what it changed."""
        if self._txn is not None:
            self._txn.abort()
        txn = self._txn = self._env.begin()
        self.get = txn.get
        seen = txn.id()
        if seen != self._seen:
            self._moved(seen)

    def release(self) -> None:
        """End the bracket: nothing may be read until the next `refresh`."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None

    def close(self) -> None:
        """Release, and give the file back."""
        self.release()
        envs.release(self._path)

    def app(self, key: str) -> AppReading | None:
        """The App's reading inside this bracket, or None if there is no such App."""
        known = self._apps.get(key)
        if known is None:
            known = AppReading(self, key, self._cached_users)
            if not known.sync():
                return None  # not remembered: a peer could fill memory with keys that do not exist
            self._apps[key] = known
        return known if known.sync() else None

    def position(self, partition: int) -> PositionRecord | None:
        """How far this Replica is in a Partition's Changelog; None before its first fact."""
        value = self.get(position_key(partition))
        return None if value is None else unpack_position(value)

    @property
    def partitions(self) -> int:
        """How many Partitions the facts were loaded from."""
        return int(self.get(META_PARTITIONS) or b"0")

    @property
    def file(self) -> Path:
        """The facts file being read."""
        return self._path

    def _moved(self, seen: int) -> None:
        self.moves += 1
        if self.get(META_SUCCESSOR) is not None and self._swapped():
            return
        touched = self._touched(self._seen, seen)
        self._seen = seen
        if touched is None:
            for app in self._apps.values():
                app.forget_all()
        else:
            by_number = {app.number: app for app in self._apps.values()}
            for number, user in touched:
                if number in by_number:
                    by_number[number].forget(user)

    def _touched(self, since: int, until: int) -> list[tuple[int, bytes]] | None:
        """The Users that the commits after `since` touched; None if that can't be told."""
        if since < 0 or not 0 < until - since <= _JOURNAL_REACH:
            return None
        touched: list[tuple[int, bytes]] = []
        for transaction_id in range(since + 1, until + 1):
            value = self.get(journal_key(transaction_id))
            if value is None or value == JOURNAL_EVERYTHING:
                return None
            touched.extend(unpack_journal(value))
        return touched

    def _swapped(self) -> bool:
        """Move to the file that replaced this one; False while that is still the file being read."""
        path = current_facts(self._directory)
        if path == self._path:
            return False
        env = envs.acquire(path)
        self.release()
        envs.release(self._path)
        self._path, self._env, self._seen = path, env, -1
        self.refresh()
        return True
