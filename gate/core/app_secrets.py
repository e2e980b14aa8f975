"""An App's secrets: whom a given one stands for, and their rotation.

A rotation adds a new secret next to the old one, and later drops the old one. Between the two steps both secrets sign requests
and Tokens of both are valid, so no request fails while app servers move. The drop either revokes the Tokens that were minted
under the old secret (right after a leak: anyone who has the secret can mint), or keeps them valid through the secret's Token
key, which signs no requests.

Pure. Called by `gate app rotate-secret` and `/v1/apps`; by the RESP port and HTTP for each caller.
"""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest

import msgspec

from gate.core.model import SEALED_PREFIX, AppFacts
from gate.core.scopes import Caller, app_caller, granted
from gate.core.token import signing_key
from gate.errors import InvalidInput, Refused

# Dropped secrets whose Tokens stay valid: their keys travel with the App's settings and are tried on each Token.
MAX_TOKEN_KEYS = 8

# For secrets that the caller chose. A client that has one signed request can guess a shorter secret offline.
MIN_SECRET_CHARS = 20
# With a flag only: secrets of RongCloud and of older deployments are as short.
MIN_SHORT_SECRET_CHARS = 8
MAX_SECRET_CHARS = 128

_VISIBLE = re.compile(r"[\x21-\x7e]*")


def app_secret(value: str, *, allows_short: bool = False, flag: str = "") -> str:
    """Return the secret, which has 20 to 128 visible ASCII characters; 8 or more if `allows_short`.

    Raises `InvalidInput`, which never repeats it, and names the `flag` that allows a short one, if there is one.
    """
    least = MIN_SHORT_SECRET_CHARS if allows_short else MIN_SECRET_CHARS
    if value.startswith(SEALED_PREFIX):
        raise InvalidInput("secret", f"must not begin with {SEALED_PREFIX}, as sealed secrets do")
    if _VISIBLE.fullmatch(value) and least <= len(value) <= MAX_SECRET_CHARS:
        return value
    is_short = MIN_SHORT_SECRET_CHARS <= len(value) < MIN_SECRET_CHARS and _VISIBLE.fullmatch(value)
    hint = f"; {flag} allows {MIN_SHORT_SECRET_CHARS} or more" if is_short and flag else ""
    raise InvalidInput(
        "secret", f"must be {least} to {MAX_SECRET_CHARS} printable ASCII characters without spaces{hint}"
    )


def digest_of(secret: bytes) -> str:
    """Return the digest (hex) that is stored of a key's secret."""
    return sha256(secret).hexdigest()


def caller_with(facts: AppFacts, secret: bytes) -> Caller | None:
    """Return whom this secret stands for, or None if it is neither the App's nor a key's.

    It is compared with all of them, in a time that does not depend on where they differ.
    """
    # Sums of lists: `any` would stop at the first match.
    own = sum([compare_digest(known.encode("utf-8", "surrogateescape"), secret) for known in facts.secrets])
    digest = digest_of(secret)
    matching = [key for key in facts.keys if sum([compare_digest(known, digest) for known in key.digests])]
    if own:
        return app_caller(facts.key)
    return Caller("key", matching[0].name, granted(matching[0].scopes)) if matching else None


def with_new_secret(facts: AppFacts, fresh: str) -> AppFacts:
    """Return the App with `fresh` as its current secret next to the present one. Raises `Refused` if two are valid already."""
    if len(facts.secrets) > 1:
        raise Refused("a rotation is in progress: drop the old secret first")
    if caller_with(facts, fresh.encode()) is not None:
        raise InvalidInput("secret", "must differ from the present one and from those of the App's keys")
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
