"""Operators: the people who run a deployment, and what each role lets them do.

    viewer    sees Apps, their settings and who is online, never a secret
    operator  also changes the settings that shape verdicts and limits, and kicks in the console
    admin     also creates and removes Apps, turns over their secrets, and changes where their webhooks go

An operator belongs to the whole deployment, not to an App. The password is kept as an argon2 hash only.

Pure. Called by the store that keeps them, by `/v1/apps` and by `gate operator`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

from gate.errors import InvalidInput

OperatorRole = Literal["viewer", "operator", "admin"]
ROLES: tuple[OperatorRole, ...] = get_args(OperatorRole)
"""Each may do what those before it may."""

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_BYTES = 256
"""Long enough for any passphrase; what is longer is not worth hashing."""

_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
"""What fits HTTP Basic, where a colon ends the name."""


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One account, as stored (JSON)."""

    name: str
    role: OperatorRole
    password_hash: str
    created_at_ms: int


def may(role: OperatorRole, needed: OperatorRole) -> bool:
    """Whether a role suffices where `needed` is asked for."""
    return ROLES.index(role) >= ROLES.index(needed)


def operator_name(value: str) -> str:
    """The name itself; `InvalidInput` unless it is 1 to 64 letters, digits or `. _ @ + -`."""
    if not _NAME.fullmatch(value):
        raise InvalidInput("operator", f"must be 1 to 64 letters, digits or . _ @ + -, got {value[:80]!r}")
    return value


def new_password(value: str) -> str:
    """The password itself; `InvalidInput`, which never repeats it, if it is too short, too long or can't be typed."""
    if len(value) < MIN_PASSWORD_CHARS:
        raise InvalidInput("password", f"must be at least {MIN_PASSWORD_CHARS} characters")
    if not value.isprintable() or len(value.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise InvalidInput("password", f"must be printable, and at most {MAX_PASSWORD_BYTES} bytes")
    return value
