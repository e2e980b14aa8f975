"""Passwords as argon2id hashes.

One hash takes 19 MiB and some tens of milliseconds of a core: expensive for an attacker, bounded for the verifying server. Both
functions block for that long. Call them off the loop, in a thread (argon2 releases the interpreter lock).
"""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB = 19_456
PASSES = 2
# OWASP's parameters for argon2id.
LANES = 1


def hash_password(password: str) -> str:
    """Return the salted hash, in the form that contains its parameters."""
    return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def password_fits(password: str, password_hash: str) -> bool:
    """Return whether the hash belongs to this password. A damaged hash matches none."""
    try:
        # Compares in constant time.
        return _hasher().verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


@cache
def decoy_hash() -> str:
    """Return a hash to verify against if the operator does not exist, so that the time taken does not reveal it."""
    return hash_password("a password that no operator can have been given")


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
