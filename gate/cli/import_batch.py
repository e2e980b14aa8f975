"""Facts on their way into the store, gathered so that each is written once and an owner's entries travel together.

Within a Batch the last line about a thing wins, as it would if the lines were written one by one; dictionaries keep
their order. A Batch remembers the line on which each list first appeared, so that a list that is refused as a whole
(its ceiling) can be reported by line as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gate.core.model import FOREVER_MS, ListKind

ListKey = tuple[ListKind, bytes]


class Imposition(NamedTuple):
    """A Ban or a Mute, but for whose it is."""

    until_ms: int
    why: str
    by: str


class Newcomer(NamedTuple):
    """A User to register, but for who it is; `line` is where. None: since now, or what there is."""

    line: int
    at_ms: int | None = None
    name: str | None = None
    portrait: str | None = None


@dataclass(slots=True)
class Batch:
    """Some facts, by kind. `entries` counts what was taken in, repeats included."""

    bans: dict[bytes, Imposition] = field(default_factory=dict)
    mutes: dict[bytes, Imposition] = field(default_factory=dict)
    lists: dict[ListKey, dict[bytes, int]] = field(default_factory=dict)
    switches: dict[bytes, bool] = field(default_factory=dict)
    registered: dict[bytes, Newcomer] = field(default_factory=dict)
    lines: dict[ListKey, int] = field(default_factory=dict)
    entries: int = 0
    source: str = ""

    def put(self, kind: ListKind, owner: bytes, members: Iterable[bytes], until_ms: int, line: int) -> None:
        """List entries; an entry that is here already takes the new end."""
        key = (kind, owner)
        known = self.lists.get(key)
        if known is None:
            known = self.lists[key] = {}
            self.lines[key] = line
        before = len(known)
        for member in members:
            known[member] = until_ms
        # Repeats count once: what is reported is what the store was asked to hold.
        self.entries += len(known) - before

    def put_one(self, kind: ListKind, owner: bytes, member: bytes, line: int) -> None:
        """One list entry without end."""
        known = self.lists.get((kind, owner))
        if known is None:
            known = self.lists[kind, owner] = {}
            self.lines[kind, owner] = line
        if member not in known:
            self.entries += 1
        known[member] = FOREVER_MS
