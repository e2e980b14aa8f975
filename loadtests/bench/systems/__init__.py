"""Systems that answer the benchmark's question over a socket, each behind the same few calls."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Protocol

from loadtests.bench.client import Batch, ask
from loadtests.bench.pairs import Pair


class System(Protocol):
    """One way to ask "may A message B?" over RESP."""

    name: str
    replies_a_check: int

    def connect(self) -> socket.socket:
        """A connection that is ready to be asked."""
        ...

    def request(self, pair: Pair) -> bytes:
        """One check, encoded."""
        ...

    def allowed(self, replies: Sequence[Any]) -> bool:
        """What the replies to one check mean."""
        ...


def prepare(system: System, requests: Sequence[bytes], pipeline: int) -> tuple[list[Batch], list[bool]]:
    """The encoded checks as buffers of `pipeline`, each asked once: its replies' length, and the answers in order."""
    batches: list[Batch] = []
    answers: list[bool] = []
    step = system.replies_a_check
    with system.connect() as connection:
        for start in range(0, len(requests) - pipeline + 1, pipeline):
            request = b"".join(requests[start : start + pipeline])
            replies, size = ask(connection, request, pipeline * step)
            batches.append(Batch(request, size, pipeline))
            answers += [system.allowed(replies[index : index + step]) for index in range(0, len(replies), step)]
    return batches, answers


def encoded(system: System, pairs: Sequence[Pair]) -> list[bytes]:
    """Every pair's check, encoded once."""
    return [system.request(pair) for pair in pairs]
