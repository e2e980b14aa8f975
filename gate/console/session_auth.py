"""Signs operators in by password or by a trusted proxy, and verifies their session cookies.

Each request reads the account and the session of its cookie from Redis, so a change of either counts at once. While Redis is
unreachable, a session cookie that this node verified within the last `RECALLED_MS` is accepted for reading only: an operator on
call sees what the node knows, and can change nothing. A restart, or another node, remembers no cookie.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec
import structlog

from gate.clock import monotonic_ms
from gate.console.session_cookie import SessionCookie, is_genuine, new_cookie, read_cookie
from gate.core.operators import Operator
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.operators import OperatorAuth
from gate.http.sign_ins import Asserted
from gate.store.console_sessions import SESSION_TTL_MS, ConsoleSession, Found
from gate.store.store import Store

RECALLED_MS = 15 * 60_000

_log = structlog.get_logger()


class Known(NamedTuple):
    """An operator who shows a session cookie. `away` is why Redis could not be asked, "" where it was."""

    operator: Operator
    cookie: str
    session: str
    away: str


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    operator: Operator
    at_ms: int


class SessionAuth:
    """One a process."""

    def __init__(self, operator_auth: OperatorAuth, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._operator_auth = operator_auth
        self.sign_ins = operator_auth.sign_ins
        self._monotonic = monotonic
        # Shared memory: HTTP may have several processes, and the next request may meet another.
        self._seen = operator_auth.shared.recalled
        self._signed_out = operator_auth.shared.signed_out

    async def admit(self, store: Store, name: str, password: str, address: str, now_ms: int, agent: str = "") -> str:
        """Open a session; its cookie. Raises as the `OperatorAuth` does."""
        operator = await self._operator_auth.admit(store.operators, name, password, address)
        session = ConsoleSession(id=_new_id(), operator=operator.name, address=address, agent=agent)
        return await _opened(store, operator, session, now_ms)

    async def verify(self, store: Store, name: str, password: str, address: str) -> None:
        """Verify a password as a sign-in does, and open no session. Raises as the `OperatorAuth` does."""
        await self._operator_auth.admit(store.operators, name, password, address)

    async def admit_asserted(
        self, store: Store, asserted: Asserted, address: str, now_ms: int, agent: str = ""
    ) -> str | None:
        """Open a session of the person that a trusted proxy names; its cookie, or None if that is no operator."""
        # In the place of a password's hash, which such an account lacks: it ends with its session.
        key = secrets.token_urlsafe(32)
        operator = asserted.operator(await store.operators.get(asserted.name), key)
        if operator is None:
            return None
        session = ConsoleSession(
            id=_new_id(), operator=operator.name, by="proxy", address=address, agent=agent, key=key
        )
        return await _opened(store, operator, session, now_ms)

    async def known(
        self, store: Store, shown: str, now_ms: int, asserted: Asserted | None = None, *, counts: bool = True
    ) -> Known | None:
        """The operator of this session cookie; None if it is invalid, its session has ended, or its account was changed.

        `asserted` is what a trusted proxy says now: a session that it opened needs it, and no other name may use it. A request
        that does not count leaves the session as idle as it was. `StoreUnavailable` if Redis can't be reached and this node
        does not remember a check of the cookie.
        """
        cookie = read_cookie(shown)
        # Without a read of Redis: forged and expired cookies cost it nothing.
        if cookie is None or cookie.until_ms <= now_ms or self._signed_out.get((_digest(shown),)) is not None:
            return None
        # The proxy says who sits there now; another person's cookie in the same browser is void.
        if asserted is not None and asserted.name != cookie.name:
            return None
        try:
            # Account and session in one trip, before the signature: the account is what signs.
            found = await store.console_sessions.find(cookie.name, cookie.session)
        except InvalidInput:  # no operator can have this name
            return None
        except StoreUnavailable as fault:
            seen = self._recalled(cookie)
            if seen is None:
                raise
            return None if seen.sso and asserted is None else Known(seen, shown, cookie.session, str(fault))
        operator = _operator_of(found, asserted)
        # Forgotten too, so that it is not recalled when Redis goes away.
        if operator is None or not is_genuine(cookie, operator):
            self.forget(shown)
            return None
        # Not with each request: a write a minute is exact enough for half an hour of idleness.
        if counts and found.is_due:
            await _touch(store, cookie.session)
        self._note(cookie, operator)
        return Known(operator, shown, cookie.session, "")

    async def sign_out(self, store: Store, shown: str) -> None:
        """End the session of a known cookie on every node; while Redis is away, only on this node, until the cookie expires."""
        self.forget(shown)
        digest, cookie = _digest(shown), read_cookie(shown)
        assert cookie is not None, "a known cookie can be read"
        # First in this node's memory, then in Redis: with Redis away the cookie is refused here at least.
        with self._signed_out.turn:
            self._signed_out.put((digest,), b"")
        try:
            await store.console_sessions.end([cookie.session])
        except StoreUnavailable as away:
            _log.warning("signed out on this node alone", operator=cookie.name, problem=str(away))

    def forget(self, shown: str) -> None:
        """Remove this session cookie from the remembered ones."""
        with self._seen.turn:
            self._seen.pop((_digest(shown),))

    def _recalled(self, cookie: SessionCookie) -> Operator | None:
        packed = self._seen.get((_digest(cookie.text),))
        seen = None if packed is None else _unpacked(packed)
        return seen.operator if seen is not None and self._monotonic() - seen.at_ms < RECALLED_MS else None

    def _note(self, cookie: SessionCookie, operator: Operator) -> None:
        packed = msgspec.msgpack.encode(_Seen(operator, self._monotonic()))
        with self._seen.turn:
            self._seen.put((_digest(cookie.text),), packed)


def _operator_of(found: Found, asserted: Asserted | None) -> Operator | None:
    """Whose session this is; None if it has ended, or is not for who shows it."""
    if found.session is None:
        return None
    if found.session.by == "proxy":
        return None if asserted is None else asserted.operator(found.operator, found.session.key)
    return found.operator if found.operator is not None and not found.operator.sso else None


async def _opened(store: Store, operator: Operator, session: ConsoleSession, now_ms: int) -> str:
    await store.console_sessions.open(session)
    return new_cookie(operator, session.id, now_ms + SESSION_TTL_MS)


async def _touch(store: Store, session: str) -> None:
    try:
        await store.console_sessions.touch(session)
    except StoreUnavailable as away:
        # A Redis that accepts no writes can still be read; the session then ends earlier.
        _log.warning("a request of a console session is not noted", problem=str(away))


def _new_id() -> str:
    return secrets.token_urlsafe(12)


def _unpacked(packed: bytes) -> _Seen | None:
    try:
        return msgspec.msgpack.decode(packed, type=_Seen)
    except msgspec.DecodeError:  # it was read while another process wrote it
        return None


def _digest(shown: str) -> bytes:
    # A memory dump should not be a bunch of session cookies.
    return sha256(shown.encode("utf-8", "surrogatepass")).digest()
