"""The porter: lets operators in by their password, and knows them again by their badge.

Each request reads the account from Redis, and whether the badge was signed out, so what changes of either counts at once.
While Redis is away a badge that this node verified within `RECALLED_MS` is taken at its word, for reading only: an operator
on call sees what the node knows, and can change nothing. After a restart, or on another node, nobody is recalled.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec
import structlog

from gate.clock import monotonic_ms
from gate.console.badge import BADGE_TTL_MS, Badge, is_genuine, new_badge, read_badge
from gate.core.operators import Operator
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.dependencies import Store
from gate.http.operators import OperatorAuth

RECALLED_MS = 15 * 60_000

_log = structlog.get_logger()


class Known(NamedTuple):
    """An operator who shows a badge. `away` is why Redis could not be asked, "" where it was."""

    operator: Operator
    badge: str
    away: str


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    operator: Operator
    at_ms: int


class Porter:
    """One a process."""

    def __init__(self, door: OperatorAuth, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._door = door
        self._monotonic = monotonic
        self._seen = door.shared.recalled
        self._seen_out = door.shared.signed_out

    async def admit(self, store: Store, name: str, password: str, address: str, now_ms: int) -> str:
        """A new badge. Raises as the `OperatorAuth` does."""
        operator = await self._door.admit(store.operators, name, password, address)
        return new_badge(operator, now_ms + BADGE_TTL_MS)

    async def known(self, store: Store, shown: str, now_ms: int) -> Known | None:
        """Whose badge this is; None if it is none, or not any more. `StoreUnavailable` where that can't be told."""
        badge = read_badge(shown)
        if badge is None or badge.until_ms <= now_ms or self._seen_out.get((_digest(shown),)) is not None:
            return None
        try:
            operator = await store.operators.behind_badge(badge.name, _digest(shown))
        except InvalidInput:  # nobody can be called that
            return None
        except StoreUnavailable as fault:
            seen = self._recalled(badge)
            if seen is None:
                raise
            return Known(seen, shown, str(fault))
        if operator is None or not is_genuine(badge, operator):
            self.forget(shown)
            return None
        self._note(badge, operator)
        return Known(operator, shown, "")

    async def see_out(self, store: Store, shown: str, now_ms: int) -> None:
        """End a badge that is known, on every node; while Redis is away, on this node alone, until it ends."""
        self.forget(shown)
        digest, badge = _digest(shown), read_badge(shown)
        assert badge is not None, "what is known is one"
        with self._seen_out.turn():
            self._seen_out.put((digest,), b"")
        try:
            await store.operators.end_badge(digest, badge.until_ms)
        except StoreUnavailable as away:
            _log.warning("signed out on this node alone", operator=badge.name, problem=str(away))

    def forget(self, shown: str) -> None:
        """Recall this badge no more."""
        with self._seen.turn():
            self._seen.pop((_digest(shown),))

    def _recalled(self, badge: Badge) -> Operator | None:
        packed = self._seen.get((_digest(badge.text),))
        seen = None if packed is None else _unpacked(packed)
        return seen.operator if seen is not None and self._monotonic() - seen.at_ms < RECALLED_MS else None

    def _note(self, badge: Badge, operator: Operator) -> None:
        packed = msgspec.msgpack.encode(_Seen(operator, self._monotonic()))
        with self._seen.turn():
            self._seen.put((_digest(badge.text),), packed)


def _unpacked(packed: bytes) -> _Seen | None:
    try:
        return msgspec.msgpack.decode(packed, type=_Seen)
    except msgspec.DecodeError:  # it was read while another process wrote it
        return None


def _digest(shown: str) -> bytes:
    # A memory dump should not be a bunch of badges.
    return sha256(shown.encode("utf-8", "surrogatepass")).digest()
