"""The parts of a snapshot: facts as they are read out of Redis and loaded into a Replica.

They are values that cross a layer: the store yields them, the Replica's loader takes them, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gate.core.model import AppFacts, ListKind, UserFacts


class AppPart(NamedTuple):
    """An App, out of a snapshot."""

    facts: AppFacts


class UserPart(NamedTuple):
    """A User's facts, out of a snapshot; the list sizes in `facts` are 0 (the loader counts)."""

    app: str
    user: bytes
    facts: UserFacts


class ListPart(NamedTuple):
    """List entries of one owner that share an end. The same entry may come twice, first without and then with its end."""

    app: str
    kind: ListKind
    owner: bytes
    members: Sequence[bytes]
    until_ms: int


Part = AppPart | UserPart | ListPart
