"""Files of an import: which format, whether compressed, how far read.

The suffix says it all (`.ndjson`, `.jsonl`, `.csv`, each also `.gz`) unless an option does. Every file of a call is
opened and its header read before anything is written, so that a misspelt name of the third file does not leave two
of three imported.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from gate.cli.import_lines import Format, Line, csv_lines, ndjson_lines
from gate.core.file_text import UTF16_MARKS
from gate.errors import InvalidInput

STDIN = "-"
READ_BYTES = 1 << 20
"""Size of one read: fewer, longer reads leave more CPU time to parsing."""

_FORMATS: dict[str, Format] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
_GZIP_MAGIC = b"\x1f\x8b"


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
