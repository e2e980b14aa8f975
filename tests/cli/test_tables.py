"""Tables on a narrow terminal: nothing that a cell says is cut."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

PROGRAM = """
from gate.cli.output import print_table
print_table(("node", "Redis", "state"), [("0e34859ff77f4863", "redis://g:***@127.0.0.1:7701", text)])
"""


def shown(text: str, columns: int) -> str:
    """What the program prints on a terminal of that width."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", f"text = {text!r}{PROGRAM}"],
            stdout=theirs,
            env=os.environ | {"COLUMNS": str(columns), "TERM": "xterm"},
            check=True,
            timeout=60,
        )
        return re.sub(r"\x1b\[\d*m|\r", "", os.read(ours, 65_536).decode())
    finally:
        os.close(theirs)
        os.close(ours)


def test_a_table_stays_one_where_its_words_fit() -> None:
    page = shown("words that wrap " * 3, 60)
    assert "\u2500" in page and "\u2026" not in page
    assert max(map(len, page.splitlines())) <= 60
    assert " ".join(page.split()).count("words") == 3


def test_a_row_becomes_lines_where_its_words_do_not_fit() -> None:
    page = shown("current,\x1b[2J fresh", 40)
    assert page == ("node   0e34859ff77f4863\nRedis  redis://g:***@127.0.0.1:7701\nstate  current,\\x1b[2J fresh\n")
