"""Files read into Batches: which lines were wrong, how far the reading is, and when to let others work.

Reading is synchronous and the sending of what was read is not, so `batches` yields every few hundred lines even when
nothing is ready: that is when the loop sends and receives. Called by `gate import`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gate.cli.import_batch import Batch
from gate.cli.import_fields import Taker
from gate.cli.import_files import ImportFile
from gate.clock import wall_ms
from gate.errors import InvalidInput

BATCH_ENTRIES = 10_000
"""Entries a Batch: enough that each Partition gets scripts of a good size, parsed in about 20 ms."""
SLICE_LINES = 500
"""Lines read before the loop may send and receive again: about a millisecond."""
SHOWN_ERRORS = 20


class WrongLine(NamedTuple):
    """A line that was left out."""

    file: str
    line: int
    problem: str


class ImportReader:
    """Reads files into Batches, and keeps the errors found. Each call of `batches` reads all files from the beginning."""

    def __init__(self, sources: Sequence[ImportFile], kind: str | None, max_errors: int) -> None:
        self._sources = sources
        self._kind = kind
        self._max_errors = max_errors
        self._now_ms = wall_ms()
        self._done_bytes = 0
        self._source: ImportFile | None = None
        self.lines = self.errors = self.ended = 0
        self.shown: list[WrongLine] = []
        self.is_cut_short = False

    @property
    def size_bytes(self) -> int:
        """The size of all files together; 0 if one is a pipe."""
        sizes = [source.size_bytes for source in self._sources]
        return sum(sizes) if all(sizes) else 0

    @property
    def read_bytes(self) -> int:
        """The number of bytes read of `size_bytes`."""
        return self._done_bytes + (self._source.read_bytes if self._source else 0)

    def batches(self) -> Iterator[Batch | None]:
        """Yield each full Batch, and None every `SLICE_LINES` so that other tasks can run."""
        self.lines = self.errors = self.ended = self._done_bytes = 0
        self.shown, self.is_cut_short = [], False
        taker = Taker(self._now_ms, self._kind)
        for source in self._sources:
            self._source = source
            for _ in self._take(taker, source):
                if self.is_cut_short:
                    break
                yield self._cut(taker, source) if taker.batch.entries >= BATCH_ENTRIES else None
            # A Batch never spans files: its lines are reported under one name.
            yield self._cut(taker, source)
            self._done_bytes, self._source = self._done_bytes + source.size_bytes, None
            if self.is_cut_short:
                return

    def refuse(self, file: str, line: int, problem: str) -> None:
        """Count a wrong line; the first ones are kept to be shown."""
        self.errors += 1
        if len(self.shown) < SHOWN_ERRORS:
            self.shown.append(WrongLine(file, line, problem))
        self.is_cut_short = self.is_cut_short or self.errors == self._max_errors

    def _take(self, taker: Taker, source: ImportFile) -> Iterator[None]:
        """Pass lines to the Taker; yields at each slice and each full Batch."""
        take, take_pair, refuse, file = taker.take, taker.take_pair, self.refuse, source.name
        for number, fields in source.lines():
            self.lines += 1
            try:
                if type(fields) is tuple:
                    take_pair(fields, number)
                elif type(fields) is str:
                    refuse(file, number, fields)
                else:
                    take(fields, number)  # type: ignore[arg-type]  # what is neither is a mapping
            except InvalidInput as fault:
                refuse(file, number, str(fault))
            if self.lines % SLICE_LINES == 0 or taker.batch.entries >= BATCH_ENTRIES or self.is_cut_short:
                yield None

    def _cut(self, taker: Taker, source: ImportFile) -> Batch:
        self.ended = taker.ended
        batch = taker.cut()
        batch.source = source.name
        return batch

    def rewind(self) -> None:
        """Make every file readable from its beginning."""
        for source in self._sources:
            source.rewind()
