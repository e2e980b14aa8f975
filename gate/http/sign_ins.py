"""Operators' sign-ins in the deployment's audit: who was let in or refused, from which address.

Each sign-in on the page is an entry. A program that sends HTTP Basic with each request is one once in `AGAIN_MS` for a name and
an address. No flood may push out what the audit is for:

- A name has at most `ENTRIES_AN_HOUR` in each process. Where a proxy signs in, another site can make a browser do so in a loop.
- Refusals have at most `REFUSALS_A_MINUTE`, whatever the name.

The next entry has the number that was left out. A name is in an entry only if an operator has it: people type passwords into
the wrong field.

Operators that a trusted proxy signs in: it names them in a header, after OpenID Connect or another sign-in of its own.

    --operator-header X-Forwarded-User                      whose name an account with `--sso` must have
    --operator-groups-header X-Forwarded-Groups             and, for names without an account, the groups of the person
    --operator-groups gate-admins=admin,support=viewer      of which one must give a role

Only the console uses it: a browser brings the proxy's cookie along with a request that another site began, and only the forms
of the console have a token against that. A header is believed only of a peer in `--trusted-proxies`, and only if it came once:
a proxy that adds its own to a client's must not be taken for one that replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import structlog
from aiohttp import web

from gate.clock import monotonic_ms
from gate.core.operators import ROLES, Operator, OperatorRole, operator_name
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.auth import called_by
from gate.http.context import Deps
from gate.http.errors import CredentialsWrong
from gate.http.options import ProxySignIn
from gate.http.peers import Network, is_believed

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


# Operators that a proxy signs in

_BLANKS = " \t"
"""What HTTP allows around a value. `strip()` takes any space of Unicode off: the name `admin` with one is another person's."""


class ProxyUntrusted(CredentialsWrong):
    """A header that names an operator, from a client that is no trusted proxy, or more than once."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, "not-accepted")


class Asserted(NamedTuple):
    """What the proxy says about the person: the name, and the highest role of the groups, if any gives one."""

    name: str
    role: OperatorRole | None

    def operator(self, account: Operator | None, key: str) -> Operator | None:
        """The operator that this is, whose cookies `key` signs; None if nothing makes it one.

        An account that has a password is opened by that alone: a name at the proxy is no right to it.
        """
        if account is not None:
            return msgspec.structs.replace(account, password_hash=key) if account.sso else None
        if self.role is None:
            return None
        return Operator(name=self.name, role=self.role, password_hash=key, created_at_ms=0, sso=True)


def asserted_by_proxy(request: web.Request, sign_in: ProxySignIn | None, trusted: Sequence[Network]) -> Asserted | None:
    """What the proxy says; None without the option or the header. Raises `ProxyUntrusted`."""
    if sign_in is None or sign_in.header not in request.headers:
        return None
    if not trusted or not is_believed(request, trusted):
        raise ProxyUntrusted(
            f"{sign_in.header} is accepted only from --trusted-proxies, and this client is no such proxy"
        )
    name = _only(request, sign_in.header)
    try:
        name = operator_name(name)
    except InvalidInput as fault:
        raise ProxyUntrusted(f"{sign_in.header} {fault.problem}") from None
    listed = _only(request, sign_in.groups_header).split(",") if sign_in.groups_header in request.headers else []
    groups = [group.strip(_BLANKS) for group in listed]
    roles = [sign_in.groups[group] for group in groups if group in sign_in.groups]
    return Asserted(name, max(roles, key=ROLES.index, default=None))


def _only(request: web.Request, header: str) -> str:
    values = request.headers.getall(header)
    if len(values) != 1:
        raise ProxyUntrusted(f"{header} came {len(values)} times: the proxy must replace the header of the client")
    return values[0].strip(_BLANKS)
