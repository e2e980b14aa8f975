"""The trace as checks: each message one `GATE.VERDICT`, through the RESP port, with redis-py, as most Python programs would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import redis

from demo.dataset import Message

PIPELINE = 512
"""Checks on the wire at once; redis-py, not the service, is what limits this replay."""


def replay(client: redis.Redis, messages: Sequence[Message]) -> Counter[str]:
    """How often each verdict came, over the whole trace in order."""
    verdicts: Counter[str] = Counter()
    remaining = iter(messages)
    while batch := list(islice(remaining, PIPELINE)):
        pipeline = client.pipeline(transaction=False)
        for sender, recipient in batch:
            pipeline.execute_command("GATE.VERDICT", sender, recipient)
        verdicts.update(word.decode() for word in pipeline.execute())
    return verdicts
