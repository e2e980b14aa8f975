"""The page on which every process of a service shows that it lives: one slot each, memory-mapped.

A process that hangs still exists, so existing is no proof; a heartbeat is. The supervisor lays the page out before any role
runs; each role beats its own slot twice a second, and the supervisor one of its own; HTTP reads all of them for /readyz and
/metrics. A slot has room for the process id, which the supervisor writes, and for a note: what its process waits for. Each
field is one aligned 8-byte word with a single writer; a note may be read while it is replaced, and then reads garbled once.
Moments are monotonic, one clock for all processes.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

BEAT_EVERY_S = 0.5
# Six beats missed: not a busy moment but a process that hangs.
SILENT_AFTER_MS = 3_000

# The slot of the process that restarts the others: while it does not run, nothing that dies comes back.
SUPERVISOR = "supervisor"

_NAME_BYTES = 32
_SLOT_WORDS = 64
# Words of 8 bytes; the first four have the name. One writer each, so no lock is needed.
_BEAT, _READY, _NOTE_BYTES, _PID = 4, 5, 6, 7
_NOTE_AT = 8 * 8
MAX_NOTE_BYTES = _SLOT_WORDS * 8 - _NOTE_AT


class Heartbeats:
    """The page, mapped for reading and writing."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as page:
            self._map = mmap.mmap(page.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, path: Path, names: Sequence[str]) -> Heartbeats:
        """Replace the page by one with a silent slot for each name, in order."""
        draft = path.with_name(path.name + ".draft")
        draft.write_bytes(b"".join(name.encode().ljust(_SLOT_WORDS * 8, b"\0") for name in names))
        draft.chmod(0o600)
        # A new file: processes of an earlier service may still write into the old one.
        draft.replace(path)
        return cls(path)

    def beat(self, slot: int, now_monotonic_ms: int) -> None:
        """Say that the process of this slot lives."""
        self._words[slot * _SLOT_WORDS + _BEAT] = now_monotonic_ms

    def set_ready(self, slot: int, ready: bool) -> None:
        """Say that the process of this slot does its work, or (its supervisor) that it died."""
        self._words[slot * _SLOT_WORDS + _READY] = int(ready)

    def set_pid(self, slot: int, pid: int) -> None:
        """Say which process has this slot; 0 for none."""
        self._words[slot * _SLOT_WORDS + _PID] = pid

    def pids(self) -> dict[str, int]:
        """The process id of each process that runs, by name."""
        found = {self._name(slot): self._words[slot * _SLOT_WORDS + _PID] for slot in self._slots()}
        return {name: pid for name, pid in found.items() if pid}

    def note(self, slot: int, text: str) -> None:
        """Say what the process of this slot waits for; "" once it waits for nothing."""
        packed = text.encode()[:MAX_NOTE_BYTES]
        start = slot * _SLOT_WORDS * 8 + _NOTE_AT
        # First no note, then the bytes, then their length: a reader rarely sees half of two texts.
        self._words[slot * _SLOT_WORDS + _NOTE_BYTES] = 0
        self._map[start : start + len(packed)] = packed
        self._words[slot * _SLOT_WORDS + _NOTE_BYTES] = len(packed)

    def answering(self, now_monotonic_ms: int) -> dict[str, bool]:
        """Of each process by name, whether it is ready and was heard of lately."""
        return {self._name(slot): self._answers(slot, now_monotonic_ms) for slot in self._slots()}

    def silent(self, now_monotonic_ms: int) -> list[str]:
        """The names of those that do not answer."""
        return [name for name, answers in self.answering(now_monotonic_ms).items() if not answers]

    def explained(self, name: str) -> str:
        """The name, and what its process waits for if it says so."""
        text = self._note_of(next(slot for slot in self._slots() if self._name(slot) == name))
        return f"{name}: {text}" if text else name

    def warnings(self, now_monotonic_ms: int) -> list[str]:
        """What processes that answer note all the same; what several of them note alike is listed once."""
        notes = (self._note_of(slot) for slot in self._slots() if self._answers(slot, now_monotonic_ms))
        return list(dict.fromkeys(filter(None, notes)))

    def _slots(self) -> range:
        return range(len(self._words) // _SLOT_WORDS)

    def _note_of(self, slot: int) -> str:
        start = slot * _SLOT_WORDS * 8 + _NOTE_AT
        length = min(self._words[slot * _SLOT_WORDS + _NOTE_BYTES], MAX_NOTE_BYTES)
        return self._map[start : start + length].decode(errors="replace")

    def _name(self, slot: int) -> str:
        start = slot * _SLOT_WORDS * 8
        return self._map[start : start + _NAME_BYTES].rstrip(b"\0").decode()

    def _answers(self, slot: int, now_monotonic_ms: int) -> bool:
        at = slot * _SLOT_WORDS
        return bool(self._words[at + _READY]) and now_monotonic_ms - self._words[at + _BEAT] <= SILENT_AFTER_MS
