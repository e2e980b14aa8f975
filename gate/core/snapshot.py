"""The parts of a snapshot: facts that are read from Redis and loaded into a Replica.

These values cross a layer: the store yields them and the Replica's loader takes them. Neither imports the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gate.core.model import AppFacts, ListKind, UserFacts


class AppPart(NamedTuple):
    """An App of a snapshot."""

    facts: AppFacts


class UserPart(NamedTuple):
    """A User's facts of a snapshot. The list sizes in `facts` are 0; the loader counts entries."""

    app: str
    user: bytes
    facts: UserFacts


class ListPart(NamedTuple):
    """List entries of one owner with the same end. An entry may come twice, first without and then with its end."""

    app: str
    kind: ListKind
    owner: bytes
    members: Sequence[bytes]
    until_ms: int


Part = AppPart | UserPart | ListPart
