"""Rotation of an App's secret: add a new secret next to the old one, later drop the old one.

Between the two steps both secrets sign requests and Tokens of both are valid, so no request fails while app servers move.
The drop either revokes the Tokens that were minted under the old secret (right after a leak: anyone who has the secret can
mint), or keeps them valid through the secret's Token key, which signs no requests.

Pure. Called by `gate app rotate-secret` and `/v1/apps`.
"""

from __future__ import annotations

import re

import msgspec

from gate.core.model import AppFacts
from gate.core.token import signing_key
from gate.errors import InvalidInput, Refused

# Dropped secrets whose Tokens stay valid: their keys travel with the App's settings and are tried on each Token.
MAX_TOKEN_KEYS = 8

_SECRET = re.compile(r"[\x21-\x7e]{8,128}")


def app_secret(value: str) -> str:
    """Return the secret. Raises `InvalidInput`, which never repeats it, unless it is 8 to 128 visible ASCII characters."""
    if not _SECRET.fullmatch(value):
        raise InvalidInput("secret", "must be 8 to 128 printable ASCII characters without spaces")
    return value


def with_new_secret(facts: AppFacts, fresh: str) -> AppFacts:
    """Return the App with `fresh` as its current secret next to the present one. Raises `Refused` if two are valid already."""
    if len(facts.secrets) > 1:
        raise Refused("a rotation is in progress: drop the old secret first")
    if fresh in facts.secrets:
        raise InvalidInput("secret", "must differ from the present one")
    return msgspec.structs.replace(facts, secrets=(fresh, *facts.secrets))


def without_old_secret(facts: AppFacts, *, keep_tokens: bool) -> AppFacts:
    """Return the App with its current secret only. Repeating the call changes nothing.

    Without `keep_tokens` the Tokens of every dropped secret are revoked, including those that an earlier drop kept.
    """
    current, *old = facts.secrets
    if not keep_tokens:
        return msgspec.structs.replace(facts, secrets=(current,), token_keys=())
    # Newest first: the Tokens of the secret dropped last are the most frequent ones.
    kept = (*(signing_key(secret).hex() for secret in old), *facts.token_keys)
    if len(kept) > MAX_TOKEN_KEYS:
        raise Refused(f"the Tokens of {MAX_TOKEN_KEYS} dropped secrets are kept already: revoke them with this drop")
    return msgspec.structs.replace(facts, secrets=(current,), token_keys=kept)
