"""An end user that asks something, by a request of its own or by a message on its WebSocket."""

from __future__ import annotations

from dataclasses import dataclass

from gate.core.model import AppFacts
from gate.http.context import AppContext
from gate.http.dependencies import Deps


class ClientContext(AppContext):
    """A User whose Token was found valid."""

    __slots__ = ()

    user: bytes


@dataclass(slots=True)
class MessageContext(ClientContext):
    """What came as a message."""

    deps: Deps
    facts: AppFacts
    now_ms: int
    user: bytes
