"""Operators that a trusted proxy signs in: it names them in a header, after OpenID Connect or another sign-in of its own.

    --operator-header X-Forwarded-User                      whose name an account with `--sso` must have
    --operator-groups-header X-Forwarded-Groups             and, for names without an account, the groups of the person
    --operator-groups gate-admins=admin,support=viewer      of which one must give a role

Only the console uses it: a browser brings the proxy's cookie along with a request that another site began, and only the forms
of the console have a token against that. A header is believed only of a peer in `--trusted-proxies`, and only if it came once:
a proxy that adds its own to a client's must not be taken for one that replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from aiohttp import web

from gate.core.operators import ROLES, Operator, OperatorRole, operator_name
from gate.errors import InvalidInput
from gate.http.errors import CredentialsWrong
from gate.http.options import ProxySignIn
from gate.http.peers import Network, is_believed

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
            f"{sign_in.header} is accepted only from --trusted-proxies, and this client is none of them"
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
