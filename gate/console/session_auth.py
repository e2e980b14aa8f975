"""Signs operators in by password, and verifies their session cookies.

Each request reads the account and the revocation of its cookie from Redis, so a change of either counts at once. While Redis
is unreachable, a session cookie that this node verified within the last `RECALLED_MS` is accepted for reading only: an
operator on call sees what the node knows, and can change nothing. A restart, or another node, remembers no cookie.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec
import structlog

from gate.clock import monotonic_ms
from gate.console.session_cookie import SESSION_TTL_MS, SessionCookie, is_genuine, new_cookie, read_cookie
from gate.core.operators import Operator
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.operators import OperatorAuth
from gate.store.store import Store

RECALLED_MS = 15 * 60_000

_log = structlog.get_logger()


class Known(NamedTuple):
    """An operator who shows a session cookie. `away` is why Redis could not be asked, "" where it was."""

    operator: Operator
    cookie: str
    away: str


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    operator: Operator
    at_ms: int


class SessionAuth:
    """One a process."""

    def __init__(self, operator_auth: OperatorAuth, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._operator_auth = operator_auth
        self._monotonic = monotonic
        self._seen = operator_auth.shared.recalled
        self._signed_out = operator_auth.shared.signed_out

    async def admit(self, store: Store, name: str, password: str, address: str, now_ms: int) -> str:
        """A new session cookie. Raises as the `OperatorAuth` does."""
        operator = await self._operator_auth.admit(store.operators, name, password, address)
        return new_cookie(operator, now_ms + SESSION_TTL_MS)

    async def known(self, store: Store, shown: str, now_ms: int) -> Known | None:
        """The operator of this session cookie; None if it is invalid, expired, signed out, or made before an account change.

        `StoreUnavailable` if Redis can't be reached and this node does not remember a check of the cookie.
        """
        cookie = read_cookie(shown)
        if cookie is None or cookie.until_ms <= now_ms or self._signed_out.get((_digest(shown),)) is not None:
            return None
        try:
            operator = await store.operators.operator_of_cookie(cookie.name, _digest(shown))
        except InvalidInput:  # no operator can have this name
            return None
        except StoreUnavailable as fault:
            seen = self._recalled(cookie)
            if seen is None:
                raise
            return Known(seen, shown, str(fault))
        if operator is None or not is_genuine(cookie, operator):
            self.forget(shown)
            return None
        self._note(cookie, operator)
        return Known(operator, shown, "")

    async def sign_out(self, store: Store, shown: str, now_ms: int) -> None:
        """Revoke a known session cookie on every node; while Redis is away, only on this node, until the cookie expires."""
        self.forget(shown)
        digest, cookie = _digest(shown), read_cookie(shown)
        assert cookie is not None, "a known cookie can be read"
        with self._signed_out.turn():
            self._signed_out.put((digest,), b"")
        try:
            await store.operators.revoke_cookie(digest, cookie.until_ms)
        except StoreUnavailable as away:
            _log.warning("signed out on this node alone", operator=cookie.name, problem=str(away))

    def forget(self, shown: str) -> None:
        """Remove this session cookie from the remembered ones."""
        with self._seen.turn():
            self._seen.pop((_digest(shown),))

    def _recalled(self, cookie: SessionCookie) -> Operator | None:
        packed = self._seen.get((_digest(cookie.text),))
        seen = None if packed is None else _unpacked(packed)
        return seen.operator if seen is not None and self._monotonic() - seen.at_ms < RECALLED_MS else None

    def _note(self, cookie: SessionCookie, operator: Operator) -> None:
        packed = msgspec.msgpack.encode(_Seen(operator, self._monotonic()))
        with self._seen.turn():
            self._seen.put((_digest(cookie.text),), packed)


def _unpacked(packed: bytes) -> _Seen | None:
    try:
        return msgspec.msgpack.decode(packed, type=_Seen)
    except msgspec.DecodeError:  # it was read while another process wrote it
        return None


def _digest(shown: str) -> bytes:
    # A memory dump should not be a bunch of session cookies.
    return sha256(shown.encode("utf-8", "surrogatepass")).digest()
