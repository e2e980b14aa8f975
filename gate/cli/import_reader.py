"""Files of an import, read into Batches: NDJSON and CSV, compressed or not, in bounded memory whatever the bytes are.

The suffix says the format (`.ndjson`, `.jsonl`, `.csv`, each also `.gz`) unless an option does. Every file of a call is
opened and its header read before anything is written, so that a misspelt name of the third file does not leave two
of three imported.

A line that can't be read is yielded as its problem, with its number, and reading goes on: a file of a million lines
is not refused for one of them. What the fields mean is `import_fields`' business.

Reading is synchronous and the sending of what was read is not, so `batches` yields every few hundred lines even when
nothing is ready: that is when the loop sends and receives. Called by `gate import`.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import orjson

from gate.cli.import_fields import COLUMNS, POSITIONAL, Batch, Taker
from gate.clock import wall_ms
from gate.core.file_text import UTF8_MARK, UTF16_MARKS
from gate.errors import InvalidInput

Format = Literal["ndjson", "csv"]
# The line's number (the first is 1), and its fields, or only (owner, member), or the text of its error.
Line = tuple[int, Mapping[str, object] | tuple[str, str] | str]

# Ten thousand members of 64 bytes, with room; without a bound, a file without line ends would be read into memory.
MAX_LINE_BYTES = 1 << 20
# Far above an id or a reason; what a forgotten quote may swallow before it is noticed.
MAX_FIELD_CHARS = 4_096

STDIN = "-"
# Size of one read: fewer, longer reads leave more CPU time to parsing.
READ_BYTES = 1 << 20

_FORMATS: dict[str, Format] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
_GZIP_MAGIC = b"\x1f\x8b"

# Entries a Batch: enough that each Partition gets scripts of a good size, parsed in about 20 ms.
BATCH_ENTRIES = 10_000
# Lines read before the loop may send and receive again: about a millisecond.
SLICE_LINES = 500
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
        # The same moment for both readings of `--strict`: a line must not end between them.
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
                # `type is`, not `isinstance`: this is asked for each of millions of lines.
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


class ImportFile:
    """One file, FIFO or stdin. `lines` reads it once; `rewind` makes it readable again."""

    def __init__(self, name: str, file_format: Format | None, headless_kind: str | None) -> None:
        """Open it; `InvalidInput` if it can't be, or if nothing says what format it has."""
        self.name = "stdin" if name == STDIN else name
        self.format = file_format or _format_of(name)
        self._headless_kind = headless_kind
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if name == STDIN else Path(name).open("rb", READ_BYTES)  # noqa: SIM115
        except (FileNotFoundError, IsADirectoryError) as fault:
            raise InvalidInput(name, f"can't be read: {fault.strerror}") from None
        self._is_once = not self._raw.seekable() or name == STDIN
        """Whether it can be read only once: stdin, a FIFO, `<(zcat facts.gz)`."""
        self.size_bytes = 0 if self._is_once else Path(name).stat().st_size

    @property
    def read_bytes(self) -> int:
        """The position in the file, in bytes on disk; 0 for a file that can be read only once."""
        return 0 if self._is_once else self._raw.tell()

    def keep(self) -> None:
        """Make `rewind` possible for a file that can be read only once, by a copy on disk."""
        if self._is_once:
            copy = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(self._raw, copy)
            copy.seek(0)
            self._raw = copy

    def rewind(self) -> None:
        """Back to the beginning."""
        self._raw.seek(0)

    def lines(self) -> Iterator[Line]:
        """The lines, numbered from 1. If reading fails (damaged compression), the last line carries the error."""
        number = 0
        try:
            stream = _decompressed(self._raw)
            lines = csv_lines(stream, self._headless_kind) if self.format == "csv" else ndjson_lines(stream)
            for line in lines:
                number = line[0]
                yield line
        except (OSError, EOFError, zlib.error) as fault:
            if isinstance(fault, OSError) and fault.errno:  # the system's refusal, not damaged compression
                raise OSError(fault.errno, fault.strerror, self.name) from None
            yield number + 1, f"and all after it can't be read: {fault}"

    def check_header(self) -> None:
        """Raise `InvalidInput` now if there is no valid header. Not for what can be read only once."""
        if self._is_once:
            return
        try:
            next(iter(self.lines()), None)
        except InvalidInput as fault:
            raise InvalidInput(f"{self.name}, {fault.parameter}", fault.problem) from None
        finally:
            self.rewind()


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    # A look at the first bytes rather than at the name: stdin has none.
    peekable = cast("io.BufferedReader", raw)
    if peekable.peek(2)[:2] == _GZIP_MAGIC:
        peekable = io.BufferedReader(gzip.GzipFile(fileobj=raw), READ_BYTES)
    if peekable.peek(2)[:2] in UTF16_MARKS:
        raise InvalidInput("line 1", "is UTF-16: save the file as UTF-8")
    return cast("IO[bytes]", peekable)


def _format_of(name: str) -> Format:
    if name == STDIN:
        return "ndjson"
    suffixes = Path(name).suffixes
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    found = _FORMATS.get(suffixes[-1].lower()) if suffixes else None
    if found is None:
        known = ", ".join(_FORMATS)
        raise InvalidInput(name, f"its name ends in none of {known} (or those and .gz): say --format ndjson or csv")
    return found


def ndjson_lines(stream: IO[bytes]) -> Iterator[Line]:
    """One JSON object a line; blank lines are skipped."""
    number = 0
    readline, loads = stream.readline, orjson.loads
    while line := readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(UTF8_MARK)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            _skip_line(stream)
            yield number, f"is longer than {MAX_LINE_BYTES:,} bytes"
            continue
        try:
            fields = loads(line)
        except orjson.JSONDecodeError as fault:
            if not line.strip():
                continue
            yield number, f"is not JSON: {fault}"
            continue
        yield number, fields if type(fields) is dict else "is not a JSON object"


def _skip_line(stream: IO[bytes]) -> None:
    while (more := stream.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
        pass


def csv_lines(stream: IO[bytes], headless_kind: str | None = None) -> Iterator[Line]:
    """Rows under a header of known columns, or in the order that `headless_kind` has; empty cells count as absent.

    Bytes that are not UTF-8 pass through as surrogates, so any id can be written. `InvalidInput` if the header is invalid.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        rows = csv.reader(text, strict=True)
        columns = POSITIONAL[headless_kind] if headless_kind else _header(rows)
        # Without a header, trailing columns may be left out.
        yield from _rows(rows, columns, 1 if headless_kind else len(columns))
    finally:
        text.detach()  # its end would close the file, which may be read again


def _rows(rows: Any, columns: Sequence[str], fewest: int) -> Iterator[Line]:
    """The rows. Of owner and member alone, the columns of the largest files, as pairs: a third of the time of a mapping."""
    is_pairs, most = sorted(columns) == ["member", "owner"], len(columns)
    fewest = most if is_pairs else fewest
    owner_at, member_at = (columns.index("owner"), columns.index("member")) if is_pairs else (0, 0)
    while True:
        number = rows.line_num + 1  # where the row begins: a quoted cell may hold line ends
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as fault:
            yield number, f"is not CSV: {fault}"
            continue
        if not fewest <= len(row) <= most:
            if row:
                yield number, f"has {len(row)} columns, the header has {most}"
        elif is_pairs:
            yield number, (row[owner_at], row[member_at])
        else:
            yield number, {column: cell for column, cell in zip(columns, row, strict=False) if cell}


def _header(rows: Iterator[list[str]]) -> Sequence[str]:
    try:
        header = [name.strip() for name in next(rows)]
    except (StopIteration, csv.Error):
        raise InvalidInput("line 1", "must be a header that names the columns, such as owner,member,until") from None
    strange = [name[:40] for name in header if name not in COLUMNS]
    if strange or len(set(header)) < len(header):
        raise InvalidInput(
            "line 1",
            f"must be a header of columns out of {','.join(COLUMNS)}, each once"
            + (f"; not known: {', '.join(map(repr, strange))}" if strange else "")
            + " (for a file without a header say --no-header --kind KIND)",
        )
    return header
