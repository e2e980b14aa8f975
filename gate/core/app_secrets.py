"""Turning over an App's secret: a new one beside the old one, then the end of the old one.

Between the two steps both sign requests and both keys' Tokens are valid, so that no request fails while app servers move.
What becomes of the Tokens that were minted under a secret when it is dropped is a choice: they end with it (right after a
leak, since whoever has the secret can mint), or they live on by its Token key, which signs no requests.

Pure. Called by `gate app rotate-secret` and `/v1/apps`.
"""

from __future__ import annotations

import re

import msgspec

from gate.core.model import AppFacts
from gate.core.token import signing_key
from gate.errors import InvalidInput, Refused

MAX_TOKEN_KEYS = 8
"""Dropped secrets whose Tokens live on: their keys travel with the App's settings and are tried on each Token."""

_SECRET = re.compile(r"[\x21-\x7e]{8,128}")


def app_secret(value: str) -> str:
    """The secret itself; `InvalidInput`, which never repeats it, unless it is 8 to 128 visible ASCII characters."""
    if not _SECRET.fullmatch(value):
        raise InvalidInput("secret", "must be 8 to 128 printable ASCII characters without spaces")
    return value


def with_new_secret(facts: AppFacts, fresh: str) -> AppFacts:
    """The App with `fresh` as its current secret beside the present one; `Refused` while two are valid already."""
    if len(facts.secrets) > 1:
        raise Refused("a rotation is under way: drop the old secret first")
    if fresh in facts.secrets:
        raise InvalidInput("secret", "must differ from the present one")
    return msgspec.structs.replace(facts, secrets=(fresh, *facts.secrets))


def without_old_secret(facts: AppFacts, *, keep_tokens: bool) -> AppFacts:
    """The App with its current secret only. Repeating it changes nothing.

    Without `keep_tokens` every Token of any dropped secret ends, those that an earlier drop kept too.
    """
    current, *old = facts.secrets
    if not keep_tokens:
        return msgspec.structs.replace(facts, secrets=(current,), token_keys=())
    kept = (*(signing_key(secret).hex() for secret in old), *facts.token_keys)
    if len(kept) > MAX_TOKEN_KEYS:
        raise Refused(f"the Tokens of {MAX_TOKEN_KEYS} dropped secrets are kept already: end them with this drop")
    return msgspec.structs.replace(facts, secrets=(current,), token_keys=kept)
