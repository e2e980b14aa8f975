"""Plain technical English: no word of the list, and lines of Markdown that fit a diff (CONTRIBUTING.md)."""

from __future__ import annotations

from pathlib import Path

from scripts.plain_words import found, prose

REPOSITORY = Path(__file__).parents[2]
MAX_MARKDOWN_LINE = 100


def test_no_word_of_the_list_is_used() -> None:
    assert found() == []


def test_lines_of_markdown_are_short() -> None:
    """Tables, code and links can't be broken."""
    long = []
    for path in prose("*.md"):
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            start = line.lstrip()
            in_code ^= start.startswith(("```", "~~~"))
            may_be_long = (
                in_code or start.startswith(("|", "```", "~~~")) or "](" in line or " " not in start.strip("-*> ")
            )
            if len(line) > MAX_MARKDOWN_LINE and not may_be_long:
                long.append(f"{path.relative_to(REPOSITORY)}:{number}: {len(line)}")
    assert long == []
