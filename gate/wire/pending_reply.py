"""A reply that is still to come: what presence commands answer, since they ask Redis.

The connection keeps its place among the replies. Nothing waits for it but those replies; see `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec


class PendingReply(msgspec.Struct, frozen=True):
    """Once `arrival` is done, `word` gives the reply, or raises a `GateError`, or says what else to wait for.

    `holds_back`: what follows on the connection may depend on it, so it waits. `abandon` is called if the peer is
    gone first or may be, perhaps more than once, perhaps before `word`.
    `cancel` is called once it certainly is, and `hurry` if the answer should come now: its peer said its last word, or the
    worker drains. `listens`: it takes long, so that the peer's end has to be noticed meanwhile.
    `weight` is how many small replies it counts for where the bound on what a connection waits for is kept.
    """

    arrival: asyncio.Future[Any]
    word: Callable[[], bytes | PendingReply]
    holds_back: bool = False
    abandon: Callable[[], object] | None = None
    cancel: Callable[[], object] | None = None
    hurry: Callable[[], object] | None = None
    listens: bool = False
    weight: int = 1
