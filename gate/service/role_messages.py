"""Messages between the supervisor and a role's process: JSON lines over the socket pair that is the role's stdin.

A pipe rather than arguments or environment, because the Redis URL may hold a password and both of those can be read from
outside; and because its end shows the role that the supervisor is gone. The supervisor sends one `RoleConfig`, then `GO`
once the embedded server answers, and `RELOAD` when the files of TLS are to be read again. The role sends a `RoleMessage` when
it does its work, while it waits for something, or if it can't start.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gate.config import ServeConfig
from gate.option_values import Endpoint

GO = b"go\n"
RELOAD = b"reload\n"
# The longest line is an order: options, of which lists and URLs may be long. It bounds what a bug can make a reader keep.
MAX_LINE_BYTES = 1 << 20


class RoleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one process of the service needs to know."""

    name: str
    """Its own, as `worker-1`."""
    slot: int
    """Its place in the heartbeats of all roles."""
    index: int
    """Which of several alike."""
    config: ServeConfig
    redis_url: str
    http: Endpoint | None
    admin: Endpoint | None
    resp: Endpoint | None
    """Where to listen, port 0 resolved; None if that role does not run here."""
    resp_tls: Endpoint | None
    http_tls: Endpoint | None
    """The same of the TLS ports; None if the service has none."""
    unix_fd: int | None
    """The listening unix socket that all workers share, inherited under this number."""
    # Numbers, not objects: a descriptor that is passed on keeps its number in the child.
    shared_fd: int | None
    """The memory that HTTP processes share, inherited under this number; None where there is one of them."""
    is_restart: bool
    """This process was ready before in this service's life, and died: what is away now is no reason to refuse."""
    node_id: str


class RoleMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a role says of itself."""

    what: Literal["ready", "opened", "reached", "waits", "refuses"]
    """`opened`, by the replicator: the Replica on disk was looked at, and is taken away if it can't be trusted. `reached`:
    Redis answered and was accepted. `refuses`: it can't start, for a reason that a restart won't cure by itself."""
    problem: str = ""
    """What it waits for; "" for nothing any more. Or why it refuses."""
    is_usage: bool = False
    """The problem is a mistake in the options."""


def pack(message: RoleConfig | RoleMessage) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def read_role_config(line: bytes) -> RoleConfig:
    """The order in a line."""
    return msgspec.json.decode(line, type=RoleConfig)


def read_role_message(line: bytes) -> RoleMessage:
    """The word in a line."""
    return msgspec.json.decode(line, type=RoleMessage)
