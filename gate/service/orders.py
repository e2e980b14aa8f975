"""What the supervisor tells a role's process and what it hears back: JSON lines over the socket pair that is the role's stdin.

A pipe rather than arguments or environment, because the Redis URL may hold a password and both of those can be read from
outside; and because its end tells the role that the supervisor is gone. The supervisor sends one `Order`, then `GO` once the
embedded server answers. The role sends one `Word` when it does its work, or why it can't.
"""

from __future__ import annotations

import msgspec

from gate.config import Endpoint, ServeConfig

GO = b"go\n"
MAX_LINE_BYTES = 1 << 20


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one process of the service needs to know."""

    name: str
    """Its own, as `worker-1`."""
    slot: int
    """Its own on the roles board."""
    index: int
    """Which of several alike."""
    config: ServeConfig
    redis_url: str
    http: Endpoint | None
    resp: Endpoint | None
    """Where to listen, port 0 resolved; None if that role does not run here."""
    unix_fd: int | None
    """The listening unix socket that all workers share, inherited under this number."""
    is_restart: bool
    """This process was ready before in this service's life, and died: what is away now is no reason to refuse."""
    node_id: str


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a role says: it is ready, or it can't start for a reason that a restart won't cure by itself."""

    is_ready: bool
    problem: str = ""
    is_usage: bool = False
    """The problem is a mistake in the options."""


def pack(message: Order | Word) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def read_order(line: bytes) -> Order:
    """The order in a line."""
    return msgspec.json.decode(line, type=Order)


def read_word(line: bytes) -> Word:
    """The word in a line."""
    return msgspec.json.decode(line, type=Word)
