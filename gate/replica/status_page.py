"""The status page: one memory-mapped page on which the replicator publishes to all readers on the node how fresh the facts are.

Freshness is not part of the facts: a stamp there would be a commit several times a second, which empties every reader's cache.
Each field is one aligned 8-byte word with a single writer, so a reader never sees half of one. Fields need not be consistent
with each other at every instant. Moments are on the monotonic clock, which all processes of one boot share.

The stamp applies to one file, whose device and inode are on the page. Facts read from another file, such as an older copy that
was moved to its name, are of unknown age (`reading.Reading.stale_ms`).

The replicator writes, at least every `STAMP_EVERY_MS` while it is connected to Redis. Readers are hot workers (at most once per
batch), HTTP, `gate.Replica` and the CLI.
"""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from gate.errors import ReplicaError, ReplicaForeign, ReplicaMissing
from gate.replica.files import Identity, identity_of
from gate.replica.layout import MAX_GENERATION, boot_id

# Interval of stamps while nothing happens; it bounds the replicator's wait for Changes.
STAMP_EVERY_MS = 200
# Facts this young count as fresh (`stale_ms` 0): several missed stamps, yet within the second that is promised to people.
FRESH_GRACE_MS = 1_000
# Interval at which a reader with a stale page checks whether the page was replaced.
LOOK_AGAIN_MS = 100
# `stale_ms` if nothing is known: about 35 years, past any limit that can be configured.
NEVER_FRESH_MS = 1 << 40

_MAGIC = int.from_bytes(b"gateBRD1", "big")
_PAGE_BYTES = 4_096
_FIELDS = (
    "magic",
    "boot",
    "pid",
    "state",
    "fresh_at_ms",
    "ready",
    "reloads",
    "applied",
    "lag",
    "generation",
    "chosen_at_ns",
    "damages",
    "facts_device",
    "facts_inode",
)
_AT = {name: index for index, name in enumerate(_FIELDS)}
_FRESH_AT = _AT["fresh_at_ms"]


class State(IntEnum):
    """The replicator's activity."""

    LOADING = 0
    """There are no facts to serve yet; the first snapshot is being loaded."""
    CATCHING_UP = 1
    """Serves older facts and follows the Changelog towards its heads."""
    CURRENT = 2
    """Connected to Redis; everything read is applied."""
    CUT_OFF = 3
    """Redis is unreachable; serves the facts as they were."""
    RELOADING = 4
    """The Changelog could not be followed (hole, trim, other epoch, gone back); a snapshot is being loaded."""
    STOPPED = 5
    """The replicator stopped in an orderly way."""


class StatusView(NamedTuple):
    """The status page at one moment. `stale_ms` is 0 while fresh."""

    state: State
    ready: bool
    stale_ms: int
    pid: int
    reloads: int
    applied: int
    lag: int
    generation: int
    """Of the facts file in use. A reader of another file must move, even if the old file could not name its successor."""
    damages: int = 0
    """Number of damaged files that were discarded since the replicator started."""

    @property
    def why_not_ready(self) -> str:
        """The reason that a Replica is not ready."""
        return "damaged, and loaded again" if self.damages and self.state is State.LOADING else "catching up"


def _boot_word() -> int:
    return crc32(boot_id())


class StatusPage:
    """The mapped page. Only the replicator opens it with `write=True`."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Map the page at `path`; a writer creates it. Raises `ReplicaMissing`, or `ReplicaForeign` for other content."""
        self._path = path
        self._writes = write
        self._looked_at_ms = 0
        self.is_new = not path.exists()
        self.last_generation = 0
        """The generation on the page before this writer took it over: no other file may get that name."""
        self._adopt(path)
        if write:
            self._take_over()

    def _adopt(self, path: Path) -> None:
        """Map the page at `path` instead of the present one."""
        words, page = _mapped(path, self._writes)
        if not self._writes and words[0] != _MAGIC:
            raise ReplicaForeign(f"{path} is not a status page of this version")
        self._words, self._map = words, page
        self._identity = identity_of(path)
        self._same_boot = self._words[_AT["boot"]] == _boot_word()
        self.state = self._words[_AT["state"] : _AT["state"] + 1]
        """One word: the replicator's `State`."""
        self.chosen = self._words[_AT["chosen_at_ns"] : _AT["chosen_at_ns"] + 1]
        """One word that changes whenever a facts file is put in use. Readers compare it before every read, in 30 ns.

        The generation alone is insufficient: a replicator that finds no trustworthy file counts from 1 again.
        """

    def _take_over(self) -> None:
        """Reset a page that readers may have mapped. The magic word never disappears once it was there.

        The freshness stamp stays valid across a restart of the replicator, but not of the machine.
        """
        same_boot = self._same_boot
        if self._words[0] == _MAGIC:
            self.last_generation = min(self._words[_AT["generation"]], MAX_GENERATION - 1)
        kept = {"magic", "boot", "pid", *(("fresh_at_ms", "facts_device", "facts_inode") if same_boot else ())}
        self.put(**{name: 0 for name in _FIELDS if name not in kept}, boot=_boot_word(), pid=os.getpid())
        # Last: a reader accepts the page only once all fields are valid.
        self.put(magic=_MAGIC)
        self._same_boot = True

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this page: it may have been moved or deleted."""
        return identity_of(self._path) == self._identity

    def recreate(self) -> None:
        """Replace a page that was removed. Raises `OSError`.

        Readers that map the old page find the new one: the old one is stale from now on, and its `chosen` changes.
        """
        old = self._words
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_bytes(old.tobytes())
        draft.replace(self._path)
        self._adopt(self._path)
        # First stale, then changed: a reader of the old page never sees a fresh one.
        old[_FRESH_AT] = 0
        old[_AT["chosen_at_ns"]] = time.monotonic_ns()

    def put(self, **fields: int) -> None:
        """Set fields, one word at a time. Setting `generation` changes `chosen`, even if the value is the same."""
        for name, value in fields.items():
            self._words[_AT[name]] = value
        if "generation" in fields:
            self._words[_AT["chosen_at_ns"]] = time.monotonic_ns()

    def use(self, generation: int, facts: Identity | None) -> None:
        """Publish which facts file is in use. This changes `chosen`, even if it is the same file."""
        self.name_facts(facts)
        self.put(generation=generation)

    def name_facts(self, facts: Identity | None) -> None:
        """Publish to which file the stamps apply."""
        device, inode = facts or (0, 0)
        self.put(facts_device=device, facts_inode=inode)

    @property
    def facts(self) -> Identity:
        """The file to which the stamps apply; zeros for none."""
        return self._words[_AT["facts_device"]], self._words[_AT["facts_inode"]]

    def stamp(self, now_monotonic_ms: int) -> None:
        """Record that everything in the Changelog was applied at this moment."""
        self._words[_FRESH_AT] = now_monotonic_ms

    def end_freshness(self, now_monotonic_ms: int) -> None:
        """Show the facts as stale from now on, by their true age or just past the grace."""
        # 0 means never fresh, which must stay so.
        if self._words[_FRESH_AT]:
            self.stamp(max(1, min(self._words[_FRESH_AT], now_monotonic_ms - FRESH_GRACE_MS - 1)))

    def stale_ms(self, now_monotonic_ms: int) -> int:
        """Return how long the facts were not known to be complete; 0 within the grace. Reads one word."""
        fresh_at_ms = self._words[_FRESH_AT]
        age_ms = now_monotonic_ms - fresh_at_ms if fresh_at_ms and self._same_boot else NEVER_FRESH_MS
        # A small negative age is normal: the stamp may be newer than the caller's clock reading.
        if -FRESH_GRACE_MS <= age_ms <= FRESH_GRACE_MS:
            return 0
        if self._moved_on(now_monotonic_ms):
            return self.stale_ms(now_monotonic_ms)
        return age_ms if age_ms > 0 else NEVER_FRESH_MS  # a stamp in the future is damage

    def _moved_on(self, now_monotonic_ms: int) -> bool:
        """Map the page that replaced this one. Returns False if it was not replaced, or if this was checked just now.

        A page of another boot may have been taken over since: a program may open it before the replicator starts.
        """
        if self._writes or now_monotonic_ms - self._looked_at_ms < LOOK_AGAIN_MS:
            return False
        self._looked_at_ms = now_monotonic_ms
        if self.is_in_place:
            was_of_this_boot, self._same_boot = self._same_boot, self._words[_AT["boot"]] == _boot_word()
            return self._same_boot and not was_of_this_boot
        try:
            self._adopt(self._path)
        except ReplicaError:
            return False
        return True

    def view(self, now_monotonic_ms: int, stale_ms: int | None = None) -> StatusView:
        """Return all fields, with the age of a reader's own facts if given."""
        if stale_ms is None:
            stale_ms = self.stale_ms(now_monotonic_ms)  # first, since it may map another page
        words = self._words
        state = State(words[_AT["state"]])
        if state is State.CURRENT and stale_ms:
            state = State.CATCHING_UP  # the replicator was paused or killed before it could write its state
        return StatusView(
            state,
            bool(words[_AT["ready"]]),
            stale_ms,
            words[_AT["pid"]],
            words[_AT["reloads"]],
            words[_AT["applied"]],
            words[_AT["lag"]],
            words[_AT["generation"]],
            words[_AT["damages"]],
        )

    def close(self) -> None:
        """Unmap the page. It stays on disk."""
        # The map can't be closed while a part of it is exported.
        self.chosen.release()
        self.state.release()
        self._words.release()
        self._map.close()


def _mapped(path: Path, write: bool) -> tuple[memoryview, mmap.mmap]:
    flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        raise ReplicaMissing(f"no status page at {path}: the replicator has not run here yet") from None
    try:
        if write:
            os.ftruncate(descriptor, _PAGE_BYTES)
        elif os.fstat(descriptor).st_size < _PAGE_BYTES:
            raise ReplicaForeign(f"{path} is cut short")
        access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
        page = mmap.mmap(descriptor, _PAGE_BYTES, access=access)
    finally:
        os.close(descriptor)
    # Aligned 8-byte words, each written in one store.
    return memoryview(page).cast("Q"), page
