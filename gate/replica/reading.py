"""One thread's place in the Replica: which commit of which facts file it reads, and what that makes its caches forget.

A `Reading` brackets work between `refresh` (a read transaction on the newest commit, about 0.15 us) and `release` (so that no
old page stays pinned while the thread idles). Inside the bracket an `AppReading` answers checks.

When `refresh` sees another commit, the journal that each commit carries names the Users it touched, and only those are
forgotten; any gap in the journal forgets all. That is exact, not a timeout: facts and journal are one transaction. Another
facts file may be put in use: the status page says so in one word, compared at every `refresh`, and the old file names its
`successor`; either makes `refresh` move, or go on with the old facts while the new ones can't be opened.

`stale_ms` is the age of the facts, and is asked before they are read: a process that is paused in between may call new facts
old, and never old facts fresh. The status page's stamp counts only for the file that it names, and only while that file is in
use.

Invariants: single-threaded; nothing read outside the bracket; a change acknowledged before `refresh` is seen after it.
Called by hot workers, which bracket whole batches, and through `reader` by everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast
from weakref import WeakSet

import lmdb

from gate.clock import monotonic_ms
from gate.core.verdict import Word
from gate.errors import ReplicaError, ReplicaForeign
from gate.native import Snapshot
from gate.replica import envs
from gate.replica.app_reading import UNREADABLE, AppReading
from gate.replica.files import Identity
from gate.replica.layout import (
    BOARD_FILE,
    JOURNAL_EVERYTHING,
    META_PARTITIONS,
    META_SUCCESSOR,
    PositionRecord,
    journal_key,
    position_key,
    unpack_journal,
    unpack_position,
)
from gate.replica.opening import mapped, open_current
from gate.replica.rebuild_requests import report_damage
from gate.replica.status_page import NEVER_FRESH_MS, State, StatusPage, StatusView

DEFAULT_CACHED_USERS = 1 << 20
"""Users an App keeps in a thread's cache before it starts over; only Users that were asked about. In Python about 120
bytes each; in the compiled core 64 where ids have at most 20 bytes, else 160, of which either kind has room for as many."""

JOURNAL_REACH = 256
"""Commits to catch up by journal; past this, emptying the cache is cheaper."""

MAX_PARTITIONS = 1 << 16
"""What the key of a Position can name."""
_PLACE_TRIES = 16
"""Transactions begun until one's meta page can be read for certain: nearly always the first, see `native/tree.c`."""
NO_FACTS_FILE: Identity = (0, 0)
"""On a status page that names none."""
_NEVER = -1
"""No commit was seen."""
NO_BOARD = StatusView(State.STOPPED, False, NEVER_FRESH_MS, 0, 0, 0, 0, 0)


class Reading:
    """One thread's bracketed access to the newest facts of a Replica directory."""

    __slots__ = (
        "__weakref__",
        "_apps",
        "_cached_users",
        "_chosen",
        "_chosen_seen",
        "_directory",
        "_env",
        "_is_followed",
        "_is_left",
        "_partitions",
        "_path",
        "_positions",
        "_seen",
        "_status_page",
        "_txn",
        "get",
        "moves",
        "revision_texts",
        "snapshot",
    )

    get: Callable[[bytes], bytes | None]

    def __init__(self, directory: Path, cached_users: int = DEFAULT_CACHED_USERS) -> None:
        """Open the current facts; `ReplicaMissing` or `ReplicaForeign` if there are none to read."""
        self._directory = directory
        self._cached_users = cached_users
        self._apps: dict[str, AppReading] = {}
        self._status_page: StatusPage | None = None
        self._chosen: Sequence[int] = (0,)
        self._chosen_seen = 0
        self._is_followed = self._is_left = False
        self._seen = _NEVER
        self._txn: lmdb.Transaction | None = None
        self._positions: dict[int, PositionRecord | None] = {}
        self._partitions: int | None = None
        self.revision_texts: dict[int, str] = {}
        """Text of each Partition's Revision, of this commit (`positions.revision_of`)."""
        self.moves = 0
        self._path, env = open_current(directory)
        self._env: lmdb.Environment | envs.Closed = env
        self.snapshot: Snapshot | None = mapped(self._path, env)
        """The commit being read as the compiled core sees it, where there is one: it follows the transaction begun here."""
        self._watch_status_page()
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise
        self.release()
        _readings.add(self)

    def stale_ms(self) -> int:
        """For how long the facts that the next bracket reads were not known to be complete; 0 while fresh. Outside of one."""
        return self._age(monotonic_ms())

    def view(self) -> StatusView:
        """What the replicator last said of itself, with the age of the facts read here. Outside a bracket."""
        now_ms = monotonic_ms()
        age_ms = self._age(now_ms)
        return NO_BOARD if self._status_page is None else self._status_page.view(now_ms, age_ms)

    def refresh(self) -> None:
        """Begin to read at the newest commit, dropping from the caches what it changed; `ReplicaError` if that can't be."""
        if self._txn is not None:
            self._txn.abort()
        if self._chosen[0] != self._chosen_seen:
            self._chosen_again()
        try:
            txn = self._txn = self._env.begin()
            self.get = cast("Callable[[bytes], bytes | None]", txn.get)
            seen = txn.id()
            if seen != self._seen:
                self._moved(seen if self.snapshot is None else self._placed(self.snapshot, seen))
            elif self.snapshot is not None:
                self.snapshot.is_open = True
        except lmdb.Error as fault:
            self.release()
            raise self.damaged(fault) from fault
        except BaseException:
            self.release()
            raise

    def _placed(self, snapshot: Snapshot, seen: int) -> int:
        """Show the core the commit at hand, or a newer one where newer ones came in between; returns which."""
        for _ in range(_PLACE_TRIES):
            try:
                if snapshot.at(seen):
                    snapshot.is_open = True
                    return seen
            except ValueError as fault:
                raise self.damaged(fault) from fault
            if self._txn is not None:
                self._txn.abort()
            txn = self._txn = self._env.begin()
            self.get = cast("Callable[[bytes], bytes | None]", txn.get)
            seen = txn.id()
        snapshot.lose()  # Python answers at this commit
        return seen

    def release(self) -> None:
        """End the bracket: nothing may be read until the next `refresh`."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            if self.snapshot is not None:
                self.snapshot.is_open = False

    def __enter__(self) -> Reading:
        assert self._txn is None, "one bracket at a time: a second one would end the first"
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def close(self) -> None:
        """Release, and give the file back. Closing twice is harmless; any other use afterwards raises `ReplicaError`."""
        self.release()
        if self.snapshot is not None:
            self.snapshot.close()
        env, self._env = self._env, envs.Closed()
        if isinstance(env, lmdb.Environment):
            envs.release(self._path, env)
        self._apps.clear()
        self._chosen = (self._chosen_seen,)
        if self._status_page is not None:
            self._status_page.close()
            self._status_page = None

    def _leave_to_parent(self) -> None:
        if isinstance(self._env, lmdb.Environment):
            envs.keep_for_ever(self, self._txn)
            self._txn = None
            if self.snapshot is not None:
                self.snapshot.lose()
                self.snapshot.unwatch()
                self.snapshot.is_open = False
            self._env = envs.Closed("this Replica was opened before the process forked: open it after the fork only")

    def read(self, key: bytes) -> bytes | None:
        """`get`, whose errors are this project's."""
        try:
            return self.get(key)
        except lmdb.Error as fault:
            raise self.damaged(fault) from fault

    def damaged(self, fault: Exception) -> ReplicaForeign:
        """What to raise when the file at hand can't be read. Damage is reported to the replicator, which loads it again."""
        if isinstance(fault, envs.DAMAGE) or not isinstance(fault, lmdb.Error):
            report_damage(self._path, str(fault))
        return ReplicaForeign(f"{self._path.name} can't be read: {fault}")

    def app(self, key: str) -> AppReading | None:
        """The App's reading inside this bracket, or None if there is no such App."""
        known = self._apps.get(key)
        if known is None:
            known = AppReading(self, key, self._cached_users)
            if not known.sync():
                return None  # not remembered: a peer could fill memory with keys that do not exist
            self._apps[key] = known
        return known if known.sync() else None

    def catch_up(self, syncs: Iterable[Callable[[], object]]) -> None:
        """Take up what moved, by `AppReading.sync` of some Apps: of thousands it takes ms. Raises as `refresh` does."""
        with self:
            for sync in syncs:
                sync()

    def take_counts(self) -> list[tuple[Word, int]]:
        """How often the core answered with each word since the last call; what Python answers is its caller's to count."""
        return [one for app in self._apps.values() if app.checks is not None for one in app.checks.take_counts()]

    def position(self, partition: int) -> PositionRecord | None:
        """How far this Replica is in a Partition's Changelog; None before its first fact, or if there is no such Partition."""
        if partition not in self._positions:
            value = self.read(position_key(partition)) if partition < MAX_PARTITIONS else None
            try:
                self._positions[partition] = None if value is None else unpack_position(value)
            except ReplicaForeign as fault:
                raise self.damaged(fault) from fault
        return self._positions[partition]

    @property
    def is_reloading(self) -> bool:
        """Whether these facts are being replaced, since the Changelog does not go on from them."""
        return self._status_page is not None and self._status_page.is_reloading

    @property
    def partitions(self) -> int:
        """How many Partitions the facts were loaded from."""
        if self._partitions is None:
            try:
                self._partitions = int(self.read(META_PARTITIONS) or b"0")
            except ValueError as fault:
                raise self.damaged(fault) from fault
        return self._partitions

    @property
    def file(self) -> Path:
        """The facts file being read."""
        return self._path

    def _moved(self, seen: int) -> None:
        self.moves += 1
        self._positions.clear()
        self.revision_texts.clear()
        self._partitions = None
        if self._status_page is None:
            self._watch_status_page()
        replaced = self._is_left = self.get(META_SUCCESSOR) is not None
        if replaced and self._swapped():
            self.refresh()
            return
        self._arm()
        touched = self._touched(self._seen, seen)
        self._seen = _NEVER if replaced else seen  # replaced by what can't be opened yet: look again each time
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
        if since < 0 or not 0 < until - since <= JOURNAL_REACH:
            return None
        touched: list[tuple[int, bytes]] = []
        for transaction_id in range(since + 1, until + 1):
            value = self.get(journal_key(transaction_id))
            if value is None or value == JOURNAL_EVERYTHING:
                return None
            try:
                touched.extend(unpack_journal(value))
            except UNREADABLE:
                return None
        return touched

    def _age(self, now_ms: int) -> int:
        for _ in range(2):
            if self._status_page is None:
                self._watch_status_page()
            status_page = self._status_page
            if status_page is None:
                return NEVER_FRESH_MS
            age_ms = status_page.stale_ms(now_ms)
            if status_page.chosen is not self._chosen:  # it found another page in its place
                self._chosen, self._chosen_seen = status_page.chosen, _NEVER
                self._arm()
            # After the stamp, since the next one may be of another file, to which this one moves first.
            if self._chosen[0] == self._chosen_seen:
                return age_ms if self._is_followed else NEVER_FRESH_MS
            if self._txn is None:
                self._chosen_again()
        return NEVER_FRESH_MS

    def _watch_status_page(self) -> None:
        """Follow the word on the status page; without a status page, only the successor's name tells of another file."""
        if isinstance(self._env, envs.Closed):
            return
        try:
            status_page = StatusPage(self._directory / BOARD_FILE)
        except ReplicaError:
            self._arm()
            return
        self._chosen, self._chosen_seen = status_page.chosen, _NEVER
        old, self._status_page = self._status_page, status_page
        self._arm()
        if old is not None:
            old.close()

    def _arm(self) -> None:
        """Let the core begin brackets by itself while the status page's word is the one seen, and no other file is awaited."""
        if self.snapshot is None:
            return
        if self._is_left or self._chosen_seen == _NEVER:
            self.snapshot.unwatch()
        else:
            word = self._chosen if isinstance(self._chosen, memoryview) else None
            self.snapshot.watch(self._env.begin, word, self._chosen_seen)

    def _chosen_again(self) -> None:
        """The replicator said which file is in use: another one, or this one after all; or that another status page says it."""
        if self._status_page is not None and not self._status_page.is_in_place:
            self._watch_status_page()
        chosen = self._chosen[0]
        if self._swapped() is not None:
            self._chosen_seen = chosen  # not before: a file that can't be opened yet is tried again
            self._arm()

    def _swapped(self) -> bool | None:
        """Move to the file in use; False if that is still the one being read, None if it can't be opened (now).

        Another file than the status page names was moved there: no one who has facts already leaves them for that.
        """
        try:
            path, env = open_current(self._directory)
        except ReplicaError:
            return None
        named = self._status_page.facts if self._status_page is not None else NO_FACTS_FILE
        is_followed = envs.file_of(path, env) == named
        if env is self._env:
            envs.release(path, env)
            self._is_followed = is_followed
            return False
        if named != NO_FACTS_FILE and not is_followed:
            envs.release(path, env)
            return None
        self._is_followed = is_followed
        self.release()
        if isinstance(self._env, lmdb.Environment):
            envs.release(self._path, self._env)
        self._path, self._env, self._seen = path, env, _NEVER
        if self.snapshot is not None:
            self.snapshot.close()
        self.snapshot = mapped(path, env)
        self._arm()
        if self._status_page is not None and not self._status_page.is_in_place:
            self._watch_status_page()
        return True


_readings: WeakSet[Reading] = WeakSet()
# In the child of a fork: see `envs`.
os.register_at_fork(after_in_child=lambda: list(map(Reading._leave_to_parent, list(_readings))))
