"""Passwords as argon2id hashes.

One hash takes 19 MiB and some tens of milliseconds of a core: dear for who guesses, and bounded for who is made to verify.
Both functions block for that long: off the loop, in a thread (argon2 lets others run meanwhile).
"""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
"""The figures that OWASP names for argon2id."""


def hash_password(password: str) -> str:
    """Its salted hash, in the form that names its own parameters."""
    return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def password_fits(password: str, password_hash: str) -> bool:
    """Whether the hash is of this password. A damaged hash fits none."""
    try:
        return _hasher().verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


@cache
def hash_of_nobody() -> str:
    """What to verify against where there is no such operator, so that the time taken doesn't tell."""
    return hash_password("nobody's password, which is never asked whether it fits")


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
