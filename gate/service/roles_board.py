"""The page on which every process of a service shows that it lives: one slot each, memory-mapped.

A process that hangs still exists, so existing is no proof; a heartbeat is. The supervisor lays the page out before any role
runs; each role beats its own slot twice a second; HTTP reads all of them for /readyz and /metrics. Each field is one aligned
8-byte word with a single writer. Moments are monotonic, one clock for all processes.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

BEAT_EVERY_S = 0.5
SILENT_AFTER_MS = 3_000
"""Six beats missed: not a busy moment but a process that hangs."""

_NAME_BYTES = 32
_SLOT_WORDS = 8
_BEAT, _READY = 4, 5


class RolesBoard:
    """The page, mapped for reading and writing."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as page:
            self._map = mmap.mmap(page.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def lay_out(cls, path: Path, names: Sequence[str]) -> RolesBoard:
        """Replace the page by one with a silent slot for each name, in order."""
        draft = path.with_name(path.name + ".draft")
        draft.write_bytes(b"".join(name.encode().ljust(_SLOT_WORDS * 8, b"\0") for name in names))
        draft.chmod(0o600)
        draft.replace(path)
        return cls(path)

    def beat(self, slot: int, now_monotonic_ms: int) -> None:
        """Say that the process of this slot lives."""
        self._words[slot * _SLOT_WORDS + _BEAT] = now_monotonic_ms

    def set_ready(self, slot: int, ready: bool) -> None:
        """Say that the process of this slot does its work, or (its supervisor) that it died."""
        self._words[slot * _SLOT_WORDS + _READY] = int(ready)

    def answering(self, now_monotonic_ms: int) -> dict[str, bool]:
        """Of each process by name, whether it is ready and was heard of lately."""
        return {
            self._name(slot): self._answers(slot, now_monotonic_ms) for slot in range(len(self._words) // _SLOT_WORDS)
        }

    def silent(self, now_monotonic_ms: int) -> list[str]:
        """The names of those that do not answer."""
        return [name for name, answers in self.answering(now_monotonic_ms).items() if not answers]

    def _name(self, slot: int) -> str:
        start = slot * _SLOT_WORDS * 8
        return self._map[start : start + _NAME_BYTES].rstrip(b"\0").decode()

    def _answers(self, slot: int, now_monotonic_ms: int) -> bool:
        at = slot * _SLOT_WORDS
        return bool(self._words[at + _READY]) and now_monotonic_ms - self._words[at + _BEAT] <= SILENT_AFTER_MS
