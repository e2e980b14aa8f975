"""What the administration of a deployment needs of the store: its Apps and its operators. See `ports` for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gate.core.model import AppFacts
from gate.core.operators import Operator
from gate.store.writer import WriteReceipt


class Apps(Protocol):
    """Tenants, their credentials and settings."""

    async def create(self, facts: AppFacts, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
        """Write a new App; `AppExists` if the key is taken."""
        ...

    async def update(
        self, app_key: str, mutate: Callable[[AppFacts], AppFacts], now_ms: int, why: str = "", by: str = ""
    ) -> tuple[AppFacts, WriteReceipt]:
        """Replace an App by `mutate` of it; `AppUnknown` if there is none."""
        ...

    async def get(self, app_key: str) -> AppFacts:
        """Read an App; `AppUnknown` if there is none."""
        ...

    async def list(self) -> Sequence[AppFacts]:
        """All Apps, by key."""
        ...

    async def remove(self, app_key: str, now_ms: int, why: str = "", by: str = "") -> WriteReceipt:
        """Remove an App and all facts of its Users."""
        ...

    async def finish_removal(self, app_key: str) -> None:
        """Delete what a removal that broke off has left."""
        ...


class Operators(Protocol):
    """Who may administer."""

    async def get(self, name: str, /) -> Operator | None:
        """The operator, or None."""
        ...

    async def operator_of_cookie(self, name: str, digest: bytes, /) -> Operator | None:
        """The operator that a session cookie names, or None; None too where the session cookie was ended."""
        ...

    async def revoke_cookie(self, digest: bytes, until_ms: int, /) -> None:
        """Make a session cookie good for nothing, on every node."""
        ...
