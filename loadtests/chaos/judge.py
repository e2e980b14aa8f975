"""Judges verdicts: one register is one fact, and a read is right if a write that may be in force explains it.

Pure: moments are arguments, in seconds of the monotonic clock. Of each register at most one write is under way at a time.
A write W is superseded for a read once some other write X is known to be in force, where X was called after W had ended:

    applied `all`    X is in force on every node from its answer on, for a read that calls itself fresh
    applied `node`   the same on the node that answered
    any answer       X is in Redis, so a read whose facts are younger than the answer shows it; a read that calls
                     itself fresh is at most `FRESH_FOR_S` old, any other as old as it says
    `MIN revision`   the read that demanded X's Revision shows it

A write whose outcome is unknown may land until everything that could hold it back is over (`closed_s`). One that was refused
never explains a read. Where Redis loses its data on purpose, `lost` sets in what the loss left as one more write.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

FRESH_FOR_S = 1.0
"""docs/behaviour.md: facts are fresh for one second after a stamp."""
HONESTY_SLACK_S = 0.75
"""How much older than it says a Replica may be: a round of stamps, and a busy machine between the answer and the clock."""
KEEP_S = 180.0
"""Reads that say that they are older than this are not judged."""
CLOCK_MARGIN_MS = 1_500
BEGUN_S = 1e-3
"""When the state without any fact was in force: before every moment of a run."""
MOMENT_S = 1e-6
SLICE = 24
"""Writes and reads of a register that a violation shows."""

Applied = Literal["all", "node", "pending"]


class Value(NamedTuple):
    """A possible answer of a check of a register: the reason word, and its end in Unix ms."""

    word: str
    until_ms: int | None = None


ALLOWED = Value("allowed")


@dataclass(slots=True, eq=False)
class Write:
    """One write, from its call to its answer. `applied` is None while it is not known to be in."""

    value: Value
    node: int
    called_s: float
    answered_s: float = math.inf
    closed_s: float = math.inf
    applied: Applied | None = None
    refused: bool = False
    revision: str = ""
    is_doubted: bool = False
    """Acknowledged while Redis lost data."""

    @property
    def is_open(self) -> bool:
        """Answered without an outcome, and may still land."""
        return self.answered_s < math.inf and self.applied is None and not self.refused and self.closed_s == math.inf

    def done(self, applied: Applied, revision: str, now_s: float) -> None:
        self.applied, self.revision = applied, revision
        self.answered_s = self.closed_s = now_s

    def refuse(self, now_s: float) -> None:
        """It was answered that it was not made, and will not be."""
        self.refused, self.answered_s, self.closed_s = True, now_s, now_s

    def leave_open(self, now_s: float) -> None:
        self.answered_s = now_s

    def __str__(self) -> str:
        outcome = "refused" if self.refused else self.applied or "unknown"
        return (
            f"{self.called_s:.3f}-{self.answered_s:.3f} write {self.value} node {self.node}: {outcome} {self.revision}"
        )


@dataclass(slots=True)
class Read:
    """One verdict, and the greatest age of its facts that it reports."""

    surface: str
    node: int
    word: str
    began_s: float
    ended_s: float
    stale_ms: float
    until_ms: int | None = None
    shows_until: bool = True
    demanded: Write | None = None

    def shows(self, value: Value) -> bool:
        return self.word == value.word and (not self.shows_until or self.until_ms == value.until_ms)

    def __str__(self) -> str:
        demanded = f" MIN {self.demanded.revision}" if self.demanded else ""
        said = f"{self.word} {self.until_ms or ''} stale {self.stale_ms:g}{demanded}".replace("  ", " ")
        return f"{self.began_s:.3f}-{self.ended_s:.3f} {self.surface} node {self.node}: {said}"


@dataclass(eq=False)
class Register:
    """One fact: `sender` to `recipient`, and the word of the verdict while it is set."""

    name: str
    kind: Literal["ban", "mute", "blacklist"]
    sender: str
    recipient: str
    word: str
    writes: list[Write] = field(default_factory=lambda: [Write(ALLOWED, -1, 0.0, BEGUN_S, BEGUN_S, "all")])
    reads: deque[Read] = field(default_factory=lambda: deque(maxlen=SLICE))
    wrong_s: float = -math.inf
    """When it was last read wrongly."""

    @property
    def is_settled(self) -> bool:
        """Whether the next write may begin: nothing is under way, and nothing may still land."""
        return all(write.answered_s < math.inf and not write.is_open for write in self.writes)

    def begin(self, value: Value, node: int, now_s: float) -> Write:
        write = Write(value, node, now_s)
        self.writes.append(write)
        return write

    def right(self, read: Read, ahead_ms: float, wall_ms: float) -> bool:
        """Whether some write explains the read; `ahead_ms` is by how much the node's clock may be fast."""
        self.reads.append(read)
        floor_s = self._floor_s(read)
        for write in reversed(self.writes):
            if write.refused or write.called_s > read.ended_s or write.closed_s <= floor_s:
                continue
            if read.shows(write.value):
                return True
            ends_ms = write.value.until_ms
            if read.word == ALLOWED.word and ends_ms is not None and ends_ms <= wall_ms + ahead_ms + CLOCK_MARGIN_MS:
                return True
        return False

    def losing(self, began_s: float, kept: tuple[float, float] | None, is_durable: bool = False) -> list[Write]:
        """Redis is about to lose data. What it keeps it had at some moment of `kept`; None: it keeps nothing.

        Where writes are durable (on a replica before they are acknowledged), it keeps the last of them or what came later.
        """
        values = {ALLOWED} if kept is None else set(self._values(*kept, is_durable))
        left = [Write(value, -1, began_s) for value in sorted(values, key=str)]
        self.writes += left
        return left

    def lost(self, left: list[Write], began_s: float, ended_s: float, is_durable: bool = False) -> None:
        """Redis has lost data. Writes that were answered in between are not demanded, unless they were durable."""
        for write in self.writes:
            was_acknowledged = write.is_doubted or (_may_be_lost(write, is_durable) and write.applied is not None)
            if write.node >= 0 and was_acknowledged and began_s <= write.answered_s <= ended_s:
                write.applied, write.closed_s = None, ended_s
        for write in left:
            write.done("pending", "", ended_s)
            if is_durable:
                write.closed_s = began_s + MOMENT_S  # a durable write of meanwhile supersedes it

    def prune(self, now_s: float) -> None:
        """Forget what no read can show any more."""
        floor_s = max(
            (one.called_s for one in self.writes if one.applied and one.answered_s < now_s - KEEP_S), default=-math.inf
        )
        self.writes = [one for one in self.writes if one.closed_s > floor_s] or self.writes[-1:]

    def story(self) -> list[str]:
        """The slice that a violation shows, in order."""
        story = [(one.called_s, str(one)) for one in self.writes[-SLICE:]] + [
            (one.began_s, str(one)) for one in self.reads
        ]
        return [line for _, line in sorted(story)]

    def _floor_s(self, read: Read) -> float:
        """Writes that had ended by then are superseded."""
        floor_s = -math.inf if read.demanded is None else read.demanded.called_s
        aged_s = read.began_s - max(FRESH_FOR_S, read.stale_ms / 1_000) - HONESTY_SLACK_S
        for write in self.writes:
            if write.applied is None or write.called_s <= floor_s:
                continue
            is_fresh = read.stale_ms == 0 and (
                write.applied == "all" or (write.applied == "node" and write.node == read.node)
            )
            if write.answered_s <= (read.began_s if is_fresh else aged_s):
                floor_s = write.called_s
        return floor_s

    def _values(self, from_s: float, to_s: float, is_durable: bool) -> Iterable[Value]:
        """The values that Redis may have held during that time."""
        sure = (
            one
            for one in self.writes
            if one.applied and (one.answered_s <= from_s or not _may_be_lost(one, is_durable))
        )
        floor_s = max((one.called_s for one in sure), default=-math.inf)
        return (one.value for one in self.writes if not one.refused and one.called_s <= to_s and one.closed_s > floor_s)


def _may_be_lost(write: Write, is_durable: bool) -> bool:
    """Whether a failover may undo it though it was acknowledged."""
    return not is_durable or write.applied == "pending"
