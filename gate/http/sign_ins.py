"""Operators' sign-ins in the deployment's audit: who was let in or refused, from which address.

Each sign-in on the page is an entry. A program that sends HTTP Basic with each request is one once in `AGAIN_MS` for a name and
an address. No flood may push out what the audit is for:

- A name has at most `ENTRIES_AN_HOUR` in each process. Where a proxy signs in, another site can make a browser do so in a loop.
- Refusals have at most `REFUSALS_A_MINUTE`, whatever the name.

The next entry has the number that was left out. A name is in an entry only if an operator has it: people type passwords into
the wrong field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog
from aiohttp import web

from gate.clock import monotonic_ms
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.auth_watch import called_by
from gate.http.context import Deps

AGAIN_MS = 60 * 60_000
ENTRIES_AN_HOUR = 20
"""Of one name in each process."""
REFUSALS_A_MINUTE = 10
MAX_SEEN = 1_024
_MINUTE_MS = 60_000

SignInSurface = Literal["operator", "console"]

_log = structlog.get_logger("gate.auth")


@dataclass(slots=True)
class _Hour:
    """Of one name."""

    began_ms: int
    sign_ins: int = 0


class SignIns:
    """Notes them for one process."""

    def __init__(self, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._monotonic = monotonic
        self._seen: dict[tuple[str, str], int] = {}
        self._hours: dict[str, _Hour] = {}
        self._minute_began_ms = -_MINUTE_MS
        self._refusals = 0
        self._left_out = 0

    async def accepted(self, request: web.Request, deps: Deps, surface: SignInSurface, name: str) -> None:
        """An operator was let in."""
        called_by(request, deps, "operator", name)
        key, now_ms = (name, deps.address_of(request)), self._monotonic()
        seen_ms = self._seen.get(key)
        if surface == "operator" and seen_ms is not None and now_ms - seen_ms < AGAIN_MS:
            return
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen[key] = now_ms
        hour = self._hours.get(name)
        left_out = 0
        if hour is None or now_ms - hour.began_ms >= AGAIN_MS:
            left_out = 0 if hour is None else max(0, hour.sign_ins - ENTRIES_AN_HOUR)
            hour = _Hour(now_ms)
            if len(self._hours) >= MAX_SEEN:
                self._hours.clear()
            self._hours[name] = hour
        hour.sign_ins += 1
        if hour.sign_ins > ENTRIES_AN_HOUR:
            return
        value: dict[str, object] = {"surface": surface}
        await _note(deps, name, accepted=True, value=value | ({"left_out": left_out} if left_out else {}))

    async def refused(self, request: web.Request, deps: Deps, surface: SignInSurface, name: str) -> None:
        """The password of this name was wrong, or no operator has the name."""
        now_ms = self._monotonic()
        if now_ms - self._minute_began_ms >= _MINUTE_MS:
            self._minute_began_ms, self._refusals = now_ms, 0
        if self._refusals == REFUSALS_A_MINUTE:
            self._left_out += 1
            return
        self._refusals += 1
        value: dict[str, object] = {"surface": surface}
        if self._left_out:
            value["left_out"] = self._left_out
            self._left_out = 0
        called_by(request, deps, "unknown", "")
        await _note(deps, await _existing(deps, name), accepted=False, value=value)


async def _existing(deps: Deps, name: str) -> str:
    try:
        return "" if await deps.store.operators.get(name) is None else name
    except (InvalidInput, StoreUnavailable):
        return ""


async def _note(deps: Deps, name: str, *, accepted: bool, value: dict[str, object]) -> None:
    try:
        await deps.store.audit.note_sign_in(name, accepted=accepted, value=value)
    except StoreUnavailable as away:  # the log has the refusal too
        _log.warning("a sign-in is not in the audit", operator=name, accepted=accepted, problem=str(away))
