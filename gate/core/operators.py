"""Operators: the people who run a deployment, and what each role permits.

    viewer    sees Apps, their settings and who is online, never a secret
    operator  also changes the settings that shape verdicts and limits, and kicks in the console
    admin     also creates and removes Apps, rotates their secrets, and changes their webhook URLs

An operator belongs to the whole deployment, not to an App. Only an argon2 hash of the password is stored.

Pure. Called by the store, by `/v1/apps` and by `gate operator`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

from gate.errors import InvalidInput

OperatorRole = Literal["viewer", "operator", "admin"]
# Each role includes the rights of those before it.
ROLES: tuple[OperatorRole, ...] = get_args(OperatorRole)

MIN_PASSWORD_CHARS = 8
# Enough for any passphrase. The limit bounds the work of hashing.
MAX_PASSWORD_BYTES = 256

# Fits HTTP Basic, where a colon ends the name.
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One account, as stored (JSON)."""

    name: str
    role: OperatorRole
    password_hash: str
    created_at_ms: int


def may(role: OperatorRole, needed: OperatorRole) -> bool:
    """Return whether a role includes the rights of `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def operator_name(value: str) -> str:
    """Return the name. Raises `InvalidInput` unless it is 1 to 64 letters, digits or `. _ @ + -`."""
    if not _NAME.fullmatch(value):
        raise InvalidInput("operator", f"must be 1 to 64 letters, digits or . _ @ + -, got {value[:80]!r}")
    return value


def new_password(value: str) -> str:
    """Return the password. Raises `InvalidInput`, which never repeats it, if it is too short, too long or not printable."""
    if len(value) < MIN_PASSWORD_CHARS:
        raise InvalidInput("password", f"must be at least {MIN_PASSWORD_CHARS} characters")
    if not value.isprintable() or len(value.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise InvalidInput("password", f"must be printable, and at most {MAX_PASSWORD_BYTES} bytes")
    return value
