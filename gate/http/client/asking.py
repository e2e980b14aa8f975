"""An end user that asks something, by a request of its own or by a message on its WebSocket."""

from __future__ import annotations

from dataclasses import dataclass

from gate.http.calls import AppAsking
from gate.http.ports import AppView, Deps


class ClientAsking(AppAsking):
    """A User whose Token was found valid."""

    __slots__ = ()

    user: bytes


@dataclass(slots=True)
class Message(ClientAsking):
    """What came as a message."""

    deps: Deps
    view: AppView
    now_ms: int
    user: bytes
