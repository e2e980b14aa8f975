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


def prepare(system: System, pairs: Sequence[Pair], pipeline: int) -> tuple[list[Batch], list[bool]]:
    """The pairs as buffers of `pipeline` checks, each asked once: its replies' length, and the answers in order."""
    batches: list[Batch] = []
    answers: list[bool] = []
    step = system.replies_a_check
    with system.connect() as connection:
        for start in range(0, len(pairs) - pipeline + 1, pipeline):
            request = b"".join(map(system.request, pairs[start : start + pipeline]))
            replies, size = ask(connection, request, pipeline * step)
            batches.append(Batch(request, size, pipeline))
            answers += [system.allowed(replies[index : index + step]) for index in range(0, len(replies), step)]
    return batches, answers
