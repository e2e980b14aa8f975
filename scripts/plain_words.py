"""Finds the words that `CONTRIBUTING.md` rules out of code and documentation.

    .venv/bin/python -m scripts.plain_words [PATH...]

Prints each line that holds one of them, of the files that git knows; the exit status is 1 if there is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = ("told", "tells", "whoever", "nobody", "anew", "beside")
"""In code they are often a part of a name, so only letters continue a word: `_` and digits end it."""
PHRASES = ("put out", "lies in", "what was asked", "said so")
_WORD = "|".join(WORDS)
_PHRASE = "|".join(PHRASES).replace(" ", r"\s+")
# Python's own `is None` has a capital; "none of these" is a statement.
LISTED = re.compile(rf"(?i:(?<![A-Za-z])(?:{_WORD})(?![A-Za-z])|\b(?:{_PHRASE})\b)|\bis\s+none\b(?!\s+of\b)")
CONTRACTS = ("gate_presence_changes_told_total",)
"""Names that callers use, which stay as they are."""
# Reports of measurements, other projects' files, and what no person writes.
SKIPPED = ("loadtests/results/", "tests/conformance/node/", "scripts/plain_words.py")
NOT_PROSE = (".svg", ".lock", ".json", ".png", ".csv", ".gz", ".woff2")


def hits(text: str) -> list[int]:
    """The numbers of the lines that hold a word of the list."""
    for name in CONTRACTS:
        text = text.replace(name, "")
    return [number for number, line in enumerate(text.splitlines(), 1) if LISTED.search(line)]


def prose(*paths: str) -> Iterator[Path]:
    """The files that the rule is for."""
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith(SKIPPED) and not name.endswith(NOT_PROSE) and (ROOT / name).is_file():
            yield ROOT / name


def found(*paths: str) -> list[str]:
    """`file:line: text` of each hit."""
    lines: list[str] = []
    for path in prose(*paths):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        lines += [f"{name}:{number}: {text.splitlines()[number - 1].strip()}" for number in hits(text)]
    return lines


if __name__ == "__main__":
    all_found = found(*sys.argv[1:])
    print("\n".join(all_found) or "none")
    sys.exit(bool(all_found))
