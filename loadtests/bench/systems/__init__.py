"""Systems that answer the benchmark's question over a socket, each behind the same few calls."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.ports import LOOPBACK
from loadtests.bench.client import ask, connect
from loadtests.bench.load import Script, Target, write_script
from loadtests.bench.pairs import Pair

ASKED_AT_ONCE = 256


class Answer(NamedTuple):
    """The result of one check: whether A may message B, if the system decides it; and each command with its reply."""

    allowed: bool
    exchanges: list[tuple[bytes, bytes]]


class System(ABC):
    """One way to ask "may A message B?" over RESP."""

    name: str
    commands_a_check: int = 1
    decides: bool = True
    """Whether its answer is the decision. Others show what less costs."""

    @property
    @abstractmethod
    def target(self) -> Target:
        """Where it is asked."""

    @abstractmethod
    def commands(self, pair: Pair) -> list[bytes]:
        """One check, encoded."""

    @abstractmethod
    def allowed(self, replies: Sequence[Any]) -> bool:
        """The meaning of the replies to one check."""

    def connect(self) -> socket.socket:
        """A connection that is ready to be asked."""
        connection = connect(LOOPBACK, self.target.port)
        if self.target.greeting:
            ask(connection, self.target.greeting, 1)
        return connection

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Ask each once, some at a time."""
        step = self.commands_a_check
        with self.connect() as connection:
            for start in range(0, len(pairs), ASKED_AT_ONCE):
                commands = [one for pair in pairs[start : start + ASKED_AT_ONCE] for one in self.commands(pair)]
                replies, received = ask(connection, b"".join(commands), len(commands))
                exchanges = list(zip(commands, frames(received), strict=True))
                for at in range(0, len(commands), step):
                    yield Answer(self.allowed(replies[at : at + step]), exchanges[at : at + step])


def prepared(system: System, pairs: Sequence[Pair], path: Path) -> tuple[Script, list[bool]]:
    """Every pair asked once: what the load client needs to ask the same again, and the answers in order."""
    answers = list(system.answers(pairs))
    exchanges = (exchange for answer in answers for exchange in answer.exchanges)
    script = write_script(path, system.target, exchanges, system.commands_a_check)
    return script, [answer.allowed for answer in answers]


def frames(received: bytes) -> Iterator[bytes]:
    """Each whole RESP reply of the bytes."""
    at = 0
    while at < len(received):
        end = _after(received, at)
        yield received[at:end]
        at = end


def _after(received: bytes, at: int) -> int:
    end = received.index(b"\r\n", at) + 2
    kind = received[at : at + 1]
    if kind == b"$" and (size := int(received[at + 1 : end])) >= 0:
        return end + size + 2
    if kind == b"*":
        for _ in range(int(received[at + 1 : end])):
            end = _after(received, end)
    return end
