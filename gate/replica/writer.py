"""The one writer of a facts file: applies Changes in whole transactions, each with the Positions it reaches.

A transaction is all or nothing, so facts and Positions always agree, whatever kills the process. Nothing is fsynced, so a power
failure of the machine is different: a file is trusted only in the boot that wrote it, or if it was closed in order.

Invariants: Changes are applied in the order of their Partition's Changelog, each exactly after the previous one
(`check_follows`). Applying one again over facts that were read later results in the same facts. List sizes are exact: an entry
is counted if it was absent. Facts without content (a User equal to `NO_FACTS`) are deleted.

An App gets its number at its first Change, not at `app-set`: Partitions are followed in parallel, so a User's Change may come
before the record of its App. Facts without a record are invisible to readers. A removed App keeps a tombstone. If an App with
the same key is created again, only a fresh snapshot can separate the facts of the two (`ChangelogBroken`, "recreated").

Called by the loader and the replicator, from one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import cast

import lmdb
import msgspec

from gate.core.changes import Change, check_follows
from gate.core.codec import unpack_app
from gate.core.revision import NOWHERE, Position
from gate.errors import InvalidInput, ReplicaForeign, ReplicaFull
from gate.replica import envs, files
from gate.replica.facts_txn import FactsTxn
from gate.replica.layout import (
    APP_PREFIX,
    JOURNAL_PREFIX,
    LAYOUT_VERSION,
    MAP_BYTES,
    META_BOOT,
    META_CHECKSUM,
    META_CLEAN,
    META_LAYOUT,
    META_PACKED,
    META_PARTITIONS,
    META_SUCCESSOR,
    boot_id,
    check_settings_key,
    checksum_of,
    pack_check_record,
    pack_checksum,
    pack_position,
    position_key,
    unpack_position,
)

# Value of `boot_id()` if the kernel provides none; it equals no boot.
UNKNOWN_BOOT = b"unknown"

# About a millisecond in which no other thread of the process runs.
COPIED_AT_ONCE = 2_000
_STAYS_BEHIND = frozenset({META_CLEAN, META_SUCCESSOR, META_PACKED, META_CHECKSUM})

_UNREADABLE = (struct.error, ValueError, IndexError, msgspec.MsgspecError)


class FactsFile:
    """One facts file, open for writing. Make one with `create` or `open`."""

    def __init__(self, path: Path, env: lmdb.Environment, positions: list[Position]) -> None:
        """Internal: see `create` and `open`."""
        self.path = path
        self._env = env
        self._positions = dict(enumerate(positions))
        self._commit = int(env.info()["last_txnid"])
        self._checksum = 0
        self._stored_checksum: bytes | None = None
        self._longest_bytes = 0
        self._numbers: dict[str, int | None] = {}
        self._retired_since_open = True
        self.identity = files.identity_of(path)
        """Which file this is, independent of where its name leads."""
        self._lock_path = path.with_name(f"{path.name}-lock")
        self._lock_identity = files.identity_of(self._lock_path)

    @classmethod
    def create(cls, path: Path, partitions: int, map_bytes: int = MAP_BYTES) -> FactsFile:
        """Create a file without facts, for the loader. No reader accepts it before `finish`. Raises `ReplicaFull`."""
        try:
            env = envs.acquire_writable(path, map_bytes)
        except ReplicaForeign as fault:
            raise ReplicaFull(str(fault)) from fault
        return cls(path, env, [NOWHERE] * partitions)

    @classmethod
    def open(cls, path: Path, map_bytes: int = MAP_BYTES) -> FactsFile:
        """Open an existing file. Raises `ReplicaForeign` if it has another layout, is unreadable, or may be torn.

        From here on the file counts as unclean, on disk as well, until `close_clean`.
        """
        env = envs.acquire_writable(path, map_bytes)
        opened = cls(path, env, [])
        with opened._closing_on_failure():
            positions, was_clean, settings = opened._trusted()
            opened._positions.update(enumerate(positions))
            if was_clean or settings:
                with opened.write() as txn:
                    for key, value in settings:
                        txn.put(key, value)
                    if was_clean:
                        txn.put(META_BOOT, boot_id())
                        txn.delete(META_CLEAN)
            # The flag must be off on disk before the first unsynced commit.
            if was_clean:
                env.sync(True)
        return opened

    @property
    def is_in_place(self) -> bool:
        """Whether the names still lead to this file and its lock file: they may have been moved or deleted.

        Readers with another lock file take slots that this writer does not see, so it would overwrite their pages.
        """
        return (
            files.identity_of(self.path) == self.identity and files.identity_of(self._lock_path) == self._lock_identity
        )

    @property
    def partitions(self) -> int:
        """Number of Partitions of this file."""
        return len(self._positions)

    @property
    def positions(self) -> Sequence[Position]:
        """Applied Positions by Partition. A copy."""
        return tuple(self._positions.values())

    def apply(self, changes: Mapping[int, Sequence[Change]], now_ms: int) -> dict[int, Position]:
        """Apply Changes of some Partitions in one transaction. Returns the Positions that moved.

        Raises `ChangelogBroken` if one does not follow, `ReplicaFull` if there is no room; then none of them is applied.
        """
        moved: dict[int, Position] = {}
        with self.write() as txn:
            for partition, batch in changes.items():
                if batch:
                    position = moved[partition] = check_follows(self._positions[partition], batch)
                    for change in batch:
                        txn.apply(change)
                    txn.put(position_key(partition), pack_position((*position, now_ms)))
        self._positions.update(moved)
        return moved

    def finish(self, positions: Sequence[Position], now_ms: int) -> None:
        """Complete a created file and store the Positions of its facts: those at which its snapshot began.

        Done last, not in `create`: these keys sort after the list entries, which can only be appended before them.
        """
        with self.write() as txn:
            txn.put(META_LAYOUT, LAYOUT_VERSION)
            txn.put(META_PARTITIONS, str(len(positions)).encode())
            txn.put(META_BOOT, boot_id())
            for partition, position in enumerate(positions):
                txn.put(position_key(partition), pack_position((*position, now_ms)))
            txn.put(META_PACKED, str(txn.raw.stat()["entries"]).encode())
        self._positions.update(enumerate(positions))

    def name_successor(self, name: str) -> None:
        """Store in this file that a newer one has replaced it."""
        with self.write() as txn:
            txn.put(META_SUCCESSOR, name.encode())

    def purge(self, limit: int) -> bool:
        """Delete up to `limit` facts of removed Apps. Returns False once nothing is left to delete."""
        if not self._retired_since_open:
            return False
        with self.write() as txn:
            self._retired_since_open = txn.purge(limit)
        return self._retired_since_open

    def pages(self) -> int:
        """Return the number of pages of the file, free ones included."""
        return int(self._env.info()["last_pgno"]) + 1

    def keys_since_packed(self) -> tuple[int, int]:
        """Return the number of keys added since the file's pages were full, and the number of all keys."""
        with self._env.begin() as txn:
            keys = txn.stat()["entries"]
            return max(0, keys - int(txn.get(META_PACKED, b"0"))), keys

    def copy_packed(self, path: Path, goes_on: Callable[[], bool]) -> None:
        """Write the newest commit to another file in key order, so that its pages are full and none is free.

        May run in any thread, while others read and one writes. Raises `ReplicaFull`; ends early if `goes_on` returns False.
        """
        files.require_room(path.parent, self.pages() * self._env.stat()["psize"])
        target = envs.acquire_writable(path)
        seen = copied = 0
        try:
            with self._env.begin() as source:
                items = iter(source.cursor())
                while goes_on():
                    some = list(islice(items, COPIED_AT_ONCE))
                    if not some:
                        self._require_checksum(source, seen)
                        break
                    kept = [item for item in some if _is_copied(item[0])]
                    left = [item for item in some if not _is_copied(item[0]) and item[0] != META_CHECKSUM]
                    copied += checksum_of(kept)
                    seen += checksum_of(kept) + checksum_of(left)
                    with target.begin(write=True) as txn:
                        txn.cursor().putmulti(kept, append=True)
            with target.begin(write=True) as txn:
                packed = str(txn.stat()["entries"]).encode()
                txn.put(META_PACKED, packed)
                txn.put(META_CHECKSUM, pack_checksum(copied + checksum_of([(META_PACKED, packed)])))
        except envs.DAMAGE as fault:
            raise ReplicaForeign(f"{self.path.name} is damaged: {fault}") from fault
        except lmdb.Error as fault:
            raise ReplicaFull(f"{path.name} can't be written: {fault}") from fault
        finally:
            envs.release(path, target)

    def was_changed(self) -> str | None:
        """Return what another program did to the file, as far as its length and newest commit show; None if nothing."""
        size = self.path.stat().st_size
        if size < self._longest_bytes:  # first, since reading past the end would kill this process
            return f"it was cut short: {size} bytes of {self._longest_bytes}"
        # The file never shrinks, so a shorter one was cut.
        self._longest_bytes = max(size, self._fill_up())
        try:
            with self._env.begin() as txn:
                is_ours = txn.id() == self._commit and txn.get(META_CHECKSUM) == self._stored_checksum
        except lmdb.Error as fault:
            return str(fault)
        return None if is_ours else "its newest commit is not the one that was written last"

    def check_readers(self) -> int:
        """Free the slots of killed readers: each would prevent the reuse of old pages."""
        return self._env.reader_check()

    def close(self) -> None:
        """Close the file as it is. It stays trusted in this boot. It may be damaged, so nothing is read."""
        envs.release(self.path, self._env)

    def close_clean(self) -> None:
        """Close in order: the file is also trusted after a reboot. The facts reach the disk before the flag does."""
        self._env.sync(True)
        with self.write() as txn:
            txn.put(META_CLEAN, b"1")
        self._env.sync(True)
        if self.is_in_place:
            self._fill_up()
        self.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """Yield the newest commit, for the loader's counting and for `verify`."""
        with self._env.begin() as txn:
            yield txn

    @contextlib.contextmanager
    def write(self, *, journal: bool = True) -> Iterator[FactsTxn]:
        """One transaction: committed at the end, aborted by any exception. LMDB's errors are translated.

        Only commits that no reader can see may omit journal and checksum: both sort after what is still to be appended.
        """
        raw: lmdb.Transaction | None = None
        try:
            raw = self._env.begin(write=True, buffers=False)
            # LMDB numbers commits, so a foreign write shows as a gap.
            if raw.id() != self._commit + 1 or raw.get(META_CHECKSUM) != self._stored_checksum:
                raise ReplicaForeign(f"{self.path.name} is damaged: something else has written to it")
            # A copy: an aborted transaction must not leave numbers behind.
            txn = FactsTxn(raw, dict(self._numbers))
            yield txn
            txn.flush(journal=journal)
            checksum, stored = self._checksum + txn.checksum_change, self._stored_checksum
            if journal:
                stored = pack_checksum(checksum)
                raw.put(META_CHECKSUM, stored)
            commit = raw.id()
            raw.commit()
        except envs.DAMAGE as fault:
            raise ReplicaForeign(f"{self.path.name} is damaged: {fault}") from fault
        except (lmdb.MapFullError, lmdb.TxnFullError, lmdb.DiskError) as fault:
            raise ReplicaFull(f"no room for {self.path.name}: {fault}") from fault
        except lmdb.PanicError:
            raise  # the environment is unusable; a new process opens the file at its last commit
        except lmdb.Error as fault:
            raise ReplicaFull(f"{self.path.name} can't be written: {fault}") from fault
        finally:
            if raw is not None:
                raw.abort()
        self._commit, self._checksum, self._stored_checksum = commit, checksum, stored
        self._numbers = txn.numbers
        self._retired_since_open = self._retired_since_open or txn.retired

    def _trusted(self) -> tuple[list[Position], bool, list[tuple[bytes, bytes]]]:
        """Return Positions, whether the file was closed in order, and keys to add. Raises `ReplicaForeign` if untrusted."""
        try:
            with self._env.begin() as txn:
                was_clean = _check_trust(txn, self.path)
                self._stored_checksum = txn.get(META_CHECKSUM, b"")
                self._checksum = int.from_bytes(self._stored_checksum, "big")
                partitions = int(txn.get(META_PARTITIONS, b""))
                positions = [_position_of(txn, partition) for partition in range(partitions)]
                return positions, was_clean, list(_check_settings_left_out(txn))
        except lmdb.Error as fault:
            raise ReplicaForeign(f"{self.path.name} is damaged: {fault}") from fault
        except _UNREADABLE as fault:
            raise ReplicaForeign(f"{self.path.name} is unreadable: {fault!r}") from fault

    def _fill_up(self) -> int:
        """Extend the file. LMDB does not write last pages that a commit took and freed; the file would seem cut short."""
        needed = self.pages() * int(self._env.stat()["psize"])
        if self.path.stat().st_size < needed:
            os.truncate(self.path, needed)
        return needed

    def _require_checksum(self, txn: lmdb.Transaction, checksum: int) -> None:
        """Check what was read against the checksum: otherwise a copy would make damage look sound."""
        if pack_checksum(checksum) != txn.get(META_CHECKSUM):
            raise ReplicaForeign(f"{self.path.name} is damaged: its facts do not add up to its checksum")

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


def _is_copied(key: bytes) -> bool:
    """Journals are not copied: they name transactions of their own file."""
    return key not in _STAYS_BEHIND and not key.startswith(JOURNAL_PREFIX)


def _check_trust(txn: lmdb.Transaction, path: Path) -> bool:
    layout = txn.get(META_LAYOUT)
    if layout != LAYOUT_VERSION:
        raise ReplicaForeign(f"{path.name} has another layout: {layout!r}, this version writes {LAYOUT_VERSION!r}")
    boot = boot_id()
    # Commits without fsync are only complete within the boot that made them.
    same_boot = txn.get(META_BOOT) == boot and boot != UNKNOWN_BOOT
    was_clean = txn.get(META_CLEAN) is not None
    if not same_boot and not was_clean:
        raise ReplicaForeign(f"{path.name} may be torn: the machine went down before the file was closed")
    return was_clean


def _check_settings_left_out(txn: lmdb.Transaction) -> Iterator[tuple[bytes, bytes]]:
    """Yield the `C` keys that an older version of Gate omitted or left outdated, since it does not know them."""
    cursor = txn.cursor()
    if not cursor.set_range(APP_PREFIX):
        return
    items = cast("Iterator[tuple[bytes, bytes]]", cursor.iternext())
    for _, record in takewhile(lambda item: item[0].startswith(APP_PREFIX), items):
        with contextlib.suppress(InvalidInput):  # the reader of the App reports it
            facts = unpack_app(record[4:])
            value = pack_check_record(record, facts)
            if txn.get(check_settings_key(facts.key)) != value:
                yield check_settings_key(facts.key), value


def _position_of(txn: lmdb.Transaction, partition: int) -> Position:
    value = cast("bytes | None", txn.get(position_key(partition)))
    return unpack_position(value).position if value is not None else NOWHERE
