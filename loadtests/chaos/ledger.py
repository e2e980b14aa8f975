"""The registers of a run, what was lost of them, and the violations: the one place that the clients report to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from loadtests.chaos.faultlog import FaultLog
from loadtests.chaos.judge import Read, Register, Write

CLOCK_SETTLES_S = 0.5
"""A verdict that was decided by a clock that was set back since may still be on its way."""
MAX_SHOWN = 40
SAME_INCIDENT_S = 2.0
KINDS: tuple[Literal["ban", "mute", "blacklist"], ...] = ("ban", "mute", "blacklist")
WORDS = {"ban": "sender-banned", "mute": "sender-muted", "blacklist": "blacklisted"}


@dataclass
class Violation:
    """One broken promise, with its story."""

    what: str
    at_s: float
    text: str
    story: list[str]
    faults: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "at_s": self.at_s, "text": self.text, "history": self.story, "faults": self.faults}


@dataclass
class Ledger:
    """The record of a run so far."""

    faults: FaultLog
    registers: list[Register]
    ahead_ms: Callable[[int, float], float] = lambda node, since_s: 0.0
    """By how much a node's clock, or Redis's, was fast at most since then."""
    on_violation: Callable[[Violation], None] = lambda violation: None
    is_durable: bool = False
    """Whether a write that was acknowledged, and not as `pending`, must outlive a failover."""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    losses: int = 0
    lost_s: float = 0.0
    """When the last one was over."""
    is_doubtful: bool = False
    _losing_since_s: float = 0.0
    _left: list[tuple[Register, list[Write]]] = field(default_factory=list)

    def read(self, register: Register, read: Read) -> None:
        """Judge a verdict."""
        self.counts[f"verdicts {read.surface}"] += 1
        self.counts["verdicts fresh" if read.stale_ms == 0 else "verdicts stale"] += 1
        ahead_ms = self.ahead_ms(read.node, read.began_s - CLOCK_SETTLES_S)
        if not register.right(read, ahead_ms, time.time() * 1_000):
            kind = "wrong and fresh" if read.stale_ms == 0 else "older than it says"
            self._wrong(register, read, f"verdict {kind}")

    def _wrong(self, register: Register, read: Read, what: str) -> None:
        """Each wrong verdict counts; of those that follow one another on a register the first is shown."""
        if read.ended_s - register.wrong_s > SAME_INCIDENT_S:
            self.counts["incidents"] += 1
            self.broken(what, f"{register.name}: {read}", register.story())
        else:
            self.counts[f"violation: {what}"] += 1
        register.wrong_s = read.ended_s

    def broken(self, what: str, text: str, story: list[str] | None = None) -> None:
        """A promise was broken."""
        now_s = time.monotonic()
        self.counts[f"violation: {what}"] += 1
        violation = Violation(what, now_s - self.faults.origin_s, text, story or [], self.faults.around(now_s))
        if len(self.violations) < MAX_SHOWN:
            self.violations.append(violation)
        self.on_violation(violation)

    @property
    def broken_count(self) -> int:
        return sum(many for name, many in self.counts.items() if name.startswith("violation: "))

    def losing(self, kept: tuple[float, float] | None) -> None:
        """Redis is about to lose data, on purpose."""
        self._losing_since_s = self.lost_s = time.monotonic()
        self.is_doubtful = True
        self._left = [
            (register, register.losing(self._losing_since_s, kept, self.is_durable)) for register in self.registers
        ]

    def lost(self) -> None:
        """Redis has lost data. Writes that can no longer be demanded are settled."""
        now_s = time.monotonic()
        for register, left in self._left:
            register.lost(left, self._losing_since_s, now_s, self.is_durable)
        self._left = []
        self.losses += 1
        self.lost_s = now_s
        self.is_doubtful = False

    def doubts(self, applied: str) -> bool:
        """Whether a write that is answered so now may be lost."""
        return self.is_doubtful and (applied == "pending" or not self.is_durable)

    def tick(self) -> None:
        """Close the writes that can't land any more, and forget the oldest."""
        now_s = time.monotonic()
        for register in self.registers:
            for write in register.writes:
                if write.is_open and not self.is_doubtful and self.faults.nothing_holds_since(
                    write.node, write.called_s, write.answered_s, now_s
                ):  # fmt: skip
                    write.closed_s = now_s
            register.prune(now_s)


def make_registers(many: int, prefix: str) -> list[Register]:
    """As many of each kind, every one with Users of its own: a verdict then shows one fact. None was ever written."""
    registers = []
    for number in range(many):
        for kind in KINDS:
            name = f"{prefix}-{kind}-{number}"
            registers.append(Register(name, kind, f"{name} sender", f"{name} owner", WORDS[kind]))
    return registers
