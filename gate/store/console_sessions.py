"""Sessions of the console: one record for each sign-in, in Partition 0, so that they can be listed and ended from anywhere.

A session ends by itself 8 hours after its sign-in, and after 30 minutes without a request. Both are measured on the clock of
Redis, which all nodes share. The cookie names the session; it is signed by `gate.console.session_cookie`.
Every method may raise `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from gate.core.operators import Operator, operator_name
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.operators import unpacked_operator
from gate.store.scripts import Call
from gate.store.writer import UNEXPLAINED, Attribution, packed_origin

SESSION_TTL_MS = 8 * 3_600_000
"""A working day."""
IDLE_MS = 30 * 60_000
"""Without a request. The page that renews itself makes none that counts."""
TOUCH_EVERY_MS = 60_000
"""How exactly the last request is known: one write a minute, not one a request."""
MAX_CONSOLE_SESSIONS = 1_000
"""Of a deployment. At the limit a new one takes the place of the one whose last request is the oldest."""
MAX_OF_OPERATOR = 50
"""The same for one operator, whose own oldest gives way: else one that signs in over and over would end all others."""
MAX_AGENT_CHARS = 120

Replies = list[Any]
SignIn = Literal["password", "proxy"]


class ConsoleSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One, as stored (JSON). Times are those of the clock of Redis, 0 until it is stored."""

    id: str
    operator: str
    by: SignIn = "password"
    """What it was opened with."""
    address: str = ""
    agent: str = ""
    """What the browser calls itself."""
    key: str = ""
    """Signs the cookie where no stored account has a key for that: an operator that only a proxy knows."""
    started_at_ms: int = 0
    seen_at_ms: int = 0
    until_ms: int = 0

    def is_open(self, at_ms: int) -> bool:
        """Whether it has neither expired nor been idle for too long."""
        return at_ms < self.until_ms and at_ms - self.seen_at_ms <= IDLE_MS


class Found(NamedTuple):
    """The account and the session that a cookie names; None for one that does not exist or has ended."""

    operator: Operator | None
    session: ConsoleSession | None
    is_due: bool = False
    """Whether the last request is older than `TOUCH_EVERY_MS`."""


class ConsoleSessions:
    """Opens, reads, lists and ends sessions."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def open(self, session: ConsoleSession) -> None:
        """Keep a new session. Its times are set here."""
        packed = msgspec.json.encode(session)
        limits = [SESSION_TTL_MS, IDLE_MS, MAX_CONSOLE_SESSIONS, MAX_OF_OPERATOR]
        names = [keys.console_sessions(), keys.revoked_cookies()]
        await self._client.write([Call(scripts.CONSOLE_SESSION_OPEN, names, [session.id, packed, *limits])])

    async def find(self, name: str, session_id: str) -> Found:
        """The operator of this name, and the session of this id if it is that operator's. One round trip."""
        account, packed, now_ms = await self._read(
            ("HGET", keys.operators(), operator_name(name)), ("HGET", keys.console_sessions(), session_id)
        )
        operator = unpacked_operator(account) if account else None
        session = _unpacked(packed) if packed else None
        if session is None or session.operator != name or not session.is_open(now_ms):
            return Found(operator, None)
        return Found(operator, session, now_ms - session.seen_at_ms >= TOUCH_EVERY_MS)

    async def touch(self, session_id: str) -> None:
        """Note a request of the session."""
        await self._client.write([Call(scripts.CONSOLE_SESSION_TOUCH, [keys.console_sessions()], [session_id])])

    async def list(self) -> list[ConsoleSession]:
        """Return all open sessions, the one with the latest request first."""
        rows, now_ms = await self._read(("HVALS", keys.console_sessions()))
        sessions = (_unpacked(row) for row in rows)
        return sorted((one for one in sessions if one.is_open(now_ms)), key=lambda one: (-one.seen_at_ms, one.id))

    async def end(self, ids: Sequence[str], attribution: Attribution | None = None) -> int:
        """End sessions, on every node. Returns how many of them there were.

        With an attribution, the deployment's audit has an entry for each operator. A person who signs out leaves none.
        """
        if not ids:
            return 0
        by, why = attribution or UNEXPLAINED
        args = [by, why, packed_origin(), "" if attribution is None else "1", *ids]
        names = [keys.console_sessions(), keys.deployment_audit()]
        (ended,) = await self._client.write([Call(scripts.CONSOLE_SESSION_END, names, args)])
        assert isinstance(ended, int)
        return ended

    async def _read(self, *commands: tuple[str | bytes, ...]) -> Replies:
        """The replies, and the present moment on the clock of Redis, ms."""
        *replies, (seconds, micros) = await self._client.read(*commands, ("TIME",), at=keys.operators())
        return [*replies, int(seconds) * 1_000 + int(micros) // 1_000]


def _unpacked(packed: bytes) -> ConsoleSession:
    return msgspec.json.decode(packed, type=ConsoleSession)
