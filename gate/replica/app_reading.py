"""The fast decision: one App's facts as one thread reads them. This is the hot path of the product.

An `AppReading` decides from:

- A cache of two answers that `core.decide` allows to be computed in advance, independent of the time: whether this sender is
  clear of rules 1 to 4, and what rules 5 to 8 leave to look up for this recipient. One entry serves a User in both roles.
- At most one list entry, read from LMDB by its full key. Nothing about a pair is ever cached.
- In every other case the table itself, `core.decide.decide`, in the same transaction.

The compiled core (`gate.native`), where available, does the same in the same transaction with caches of its own: `checks`.

The cache is valid for one commit. The `Reading` that owns this object invalidates entries when it sees another commit.

An App in shadow mode is answered `allowed`, and its denials are counted (`shadow`); `decide` of the core module, on this object
as its `FactsView`, still gives the verdict of the rules.

Invariants: used inside the Reading's bracket, by its thread. Unreadable data raises `ReplicaError`, never LMDB's errors.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import lmdb

from gate.clock import wall_ms
from gate.core.codec import unpack_app
from gate.core.decide import Asks, decide, recipient_asks, sender_is_clear
from gate.core.ids import user_id as checked_id
from gate.core.model import NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.verdict import ALLOWED, Verdict, Word
from gate.errors import AppUnknown, InvalidInput
from gate.native import Checks
from gate.replica.layout import (
    NO_RECORD,
    UserRecord,
    app_record_key,
    list_prefix,
    pack_check_settings,
    unpack_until,
    unpack_user_record,
    user_prefix,
)
from gate.replica.native_core import trusted_core
from gate.replica.shadow import ALLOWED_VERDICT, ShadowTally
from gate.sealing import opened_or_without

if TYPE_CHECKING:
    from gate.replica.reading import Reading

# Raised by decoding of bytes that this version did not write.
UNREADABLE = (struct.error, ValueError, IndexError, InvalidInput)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A User's precomputed answers. `entry_prefix` None: no rule denies as a recipient; "": evaluate the table."""

    clear: bool
    entry_prefix: bytes | None
    word_if_absent: Word | None
    word_if_endless: Word | None


# The number of an App whose record was not read from the current facts; no journal contains it.
NO_NUMBER = -1

# A User whose facts deny nothing and need no lookup: most Users. One shared object, so that it is compared by identity.
PLAIN = Standing(True, None, None, None)


def _columns(pairs: list[Any]) -> tuple[Iterable[str], Iterable[str]]:
    return map(itemgetter(0), pairs), map(itemgetter(1), pairs)


class AppReading:
    """One App's facts as one thread reads them. Also the `FactsView` for `decide`."""

    __slots__ = (
        "_cached_users",
        "_counted",
        "_key",
        "_moves",
        "_raw",
        "_reading",
        "_standings",
        "_users",
        "_without_facts",
        "app",
        "checks",
        "has_own_age_limit",
        "number",
        "shadow",
    )

    def __init__(self, reading: Reading, key: str, cached_users: int) -> None:
        self._reading = reading
        self._key = app_record_key(key)
        self._cached_users = cached_users
        self._standings: dict[bytes, Standing] = {}
        # No value of `moves`, so the first `sync` reads the record, and sets what is only declared here.
        self._moves = -1
        self.app: AppFacts
        """The settings as of the last `sync`: another object whenever they changed.

        A caller that found its secret among them compares the object: with others by now, the secret may be dropped."""
        self.has_own_age_limit: bool
        self._users: bytes
        self._without_facts: Standing
        self._counted: list[tuple[Word, int]] = []
        self.shadow: ShadowTally | None = None
        """What counts this App's denials while it is in shadow mode."""
        core = trusted_core()
        self.checks: Checks | None = None if core is None else core.Checks(cached_users, os.urandom(16))
        """The compiled core's decisions of this App; usable inside the bracket while `is_set`."""
        self.forget_all()

    def sync(self) -> bool:
        """Read the App's record again if the Replica moved. Returns False if the App does not exist (any more)."""
        if self._moves != self._reading.moves:
            raw = self._reading.read(self._key) or b""
            if raw != self._raw:
                self._adopt(raw)
            self._moves = self._reading.moves  # last, so that an unreadable record is read again
            if self.checks is not None and self._raw:
                self.checks.sync()
        return bool(self._raw)

    def _adopt(self, raw: bytes) -> None:
        self.forget_all()
        if raw:
            try:
                self.app = opened_or_without(unpack_app(raw[4:]))
            except UNREADABLE as fault:
                raise self._reading.damaged(fault) from fault
            self.number = int.from_bytes(raw[:4], "big")
            self.has_own_age_limit = self.app.has_own_age_limit
            self._counted = self.take_counts()  # what the core answered so far was under the old mode
            self.shadow = self._reading.shadows.tally(self.app.key) if self.app.shadow else None
            # Built once: the hot path only appends the id.
            self._users = user_prefix(self.number)
            # Most Users have no facts, and they all share one entry.
            self._without_facts = self._standing(NO_RECORD)
            if self.checks is not None and self._reading.snapshot is not None:
                self.checks.adopt(self._reading.snapshot, pack_check_settings(self.number, self.app))
            self._raw = raw  # last: a step above that fails is repeated

    def take_counts(self) -> list[tuple[Word, int]]:
        """Return the core's answers by word since the last call. In shadow mode it answers only what is allowed."""
        counts = [] if self.checks is None else self.checks.take_counts()
        if self.shadow is not None:
            self.shadow.checks += sum(count for _, count in counts)
        counts, self._counted = self._counted + counts, []
        return counts

    def forget(self, user: bytes) -> None:
        """Drop the cached entry of one User."""
        self._standings.pop(user, None)
        if self.checks is not None:
            self.checks.forget(user)

    def forget_all(self) -> None:
        """Drop all cached entries and the App's record: in another file its number may belong to another App."""
        self._standings.clear()
        # Makes `sync` read the record again even if its bytes are unchanged.
        self._raw = b""
        self.number = NO_NUMBER
        if self.checks is not None:
            self.checks.forget_all()

    def user(self, user_id: bytes) -> UserFacts:
        """Read the User's facts from this transaction."""
        packed = self._reading.read(self._users + user_id)
        return NO_FACTS if packed is None else self._unpacked(packed).facts

    def _unpacked(self, packed: bytes) -> UserRecord:
        try:
            return unpack_user_record(packed)
        except UNREADABLE as fault:
            raise self._reading.damaged(fault) from fault

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """Return the end of the entry, or 0 if it does not exist."""
        packed = self._reading.read(self._users + owner)
        lists = NO_RECORD.lists if packed is None else self._unpacked(packed).lists
        value = self._reading.read(list_prefix(lists, kind) + member)
        return 0 if value is None else unpack_until(value)

    # What these methods return is what a check is answered: of an App in shadow mode, `allowed`.

    def decide(self, sender: bytes, recipient: bytes, now_ms: int) -> Verdict:
        """Return the full decision at a moment."""
        if self.checks is not None and self.checks.is_set:
            try:
                verdict = Verdict(*self.checks.decide(sender, recipient, now_ms))
            except UNREADABLE as fault:
                raise self._refused((sender, recipient), fault) from fault
        else:
            verdict = decide(self, sender, recipient, now_ms)
        if self.shadow is None:
            return verdict
        return verdict if verdict.word == self.shadow.answer(sender, recipient, verdict.word) else ALLOWED_VERDICT

    def words(self, senders: Sequence[bytes], recipients: Sequence[bytes]) -> list[Word]:
        """Return the Verdict words for pairs, given as two columns of equal length.

        Most pairs are of two plain Users. Two passes in C find those; only the others are evaluated one by one.
        """
        if self.checks is not None and self.checks.is_set:
            try:
                decided: list[Word] = self.checks.words(senders, recipients)
                return self._answered(senders, recipients, decided)
            except UNREADABLE as fault:
                raise self._refused(chain.from_iterable(zip(senders, recipients, strict=True)), fault) from fault
        cached = self._standings.get
        words: list[Word] = [ALLOWED] * len(senders)
        try:
            # `map` of a bound method runs in C; the loop body is skipped for pairs of plain Users.
            for at, (s, r) in enumerate(zip(map(cached, senders), map(cached, recipients), strict=True)):
                if s is not PLAIN or r is not PLAIN:
                    words[at] = self._word_of(senders[at], recipients[at], s, r)
        except lmdb.Error as fault:
            raise self._reading.damaged(fault) from fault
        return self._answered(senders, recipients, words)

    def _answered(self, senders: Iterable[bytes], recipients: Iterable[bytes], words: list[Word]) -> list[Word]:
        return words if self.shadow is None else self.shadow.answer_many(senders, recipients, words)

    def words_of(self, pairs: list[Any]) -> tuple[list[Word], dict[str, int]]:
        """Return the Verdict words for `[sender, recipient]` pairs of text, and the count of each word.

        Raises `TypeError` if any item has another form.
        """
        if self.checks is not None and self.checks.is_set:
            try:
                words, counts = self.checks.words_of(pairs)
            except UNREADABLE as fault:
                raise self._refused(chain.from_iterable(pairs), fault) from fault
            if self.shadow is not None:
                words = self.shadow.answer_many(*_columns(pairs), words)
                counts = {ALLOWED: len(words)} if words else {}
            return words, counts
        if not pairs:
            return [], {}
        # Two set() calls check the types and lengths of all pairs in C.
        if set(map(type, pairs)) != {list} or set(map(len, pairs)) != {2}:
            raise TypeError("a pair consists of two ids")
        words = self.words(*(list(map(str.encode, column)) for column in _columns(pairs)))
        return words, Counter[str](words)

    def words_to(self, sender: bytes, recipients: Sequence[bytes]) -> list[Word]:
        """Return the Verdict words for one sender and many recipients."""
        return self.answered_to(sender, recipients, self.decided_to(sender, recipients))

    def answered_to(self, sender: bytes, recipients: Sequence[bytes], words: list[Word]) -> list[Word]:
        """Return what is answered for the words of `decided_to`; in shadow mode it is counted here."""
        return self._answered(repeat(sender), recipients, words)

    def decided_to(self, sender: bytes, recipients: Sequence[bytes]) -> list[Word]:
        """As `words_to`, before shadow mode: for callers that may decide a part again."""
        if self.checks is not None and self.checks.is_set:
            try:
                return self.checks.words_to(sender, recipients)
            except UNREADABLE as fault:
                raise self._refused((sender, *recipients), fault) from fault
        # A Standing is always true, so `or` distinguishes a cached one from None.
        s = self._standings.get(sender) or self._load(sender)
        words: list[Word] = [ALLOWED] * len(recipients)
        try:
            for at, r in enumerate(map(self._standings.get, recipients)):
                if r is not PLAIN or s is not PLAIN:
                    words[at] = self._word_of(sender, recipients[at], s, r)
        except lmdb.Error as fault:
            raise self._reading.damaged(fault) from fault
        return words

    def _word_of(self, sender: bytes, recipient: bytes, s: Standing | None, r: Standing | None) -> Word:
        """Return one pair's word, given the cached entries of both."""
        if s is None:
            s = self._load(sender)
        if r is None:
            r = self._load(recipient)
        # Without a clear sender or a known answer, the table below decides.
        if s.clear:
            prefix = r.entry_prefix
            if prefix is None:
                return ALLOWED
            if prefix:
                value = self._reading.get(prefix + sender)
                # A missing entry and one without end (an empty value) have known answers; an end needs the clock.
                word = r.word_if_absent if value is None else None if value else r.word_if_endless
                if word is not None:
                    return word
        return decide(self, sender, recipient, wall_ms()).word

    def word(self, sender: bytes, recipient: bytes) -> Word:
        """Return the Verdict word for one pair."""
        if self.checks is not None and self.checks.is_set:
            try:
                word: Word = self.checks.word(sender, recipient)
            except UNREADABLE as fault:
                raise self._refused((sender, recipient), fault) from fault
        else:
            cached = self._standings.get
            try:
                word = self._word_of(sender, recipient, cached(sender), cached(recipient))
            except lmdb.Error as fault:
                raise self._reading.damaged(fault) from fault
        return word if self.shadow is None else self.shadow.answer(sender, recipient, word)

    def _refused(self, ids: Iterable[bytes], fault: Exception) -> Exception:
        """Return the exception for a call that the core refused: about the first invalid id, else about a damaged file."""
        # The core reports only that an id is invalid; this finds the first one and its words.
        for one in ids:
            checked_id(one)
        return self._reading.damaged(fault)

    def word_now(self, sender: bytes, recipient: bytes, under: AppFacts | None = None) -> Word | None:
        """As `word`, in a bracket of its own. Raises `AppUnknown` if the App was removed.

        None, and nothing was counted, if the App has other settings than `under` by now: see `app`.
        """
        reading = self._reading
        reading.refresh()
        try:
            if not self.sync():
                raise AppUnknown(f"the App {self.app.key!r} was removed")
            return self.word(sender, recipient) if under is None or self.app is under else None
        finally:
            reading.release()

    def _load(self, user_id: bytes) -> Standing:
        checked_id(user_id)  # only here: a cached id was checked when it was loaded
        standings = self._standings
        if len(standings) >= self._cached_users:
            # Starting over is cheaper than an eviction order, and the next checks fill the cache again.
            standings.clear()
        packed = self._reading.read(self._users + user_id)
        standing = self._without_facts if packed is None else self._standing(self._unpacked(packed))
        standings[user_id] = standing
        return standing

    def _standing(self, record: UserRecord) -> Standing:
        facts, lists = record  # an empty whitelist has no list number; no entry is ever found under its prefix
        clear = sender_is_clear(self.app, facts)
        asks = recipient_asks(self.app, facts)
        if asks is Asks.NOTHING:
            return PLAIN if clear else Standing(False, None, None, None)
        if asks is Asks.EVERYTHING:
            return Standing(clear, b"", None, None)
        # A list never refuses an exempt sender, so only the word that permits is known in advance.
        lists_bind_all = not self.app.exempt
        if asks is Asks.BLACKLIST:
            prefix = list_prefix(lists, ListKind.BLACKLIST)
            return Standing(clear, prefix, ALLOWED, "blacklisted" if lists_bind_all else None)
        prefix = list_prefix(lists, ListKind.WHITELIST)
        return Standing(clear, prefix, "not-whitelisted" if lists_bind_all else None, ALLOWED)
