"""Lines of an import, as the fields they spell: NDJSON and CSV, read in bounded memory whatever the bytes are.

A line that can't be read is yielded as its problem, with its number, and reading goes on: a file of a million lines
is not refused for one of them. What the fields mean is `fact_fields`' business. Pure but for the stream it is given.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import orjson

from gate.cli.import_fields import COLUMNS, POSITIONAL
from gate.core.file_text import UTF8_MARK
from gate.errors import InvalidInput

Format = Literal["ndjson", "csv"]
Line = tuple[int, Mapping[str, object] | tuple[str, str] | str]
"""The line's number (the first is 1), and its fields, or only (owner, member), or the text of its error."""

MAX_LINE_BYTES = 1 << 20
"""Ten thousand members of 64 bytes, with room; without a bound, a file without line ends would be read into memory."""
MAX_FIELD_CHARS = 4_096
"""Far above an id or a reason; what a forgotten quote may swallow before it is noticed."""


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
        if sorted(columns) == ["member", "owner"]:
            yield from _pairs(rows, columns.index("owner"))
        else:
            yield from _rows(rows, columns, 1 if headless_kind else len(columns))
    finally:
        text.detach()  # its end would close the file, which may be read again


def _rows(rows: Any, columns: Sequence[str], fewest: int) -> Iterator[Line]:
    while True:
        number = rows.line_num + 1  # where the row begins: a quoted cell may hold line ends
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as fault:
            yield number, f"is not CSV: {fault}"
            continue
        if fewest <= len(row) <= len(columns):
            yield number, {column: cell for column, cell in zip(columns, row, strict=False) if cell}
        elif row:
            yield number, f"has {len(row)} columns, the header has {len(columns)}"


def _pairs(rows: Any, owner_at: int) -> Iterator[Line]:
    """The same for the two columns that the largest files have: a third of the time of `_rows`."""
    member_at = 1 - owner_at
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as fault:
            yield number, f"is not CSV: {fault}"
            continue
        if len(row) == 2:
            yield number, (row[owner_at], row[member_at])
        elif row:
            yield number, f"has {len(row)} columns, the header has 2"


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
