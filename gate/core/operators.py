"""Operators: the people who run a deployment, and what each role permits.

    viewer    sees Apps, their settings, facts of Users and who is online, never a secret
    operator  also changes the settings that shape verdicts and limits, writes facts of Users, and kicks
    admin     also creates and removes Apps, rotates their secrets, changes their webhook URLs, deletes Users, mints Tokens

An operator belongs to the deployment. It may be limited to Apps: then it sees and changes only these, and may do nothing
that concerns the deployment as a whole. Only an argon2 hash of the password is stored, or none for an account that a proxy
signs in.

Pure. Called by the store, by `/v1` and by `gate operator`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from gate.core.ids import app_key
from gate.errors import InvalidInput

OperatorRole = Literal["viewer", "operator", "admin"]
# Each role includes the rights of those before it.
ROLES: tuple[OperatorRole, ...] = get_args(OperatorRole)

MIN_PASSWORD_CHARS = 8
# Enough for any passphrase. The limit bounds the work of hashing.
MAX_PASSWORD_BYTES = 256

MAX_APPS = 100
"""Of one operator: more is a role of its own, and the list is read with each request."""

# Fits HTTP Basic, where a colon ends the name.
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


class Operator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One account, as stored (JSON). `apps` None is every App."""

    name: str
    role: OperatorRole
    password_hash: str
    created_at_ms: int
    apps: tuple[str, ...] | None = None
    sso: bool = False
    """Whether a trusted proxy signs it in. Then it has no password, and `password_hash` is a random key of its cookies."""

    def reaches(self, app: str) -> bool:
        """Whether it may see the App with this key."""
        return self.apps is None or app in self.apps


def may(role: OperatorRole, needed: OperatorRole) -> bool:
    """Return whether a role includes the rights of `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def operator_name(value: str) -> str:
    """Return the name. Raises `InvalidInput` unless it is 1 to 64 letters, digits or `. _ @ + -`."""
    if not _NAME.fullmatch(value):
        raise InvalidInput("operator", f"must be 1 to 64 letters, digits or . _ @ + -, got {value[:80]!r}")
    return value


def operator_apps(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of Apps, sorted, each once. Raises `InvalidInput` for a key that no App can have, and for too many."""
    apps = tuple(sorted({app_key(key) for key in keys}))
    if len(apps) > MAX_APPS:
        raise InvalidInput("app", f"an operator is limited to {MAX_APPS} Apps at most, got {len(apps)}")
    return apps


def new_password(value: str) -> str:
    """Return the password. Raises `InvalidInput`, which never repeats it, if it is too short, too long or not printable."""
    if len(value) < MIN_PASSWORD_CHARS:
        raise InvalidInput("password", f"must be at least {MIN_PASSWORD_CHARS} characters")
    if not value.isprintable() or len(value.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise InvalidInput("password", f"must be printable, and at most {MAX_PASSWORD_BYTES} bytes")
    return value
