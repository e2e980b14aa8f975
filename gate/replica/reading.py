"""One thread's position in the Replica: which commit of which facts file it reads, and which cache entries that invalidates.

A `Reading` brackets work between `refresh` (a read transaction on the newest commit, about 0.15 us) and `release` (so that no
old page stays pinned while the thread idles). Inside the bracket an `AppReading` answers checks.

When `refresh` sees another commit, the journals of the commits since then name the Users that they touched. Only those are
forgotten; any gap in the journals forgets all. This is exact, not a timeout: facts and journal are one transaction. If another
facts file is put in use, one word on the status page changes, which every `refresh` compares, and the old file names its
`successor`. Either makes `refresh` move, or continue with the old facts while the new ones can't be opened.

`stale_ms` is the age of the facts. It is read before them, so a process that is paused in between may report new facts as old,
but never old facts as fresh. The status page's stamp applies only to the file that it names, and only while that is in use.

Invariants: single-threaded; nothing is read outside the bracket; a change acknowledged before `refresh` is seen after it. A
bracket of `with` must not await, and brackets do not nest: pass the facts on. Hot workers bracket whole batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast
from weakref import WeakSet

import lmdb

from gate.clock import monotonic_ms
from gate.core.ids import is_app_key
from gate.core.verdict import Word
from gate.errors import ReplicaError, ReplicaForeign
from gate.native import Snapshot
from gate.replica import envs
from gate.replica.app_reading import UNREADABLE, AppReading
from gate.replica.envs import map_for_core, open_current
from gate.replica.files import Identity, report_damage
from gate.replica.layout import (
    BOARD_FILE,
    JOURNAL_EVERYTHING,
    META_PARTITIONS,
    META_SUCCESSOR,
    PositionRecord,
    journal_key,
    position_key,
    replica_dir,
    unpack_journal,
    unpack_position,
)
from gate.replica.shadow import Shadows
from gate.replica.status_page import NEVER_FRESH_MS, State, StatusPage, StatusView

# Users per App in a thread's cache before it starts over; only Users that were checked. In Python about 120 bytes each; in
# the compiled core 64 for ids of at most 20 bytes, else 160, with this capacity for each of the two kinds.
DEFAULT_CACHED_USERS = 1 << 20

# Commits to catch up through journals. Past this, emptying the cache is cheaper.
JOURNAL_REACH = 256

# Range of the key of a Position.
PARTITION_NUMBERS = 1 << 16
# Transactions begun until the meta page of one is read with certainty: nearly always the first, see `native/tree.c`.
_PLACE_TRIES = 16
NO_FACTS_FILE: Identity = (0, 0)  # on a status page: it names no file
# No commit was seen yet.
_NEVER = -1
NO_BOARD = StatusView(State.STOPPED, False, NEVER_FRESH_MS, 0, 0, 0, 0, 0)


class Reading:
    """One thread's bracketed access to the newest facts of a Replica directory."""

    __slots__ = (
        "__weakref__",
        "_cached_users",
        "_chosen",
        "_chosen_seen",
        "_directory",
        "_env",
        "_is_left",
        "_partitions",
        "_path",
        "_positions",
        "_seen",
        "_txn",
        "apps",
        "get",
        "is_followed",
        "moves",
        "revision_texts",
        "shadows",
        "snapshot",
        "status_page",
    )

    get: Callable[[bytes], bytes | None]

    def __init__(self, path: Path, cached_users: int = DEFAULT_CACHED_USERS) -> None:
        """Open the Replica in `path`, a data directory or a Replica's own. Raises `ReplicaMissing` or `ReplicaForeign`."""
        self._directory = replica_dir(path)
        self._cached_users = cached_users
        self.apps: dict[str, AppReading] = {}
        self.shadows = Shadows()
        """What counts for Apps in shadow mode. Readings of one process may share one."""
        self.status_page: StatusPage | None = None
        self._chosen: Sequence[int] = (0,)
        self._chosen_seen = 0
        self.is_followed = self._is_left = False
        self._seen = _NEVER
        self._txn: lmdb.Transaction | None = None
        self._positions: dict[int, PositionRecord | None] = {}
        self._partitions: int | None = None
        self.revision_texts: dict[int, str] = {}
        """Text of each Partition's Revision, of this commit (`positions.revision_of`)."""
        self.moves = 0
        self._path, env = open_current(self._directory)
        self._env: lmdb.Environment | envs.Closed = env
        self.snapshot: Snapshot | None = map_for_core(self._path, env)
        """The current commit as the compiled core sees it, if there is a core. It follows the transaction begun here."""
        self._watch_status_page()
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise
        self.release()
        _readings.add(self)

    def stale_ms(self) -> int:
        """Return how long the next bracket's facts were not known to be complete; 0 while fresh. Call outside a bracket."""
        return self._age(monotonic_ms())

    def view(self) -> StatusView:
        """Return the replicator's published state, with the age of the facts read here. Call outside a bracket."""
        age_ms = self._age(now_ms := monotonic_ms())
        return NO_BOARD if self.status_page is None else self.status_page.view(now_ms, age_ms)

    def refresh(self) -> None:
        """Begin to read the newest commit and drop what it changed from the caches. Raises `ReplicaError` on failure."""
        if self._txn is not None:
            self._txn.abort()
        if self._chosen[0] != self._chosen_seen:
            self._follow_chosen()
        try:
            txn = self._txn = self._env.begin()
            self.get = txn.get  # type: ignore[assignment]  # a `cast` would cost a call on each check
            seen = txn.id()
            if seen != self._seen:
                self._moved(seen if self.snapshot is None else self._place_core(self.snapshot, seen))
            elif self.snapshot is not None:
                self.snapshot.is_open = True
        except BaseException as fault:
            self.release()
            if isinstance(fault, lmdb.Error):
                raise self.damaged(fault) from fault
            raise

    def _place_core(self, snapshot: Snapshot, seen: int) -> int:
        """Move the core to this commit, or to a newer one if more follow meanwhile. Returns which."""
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
        snapshot.lose()  # the Python code answers at this commit
        return seen

    def release(self, *_: object) -> None:
        """End the bracket. Nothing may be read until the next `refresh`."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            if self.snapshot is not None:
                self.snapshot.is_open = False

    __exit__ = release  # the end of a `with`

    def __enter__(self) -> Reading:
        assert self._txn is None, "one bracket at a time: a second one would end the first"
        self.refresh()
        return self

    def close(self) -> None:
        """Release, and close the file. Closing twice is harmless; any other later use raises `ReplicaError`."""
        self.release()
        if self.snapshot is not None:
            self.snapshot.close()
        env, self._env = self._env, envs.Closed()
        if isinstance(env, lmdb.Environment):
            envs.release(self._path, env)
        self.apps.clear()
        self._chosen = (self._chosen_seen,)
        if self.status_page is not None:
            self.status_page.close()
            self.status_page = None

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
        """As `get`, but raises errors of this project."""
        try:
            return self.get(key)
        except lmdb.Error as fault:
            raise self.damaged(fault) from fault

    def cursor(self) -> lmdb.Cursor:
        """Return a cursor over this bracket's facts; its errors are LMDB's, for `damaged`."""
        return self._txn.cursor()  # type: ignore[union-attr]  # inside the bracket only

    def damaged(self, fault: Exception) -> ReplicaForeign:
        """Return the exception for an unreadable file. Damage is reported to the replicator, which loads the facts again."""
        if isinstance(fault, envs.DAMAGE) or not isinstance(fault, lmdb.Error):
            report_damage(self._path, str(fault))
        return ReplicaForeign(f"{self._path.name} can't be read: {fault}")

    def app(self, key: str) -> AppReading | None:
        """The App's reading inside this bracket, or None if there is no such App."""
        known = self.apps.get(key)
        if known is not None:
            return known if known.sync() else None
        # A caller's key may also be one that LMDB refuses.
        found = AppReading(self, key, self._cached_users) if is_app_key(key) else None
        if found is None or not found.sync():
            return None  # not cached: a peer could fill memory with keys that do not exist
        self.apps[key] = found
        return found

    def catch_up(self, syncs: Iterable[Callable[[], object]]) -> None:
        """Process what moved, by `AppReading.sync` of some Apps: milliseconds for thousands. Raises as `refresh` does."""
        with self:
            for sync in syncs:
                sync()

    def take_counts(self) -> list[tuple[Word, int]]:
        """Return the core's answers by word since the last call. Callers count what the Python code answers."""
        return [one for app in self.apps.values() for one in app.take_counts()]

    def position(self, partition: int) -> PositionRecord | None:
        """Return this Replica's Position in a Partition; None before its first fact, or if there is no such Partition."""
        if partition not in self._positions:
            value = self.read(position_key(partition)) if partition < PARTITION_NUMBERS else None
            try:
                self._positions[partition] = None if value is None else unpack_position(value)
            except ReplicaForeign as fault:
                raise self.damaged(fault) from fault
        return self._positions[partition]

    @property
    def partitions(self) -> int:
        """Number of Partitions from which the facts were loaded."""
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
        if self.status_page is None:
            self._watch_status_page()
        was_left, replaced = self._is_left, self.get(META_SUCCESSOR) is not None
        self._is_left = replaced
        if replaced and self._try_swap():
            self.refresh()
            return
        # Otherwise the core goes on as it was armed when this file was opened.
        if replaced or was_left:
            self._arm()
        # A file that can't be opened yet is tried each time.
        since, self._seen = self._seen, _NEVER if replaced else seen
        # Of the commits in between; None if that is unknown.
        touched: list[tuple[int, bytes]] | None = [] if since >= 0 and 0 < seen - since <= JOURNAL_REACH else None
        while touched is not None and since < seen:
            since += 1
            journal = self.get(journal_key(since))
            try:
                if journal is None or journal == JOURNAL_EVERYTHING:
                    touched = None
                else:
                    touched.extend(unpack_journal(journal))
            except UNREADABLE:
                touched = None
        if touched is None:
            for app in self.apps.values():
                app.forget_all()
        else:
            by_number = {app.number: app for app in self.apps.values()}
            for number, user in touched:
                if number in by_number:
                    by_number[number].forget(user)

    def _age(self, now_ms: int) -> int:
        for _ in range(2):
            if self.status_page is None:
                self._watch_status_page()
            status_page = self.status_page
            if status_page is None:
                return NEVER_FRESH_MS
            age_ms = status_page.stale_ms(now_ms)
            if status_page.chosen is not self._chosen:  # the page itself was replaced
                self._chosen, self._chosen_seen = status_page.chosen, _NEVER
                self._arm()
            # After the stamp, since the next stamp may be of another file, to which this Reading moves first.
            if self._chosen[0] == self._chosen_seen:
                return age_ms if self.is_followed else NEVER_FRESH_MS
            if self._txn is None:
                self._follow_chosen()
        return NEVER_FRESH_MS

    def _watch_status_page(self) -> None:
        """Map the status page. Without one, only the successor's name reveals another file."""
        if isinstance(self._env, envs.Closed):
            return
        try:
            status_page = StatusPage(self._directory / BOARD_FILE)
        except ReplicaError:
            self._arm()
            return
        self._chosen, self._chosen_seen = status_page.chosen, _NEVER
        old, self.status_page = self.status_page, status_page
        self._arm()
        if old is not None:
            old.close()

    def _arm(self) -> None:
        """Let the core begin brackets by itself while the status page's word is unchanged and no other file is awaited."""
        if self.snapshot is None:
            return
        if self._is_left or self._chosen_seen == _NEVER:
            self.snapshot.unwatch()
        else:
            word = self._chosen if isinstance(self._chosen, memoryview) else None
            self.snapshot.watch(self._env.begin, word, self._chosen_seen)

    def _follow_chosen(self) -> None:
        """React to a changed word: another file is in use, or the same one again, or the status page was replaced."""
        if self.status_page is not None and not self.status_page.is_in_place:
            self._watch_status_page()
        chosen = self._chosen[0]
        if self._try_swap() is not None:
            self._chosen_seen = chosen  # only now: a file that can't be opened yet is tried again
            self._arm()

    def _try_swap(self) -> bool | None:
        """Move to the file in use. Returns False if that is still the one being read, None if it can't be opened now.

        A file that the status page does not name was moved there by hand; a reader that has facts does not leave them for it.
        """
        try:
            path, env = open_current(self._directory)
        except ReplicaError:
            return None
        named = self.status_page.facts if self.status_page is not None else NO_FACTS_FILE
        is_followed = envs.file_of(path, env) == named
        if env is self._env:
            envs.release(path, env)
            self.is_followed = is_followed
            return False
        if named != NO_FACTS_FILE and not is_followed:
            envs.release(path, env)
            return None
        self.is_followed = is_followed
        self.release()
        if isinstance(self._env, lmdb.Environment):
            envs.release(self._path, self._env)
        self._path, self._env, self._seen = path, env, _NEVER
        if self.snapshot is not None:
            self.snapshot.close()
        self.snapshot = map_for_core(path, env)
        self._arm()
        if self.status_page is not None and not self.status_page.is_in_place:
            self._watch_status_page()
        return True


_readings: WeakSet[Reading] = WeakSet()
os.register_at_fork(after_in_child=lambda: list(map(Reading._leave_to_parent, list(_readings))))  # see `envs`
