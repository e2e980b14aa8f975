"""What the HTTP processes of one node share: token buckets, failed log-ins, and what is known of sign-ins.

A limit of the node must hold for all of its HTTP processes together, so what it counts is in memory that they share. With one
process it is in that process alone. Either way it is a `Table`: short values under keys, bounded, the one that was written
least recently is forgotten first. A caller that reads a value to write it again does both in one `turn`.

The shared memory is a file without a name that the supervisor makes and each HTTP process inherits. So counts outlive a process
that is restarted, nothing of them is on a disk, and no other process of the machine reads them.

    header        a random key: slots are found by a keyed hash, so that no client chooses which slots collide
    each table    sets of 8 slots: hash of the key, when it was written, length, value

Used by `limits`, `operators`, `throttle` and the console's `session_auth`; made by the `http` role.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import secrets
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from functools import lru_cache
from hashlib import blake2b

from gate.http.limits import BUCKETS, FAILURES, Key, OwnTable, Sizes, Table

# Slots of a set. Of the 8 the one written least recently makes room.
WAYS = 8
HEADER_BYTES = 64
KEY_BYTES = 32
DIGEST_BYTES = 16
# When a slot was written, by a clock that only rises, and the length of its value; after the digest.
_HEAD = struct.Struct("<QH")
_HEAD_BYTES = DIGEST_BYTES + _HEAD.size

# Of keys, so that a limit that is asked for with each call is hashed once.
PLACES_KNOWN = 1_024
# How long a turn is waited for. One lasts some microseconds, or a few milliseconds where the scheduler interrupts it. A longer
# one is of a process that was stopped in its midst: then the caller goes on, and two calls may be counted as one.
TURN_WITHIN_S = 0.2
# For so long after that nothing is waited for, so that a stopped process holds up no request more.
NO_WAIT_AFTER_S = 5.0
LOOK_EVERY_S = 0.0001
VERIFYING_WITHIN_S = 5.0
# A verification takes some 30 ms.
VERIFYING_LOOK_EVERY_S = 0.005


SIGNED_OUT = Sizes(1 << 10, 0)
# An operator's account: some 300 bytes, and the keys of up to 100 Apps that it is limited to.
RECALLED = Sizes(1 << 8, 4_096)
SIZES = (BUCKETS, FAILURES, SIGNED_OUT, RECALLED)
# The byte that the process locks which verifies a password, after those of the tables.
VERIFYING = len(SIZES)


class SharedTable(Table, AbstractContextManager[None]):
    """Of all processes that map this memory."""

    def __init__(self, memory: mmap.mmap, lock: Lock, at: int, sizes: Sizes) -> None:
        self._memory = memory
        self._lock = lock
        self._at = at
        self._sets = sizes.slots // WAYS
        self._value_bytes = sizes.value_bytes
        self._slot_bytes = _HEAD_BYTES + sizes.value_bytes
        self._secret = memory[:KEY_BYTES]
        self._is_mine = False
        self._no_wait_until_s = 0.0
        self._place = lru_cache(PLACES_KNOWN)(self._placed)
        # The kernel ends the turn of a process that dies.
        self.turn = self

    def get(self, key: Key) -> bytes | None:
        """As the base says."""
        slot = self._found(*self._place(key))
        if slot < 0:
            return None
        _, size = _HEAD.unpack_from(self._memory, slot + DIGEST_BYTES)
        return self._memory[slot + _HEAD_BYTES : slot + _HEAD_BYTES + size]

    def put(self, key: Key, value: bytes) -> None:
        """As the base says. A value that is too long is not kept."""
        if len(value) > self._value_bytes:
            return
        digest, start = self._place(key)
        slot = self._found(digest, start)
        if slot < 0:
            slots = range(start, start + WAYS * self._slot_bytes, self._slot_bytes)
            slot = min(slots, key=lambda one: _HEAD.unpack_from(self._memory, one + DIGEST_BYTES)[0])
        self._memory[slot : slot + _HEAD_BYTES + len(value)] = (
            digest + _HEAD.pack(time.monotonic_ns(), len(value)) + value
        )

    def pop(self, key: Key) -> None:
        """As the base says."""
        slot = self._found(*self._place(key))
        if slot >= 0:
            self._memory[slot : slot + _HEAD_BYTES] = bytes(_HEAD_BYTES)

    def __enter__(self) -> None:
        self._is_mine = self._lock.try_take() or self._was_waited_for()

    def __exit__(self, *_: object) -> None:
        if self._is_mine:
            self._lock.give_back()

    def _was_waited_for(self) -> bool:
        """Whether the lock became this process's in time."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + TURN_WITHIN_S and began_s >= self._no_wait_until_s:
            time.sleep(LOOK_EVERY_S)
            if self._lock.try_take():
                return True
        if began_s >= self._no_wait_until_s:
            self._no_wait_until_s = began_s + NO_WAIT_AFTER_S
        return False

    def _placed(self, key: Key) -> tuple[bytes, int]:
        """The key's digest, and where its set begins."""
        parts = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in key]
        joined = b"".join([struct.pack("<I", len(part)) + part for part in parts])
        digest = blake2b(joined, digest_size=DIGEST_BYTES, key=self._secret).digest()
        which = int.from_bytes(digest[:8], "little") % self._sets
        return digest, self._at + which * WAYS * self._slot_bytes

    def _found(self, digest: bytes, start: int) -> int:
        """Where the slot with this digest begins, or -1."""
        at = start
        end = start + WAYS * self._slot_bytes
        while (at := self._memory.find(digest, at, end)) >= 0:
            if (at - start) % self._slot_bytes == 0:
                return at
            at += 1  # a part of a value that looks like it
        return -1


class Lock:
    """One byte of the file, locked by one process at a time."""

    def __init__(self, descriptor: int, byte: int) -> None:
        self._descriptor = descriptor
        self._byte = byte

    def try_take(self) -> bool:
        """Whether it is this process's now."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
        except OSError:  # EAGAIN or EACCES: another one has it
            return False
        return True

    def give_back(self) -> None:
        """It is anybody's."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._byte)


class Shared:
    """All tables of a node. One a process."""

    def __init__(self, descriptor: int | None = None, processes: int = 1) -> None:
        """In the memory behind `descriptor`, which stays open; None: of this process alone."""
        self.processes = processes
        """How many share."""
        self._verifying: Lock | None = None
        tables: list[Table]
        if descriptor is None:
            tables = [OwnTable(sizes.slots) for sizes in SIZES]
        else:
            memory = mmap.mmap(descriptor, _TOTAL_BYTES)
            tables = [
                SharedTable(memory, Lock(descriptor, index), at, sizes)
                for index, (at, sizes) in enumerate(zip(_STARTS, SIZES, strict=True))
            ]
            self._verifying = Lock(descriptor, VERIFYING)
        self.buckets, self.failures, self.signed_out, self.recalled = tables

    @asynccontextmanager
    async def verifying(self) -> AsyncIterator[None]:
        """A block that one process runs at a time, unless it takes longer than a verification does on any machine."""
        lock = self._verifying
        deadline_s = time.monotonic() + VERIFYING_WITHIN_S
        is_mine = False
        while lock is not None and not is_mine and time.monotonic() < deadline_s:
            is_mine = lock.try_take()
            if not is_mine:
                await asyncio.sleep(VERIFYING_LOOK_EVERY_S)
        try:
            yield
        finally:
            if lock is not None and is_mine:
                lock.give_back()


def make_shared_memory() -> int:
    """A descriptor of memory for `Shared`, all empty. Pages take room once they are written."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gate-http")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _TOTAL_BYTES)
    os.pwrite(descriptor, secrets.token_bytes(KEY_BYTES), 0)
    return descriptor


def _table_bytes(sizes: Sizes) -> int:
    return sizes.slots * (_HEAD_BYTES + sizes.value_bytes)


_STARTS = [HEADER_BYTES + sum(map(_table_bytes, SIZES[:index])) for index in range(len(SIZES))]
_TOTAL_BYTES = HEADER_BYTES + sum(map(_table_bytes, SIZES))
