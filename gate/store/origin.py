"""Who makes the writes of a task, as Gate found out itself: for the audit, next to what the caller says of itself.

Set once where a request is authenticated, a command begins or a role starts, and read where an audit entry is made. A request
is a task of its own, and tasks that it starts inherit the value. So no write on the way can leave it out or choose another.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal, NamedTuple, cast, get_args

OriginKind = Literal["app", "key", "operator", "user", "cli", "node", "unknown"]
"""`app`: by the App's own secret; `key`: by one of its keys; `cli`: a command, by the operating system's user; `unknown`: an
entry of a version that did not record it."""
KINDS: frozenset[str] = frozenset(get_args(OriginKind))


class Origin(NamedTuple):
    """Who, and where it came from: the id of the HTTP request and its address, "" without a request."""

    kind: OriginKind
    name: str
    request_id: str = ""
    address: str = ""


UNKNOWN = Origin("unknown", "")
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)


def packed_origin() -> str:
    """Return the field of an audit entry. The name is last: it may hold anything, the others no space."""
    kind, name, request_id, address = ORIGIN.get()
    return f"{kind} {request_id} {address} {name}"


def unpacked_origin(packed: bytes | None) -> Origin:
    """Return what an entry's field says; `UNKNOWN` for an entry without it."""
    if packed is None:
        return UNKNOWN
    kind, request_id, address, name = packed.decode().split(" ", 3)
    return Origin(cast("OriginKind", kind) if kind in KINDS else "unknown", name, request_id, address)
