"""What commands print: tables and short lines for people, one JSON document for programs.

All text for people passes through `shown_text` here, so that no reason, name or id of another person can move the cursor or
forge a line. Results go to stdout; progress, warnings and errors to stderr, so that `gate … --json | jq` always works. Rich is
imported only when a table is drawn: `--json` callers do not pay for it.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from gate.core.shown import counted as counted
from gate.core.shown import shown_id as shown_id
from gate.core.shown import shown_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# The number of ids in one line; --json prints all of them.
MAX_NAMED = 20

# Characters that JSON does not escape and a terminal acts on or hides: C1 and bidi controls, line separators, marks.
_UNPRINTABLE = re.compile("[\x7f-\xa0\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")

JsonId = str | dict[str, str]


def json_id(raw: bytes) -> JsonId:
    """An id in JSON: text where it is UTF-8, else `{"b64": …}`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def some_ids(raw_ids: Sequence[bytes]) -> str:
    """The first ids in one line, and whether there are more."""
    return ", ".join(map(shown_id, raw_ids[:MAX_NAMED])) + (", ..." if len(raw_ids) > MAX_NAMED else "")


def print_json(document: Any) -> None:
    """One JSON document, indented, on stdout."""
    sys.stdout.write(_harmless(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()) + "\n")


def print_json_line(line: str) -> None:
    """A line that is one JSON document, on stdout."""
    sys.stdout.write(_harmless(line) + "\n")


def _harmless(document: str) -> str:
    """The same JSON, with what a terminal could act on written as `\\uXXXX`; programs read the same text."""
    # `orjson` escapes only what JSON must; a terminal acts on more.
    return _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], document)


def say(line: str) -> None:
    """One line on stdout, with what is not printable escaped."""
    sys.stdout.write(shown_text(line) + "\n")


def warn(line: str) -> None:
    """One line on stderr, with what is not printable escaped."""
    sys.stderr.write(shown_text(line) + "\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console without highlighting and markup: it prints text of other people."""
    from rich.console import Console

    class Printer(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the program with 1, which means "denied"

    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width: rows must not wrap, so that grep finds them.
    width = None if stream.isatty() else 10_000
    return Printer(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> Table:
    """A table for people, which no text in it can harm."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As `Text`: rich would read `[bold]` in a name as markup.
        table.add_row(*(Text(shown_text(cell)) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table on stdout; where a terminal is too narrow for its longest words, a block of lines for each row."""
    from rich.measure import Measurement

    shown = [[shown_text(cell) for cell in row] for row in rows]
    table = table_of(columns, shown, title=title)
    there = console()
    # Folded cells break ids in two, which can't be copied then.
    if Measurement.get(there, there.options.update(max_width=10_000), table).minimum <= there.width:
        there.print(table)
        return
    longest = max(map(len, columns))
    blocks = ["\n".join(f"{name:<{longest}}  {cell}" for name, cell in zip(columns, row, strict=True)) for row in shown]
    sys.stdout.write("\n\n".join([*filter(None, [title]), *blocks]) + "\n")
