"""docs/clients.md, read by the tests: its snippets, and its tables of what clients send and what Gate answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


@dataclass(frozen=True, slots=True)
class Sent:
    """One client's row: what it sends of its own accord."""

    version: str
    on_connecting: list[str]
    later: list[str]


@dataclass(frozen=True, slots=True)
class Answered:
    """One command as it is sent, word by word, and its reply: the kind of it, or what it is or begins with."""

    command: tuple[str, ...]
    reply: str


def snippet(client: str) -> str:
    """The code under the client's heading."""
    found = re.search(rf"^## {re.escape(client)}\n.*?^```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"no snippet for {client} on {PAGE.name}"
    return found[1]


def sent_by_clients() -> dict[str, Sent]:
    """The table of the clients that are run, by name."""
    rows = _table("| client | version | on connecting | later, in addition to `MULTI` and `EXEC` |")
    return {name: Sent(version, _code(first), _code(later)) for name, version, first, later in rows}


def sent_by_absent_clients() -> dict[str, list[str]]:
    """The table of those that can't be installed: all commands of each."""
    rows = _table("| client | on connecting | later, by default |")
    return {name: [*_code(first), *_code(later)] for name, first, later in rows}


def answers() -> dict[str, Answered]:
    """The table of answers, by the name that the command has in the other two."""
    rows = _table("| command | as sent | answer | why |")
    return {_code(name)[0]: Answered(tuple(_code(sent)[0].split()), reply.strip("`")) for name, sent, reply, _ in rows}


def _table(header: str) -> list[list[str]]:
    lines = PAGE.read_text().splitlines()
    first = lines.index(header) + 2
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
