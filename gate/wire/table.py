"""What one row of the command table says: who answers and when, how many arguments, which scopes, how it goes in a transaction.

Apart from `commands`, which holds the rows, so that `client` and `transactions` can name a row's type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gate.core.scopes import Scope

if TYPE_CHECKING:
    from gate.wire.checks import RevisionDemand
    from gate.wire.client import Client


class PendingReply(msgspec.Struct, frozen=True):
    """Once `arrival` is done, `word` gives the reply, or raises a `GateError` (an error reply), or says what else to wait for.

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


Handler = Callable[["Client", Sequence[bytes]], "bytes | RevisionDemand | PendingReply"]
# A command of which only the question to Redis is left.
Asking = Callable[[], "bytes | PendingReply"]


class InMulti(Enum):
    """What happens to a command between MULTI and EXEC."""

    HERE = auto()
    """Queued. EXEC answers all of these together, from one commit of the Replica."""
    REDIS = auto()
    """Queued. EXEC asks Redis behind those, in order."""
    AT_ONCE = auto()
    """Not queued: it ends the transaction, or is refused as it is."""
    NEVER = auto()
    """Refused, since it can't be queued."""


class Command(NamedTuple):
    """One row: arguments without the name, at least and at most (None: as many as the parser takes)."""

    answer: Handler
    least: int
    most: int | None
    needs: tuple[Scope, ...] | None
    """The scopes that the connection's credential must have, all of them; () for any App's, None without an App."""
    in_multi: InMulti = InMulti.HERE
    weigh: Callable[[Sequence[bytes]], int] | None = None
    """How many checks it costs as much as, in time or in the length of its reply; None: one."""
    decide: Callable[[Client, Sequence[bytes]], Asking] | None = None
    """Where a command for Redis needs the Replica first: the part of it that EXEC does together with the checks."""

    is_listed: bool = True
    """Whether `COMMAND` names it: what is always refused it does not."""

    @property
    def needs_app(self) -> bool:
        """Whether it is refused before AUTH."""
        return self.needs is not None


# By name, in capitals.
Table = Mapping[bytes, Command]
