"""External sort, so that more than fits into memory can fill a facts file page after page.

LMDB fills pages completely if keys come in order, else only to about two thirds. The sort handles runs, one list or one User
each, rather than single keys: far fewer. A `Backlog` stores pairs that are in order already, but come too early.

Runs are collected in batches. The first batch is a fair sample, because Redis scans in the order of a hash. It determines how
to cut the key space into buckets of about equal size. Each later batch is appended to the buckets, one file each. In the end
every bucket is sorted by itself. A sort that fits into one batch never touches the disk.

Called only by `bulk.SnapshotBuild`.
"""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import msgspec

# The subject's key, a header, and members.
Run = tuple[bytes, bytes, Sequence[bytes]]
# A key and its value.
Pair = tuple[bytes, bytes]

# Members and facts collected before they are spilled: some 10 MB, and about 30 ms without other work.
BATCH_KEYS = 100_000
# At 5 M keys about 20,000 keys each. Each costs one open file while a snapshot loads.
BUCKETS = 256

_LENGTH_BYTES = 4
_subject_of = itemgetter(0)
_encode = msgspec.msgpack.Encoder().encode
_decode_runs = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, list[bytes]]]).decode
_decode_pairs = msgspec.msgpack.Decoder(list[Pair]).decode


class Sorter:
    """`add` runs, then iterate `batches` once."""

    def __init__(self, directory: Path, batch_keys: int = BATCH_KEYS) -> None:
        """`directory` is created when needed, and deleted by `close`."""
        self._directory = directory
        self._batch_keys = batch_keys
        self._runs: list[Run] = []
        self._keys = 0
        self._cuts: list[bytes] = []
        self._files: list[BinaryIO] = []

    def add(self, runs: list[Run], keys: int) -> None:
        """Add runs with this many members and facts in total."""
        self._runs += runs
        self._keys += keys
        if self._keys >= self._batch_keys:
            self._spill()

    def batches(self) -> Iterator[list[Run]]:
        """Yield all runs in order of their subject. Runs of one subject are adjacent, in one batch."""
        # Everything fitted into one batch: no file was written.
        if not self._files:
            self._runs.sort(key=_subject_of)
            yield self._runs
            return
        self._spill()
        for bucket in self._files:
            yield _sorted_bucket(bucket)

    def close(self) -> None:
        """Delete the spilled files."""
        for file in self._files:
            file.close()
        if self._files:
            shutil.rmtree(self._directory)
        self._files = []

    def _spill(self) -> None:
        self._runs.sort(key=_subject_of)
        if not self._files:
            self._open_buckets()
        start = 0
        for cut, file in zip([*self._cuts, None], self._files, strict=True):
            # The runs are sorted, so each bucket gets one slice; the last bucket has no upper cut.
            stop = len(self._runs) if cut is None else bisect_left(self._runs, cut, start, key=_subject_of)
            if stop > start:
                _write_chunk(file, _encode(self._runs[start:stop]))
            start = stop
        self._runs, self._keys = [], 0

    def _open_buckets(self) -> None:
        step = max(1, len(self._runs) // BUCKETS)
        # Every step-th subject of the sample is a cut; the slice from `step` on keeps the first bucket as large as others.
        self._cuts = [run[0] for run in self._runs[step::step]]
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files = [(self._directory / str(index)).open("w+b") for index in range(len(self._cuts) + 1)]


class Backlog:
    """`add` pairs in order, then iterate `batches` once. Past a batch's size they are kept in a file."""

    def __init__(self, path: Path, batch_keys: int = BATCH_KEYS) -> None:
        """The file at `path` is created when needed, and deleted by `close`."""
        self._path = path
        self._batch_keys = batch_keys
        self._pairs: list[Pair] = []
        self._file: BinaryIO | None = None

    def add(self, pairs: list[Pair]) -> None:
        """Add pairs."""
        self._pairs += pairs
        if len(self._pairs) >= self._batch_keys:
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = self._path.open("w+b")
            _write_chunk(self._file, _encode(self._pairs))
            self._pairs = []

    def batches(self) -> Iterator[list[Pair]]:
        """Yield all pairs in the order of `add`."""
        if self._file is not None:
            for chunk in _chunks(self._file):
                yield _decode_pairs(chunk)
        yield self._pairs

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()
            self._path.unlink()
            self._file = None


def _sorted_bucket(file: BinaryIO) -> list[Run]:
    runs: list[Run] = []
    for chunk in _chunks(file):
        runs += _decode_runs(chunk)
    runs.sort(key=_subject_of)
    return runs


def _write_chunk(file: BinaryIO, chunk: bytes) -> None:
    file.write(len(chunk).to_bytes(_LENGTH_BYTES, "big") + chunk)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    # The same handle was used for writing.
    file.seek(0)
    while length := file.read(_LENGTH_BYTES):
        yield file.read(int.from_bytes(length, "big"))
