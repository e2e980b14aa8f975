"""What a credential of an App may do: its scopes, and the caller that it stands for.

    check      GATE.CHECK and its family, /v1/check, /v1/explain
    presence   Sessions, leases, who is online, their events
    users      everything about Users: registration, Tokens, Bans, Mutes, lists, imports
    admin      everything that an App may do, the three above included

An App's own secret has all scopes. A key (`gate.core.app_keys`) has those that it was made with. Each RESP command and each
endpoint of `/v1` declares in its table which scopes it needs.

Pure. Callers are made by `app_keys.caller_with`, and held by `gate.http.context.AppRequest` and `gate.wire.client.Client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import msgspec

from gate.errors import ScopeMissing

Scope = Literal["check", "presence", "users", "admin"]
CallerKind = Literal["app", "key", "user", "operator"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL_SCOPES = frozenset(SCOPES)

# What commands and endpoints declare. All scopes of a tuple are needed.
CHECK: tuple[Scope, ...] = ("check",)
PRESENCE: tuple[Scope, ...] = ("presence",)
CHECK_AND_PRESENCE: tuple[Scope, ...] = ("check", "presence")
USERS: tuple[Scope, ...] = ("users",)
ADMIN: tuple[Scope, ...] = ("admin",)


class AppKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of an App: a name, its scopes, and the SHA-256 (hex) of its secret, or of two during a rotation, newest first.

    The secrets themselves are not stored: they open `AUTH` and HTTP Basic, and sign nothing.
    """

    name: str
    scopes: tuple[Scope, ...]
    digests: tuple[str, ...]
    created_at_ms: int = 0


class Caller(msgspec.Struct, frozen=True):
    """Who was authenticated: the App by its own secret, one of its keys, a User by a Token, or an operator by its password.

    `name` is the App's key, the name of the key, the User's id as text, or the operator's name. A User has no scopes: a Token
    opens `/client/` only.
    """

    kind: CallerKind
    name: str
    scopes: frozenset[Scope]

    def require(self, needed: Sequence[Scope]) -> None:
        """Raise `ScopeMissing` unless all of these scopes are there."""
        for scope in needed:
            if scope not in self.scopes:
                raise ScopeMissing(scope, self.name, [one for one in SCOPES if one in self.scopes])


app_caller = partial(Caller, "app", scopes=ALL_SCOPES)
"""Returns the caller that gave, or signed with, the own secret of the App with this key."""


def user_caller(user: bytes) -> Caller:
    """Return the caller that showed a User's Token."""
    return Caller("user", user.decode("utf-8", "backslashreplace"), frozenset())


def granted(scopes: Sequence[Scope]) -> frozenset[Scope]:
    """Return all scopes that these include: `admin` includes the others."""
    return ALL_SCOPES if "admin" in scopes else frozenset(scopes)
