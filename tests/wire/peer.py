"""A client of one worker without a socket between them."""

from __future__ import annotations

from typing import Any

import hiredis

from gate.errors import ReplicaError
from gate.wire.checks import RevisionDemand
from gate.wire.client import Client, Worker
from gate.wire.commands import COMMANDS, answer
from gate.wire.table import PendingReply


class Peer:
    """A client of one worker: sends words, gets what a Redis client would make of the reply."""

    def __init__(self, worker: Worker) -> None:
        self.client = Client(worker, COMMANDS, "10.0.0.1:7")

    def raw(self, *words: bytes | str) -> bytes | RevisionDemand | PendingReply:
        worker, outage = self.client.worker, None
        try:
            worker.begin()
        except ReplicaError as fault:
            outage = fault
        try:
            return answer(self.client, [word if isinstance(word, bytes) else word.encode() for word in words], outage)
        finally:
            worker.reading.release()

    def __call__(self, *words: bytes | str) -> Any:
        reply = self.raw(*words)
        assert isinstance(reply, bytes), reply
        reader = hiredis.Reader()
        reader.feed(reply)
        parsed = reader.gets()
        assert reader.gets() is False, "more than one reply"
        return parsed

    def error(self, *words: bytes | str) -> str:
        reply = self(*words)
        assert isinstance(reply, hiredis.ReplyError), reply
        return str(reply)


def as_map(pairs: list[Any]) -> dict[str, Any]:
    return {key.decode(): value for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
