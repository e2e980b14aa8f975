"""The Token: what a client shows to prove which User it is, signed with a key that only the App's secret yields.

    "gt1."  base64url, without padding, of  claims  HMAC-SHA-256 of "gt1." and the claims, 32 bytes
    claims  generation, 4 bytes   minted at, expires at (0: never), ms, 8 bytes each   nonce, 8 bytes
            length of the App key, 1 byte   App key   User id

A form of its own rather than a JWT: an id may be any 64 bytes, which JSON in base64 stretches past the 256 characters that a
Token may have; there is no header that names its own algorithm ("none" among them); and nothing is parsed before it is proven.

The signing key is derived from the App's secret, so a leaked one signs Tokens but no requests. Its generation says which of the
App's secrets a Token was minted under: the App's current ones, and the dropped ones whose keys it keeps (`token_keys`).

Whether a Token is accepted follows from facts that every node has, so `verify` asks no Redis. A Token that counts as minted
at its User's `tokens_valid_from_ms` is valid, one of before is not. The store gives out the moment (`Users.enrol_for_token`):
it is never before `tokens_valid_from_ms`, and a revocation sets that past every moment given out, so no clock is trusted.

Pure: the caller brings the clock and the nonce. Called by `gate.http` (minting, the client API), the RESP port and the
WebSocket.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256

import msgspec

from gate.core.base64url import decoded, encoded
from gate.core.decide import FactsView
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import AppFacts, UserFacts
from gate.errors import TokenRefused

PREFIX = "gt1."
"""Names the form and its version; also what a scanner for leaked secrets can look for."""
MAX_TOKEN_CHARS = 256
"""RongCloud's limit, on which client code relies. The longest of this form has 214."""
NONCE_BYTES = 8

_KEY_CONTEXT = b"gate token signing key 1"
_HEAD = struct.Struct(">4sQQ8sB")
_MAC_BYTES = 32
_BLOCK_BYTES = 64
"""Of SHA-256; a signing key is shorter."""
_MIN_BYTES = _HEAD.size + 2 + _MAC_BYTES
_PREFIX = PREFIX.encode()

Lookup = Callable[[str], FactsView | None]
"""The facts of an App by its key, at this moment; None if there is no such App, or the caller takes no Tokens of it."""


class Claims(msgspec.Struct, frozen=True, gc=False):
    """What a Token says. `expires_at_ms` is 0 for a Token that does not expire."""

    app: str
    user: bytes
    minted_at_ms: int
    expires_at_ms: int
    nonce: bytes
    generation: bytes


def signing_key(secret: str) -> bytes:
    """The key that signs Tokens under an App's secret; what `token_keys` keeps, as hex, of a secret that was dropped."""
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), _KEY_CONTEXT, "sha256")


def generation_of(key: bytes) -> bytes:
    """The 4 bytes by which a Token names its signing key."""
    return sha256(key).digest()[:4]


def expiry_ms(app: AppFacts, now_ms: int) -> int:
    """When a Token expires that is minted now, by the App's time to live; 0: never."""
    return now_ms + app.token_ttl_s * 1_000 if app.token_ttl_s else 0


def mint(app: AppFacts, user: bytes, minted_at_ms: int, nonce: bytes, now_ms: int | None = None) -> str:
    """A new Token for a User, under the App's current secret and with the App's time to live. `nonce` is 8 random bytes.

    `now_ms` is the clock's where the moment that the Token carries is another.
    """
    expires_at_ms = expiry_ms(app, minted_at_ms if now_ms is None else now_ms)
    key = signing_key(app.secrets[0])
    app_key = app.key.encode()
    head = _HEAD.pack(generation_of(key), minted_at_ms, expires_at_ms, nonce, len(app_key))
    claims = head + app_key + user
    signed = claims + hmac.digest(key, _PREFIX + claims, "sha256")
    return PREFIX + encoded(signed).decode()


def verify(token: str, lookup: Lookup, now_ms: int) -> Claims:
    """What a valid Token says; `TokenRefused` for any other, with the first of `TokenFault` that holds."""
    signed = _decoded(token)
    claims = _claims(signed[:-_MAC_BYTES])
    view = lookup(claims.app)
    if view is None:
        raise TokenRefused("app-unknown", "the Token is of no App that is served here")
    if not _is_signed(view.app, claims.generation, signed):
        raise TokenRefused("forged", "the Token's signature is wrong, or of a secret that was dropped")
    if 0 < claims.expires_at_ms <= now_ms:
        raise TokenRefused("expired", "the Token has expired")
    check_user(claims.minted_at_ms, view.user(claims.user), now_ms)
    return claims


def generations(app: AppFacts) -> Collection[bytes]:
    """Of the keys that sign for the App now."""
    return _signers(app.secrets, app.token_keys).keys()


def is_same_app(app: AppFacts, other: AppFacts) -> bool:
    """Whether both are states of one App, and not of two that had the key one after the other: those share no secret.

    One that was made anew with its old secrets, after Redis lost it, is the same.
    """
    return app.created_at_ms == other.created_at_ms or not set(generations(app)).isdisjoint(generations(other))


def check_standing(app: AppFacts, generation: bytes, expires_at_ms: int, now_ms: int) -> None:
    """`TokenRefused` unless a Token that was verified once would pass again, its User aside."""
    if generation not in generations(app):
        raise TokenRefused("forged", "the Token is of a secret that was dropped")
    if 0 < expires_at_ms <= now_ms:
        raise TokenRefused("expired", "the Token has expired")


def _decoded(token: str) -> bytes:
    """The bytes behind a Token of exactly this form: one that decodes to the same bytes but is spelled otherwise is refused."""
    if token.startswith(PREFIX) and len(token) <= MAX_TOKEN_CHARS and token.isascii():
        signed = decoded(token[len(PREFIX) :].encode())
        if len(signed) >= _MIN_BYTES:
            return signed
    raise TokenRefused("malformed", "this is not a Token")


def _claims(packed: bytes) -> Claims:
    generation, minted_at_ms, expires_at_ms, nonce, app_length = _HEAD.unpack_from(packed)
    app_ends = _HEAD.size + app_length
    app, user = packed[_HEAD.size : app_ends], packed[app_ends:]
    if not (app.isascii() and len(app) == app_length and 1 <= len(user) <= MAX_ID_BYTES):
        raise TokenRefused("malformed", "this is not a Token")
    return Claims(app.decode(), user, minted_at_ms, expires_at_ms, nonce, generation)


def _is_signed(app: AppFacts, generation: bytes, signed: bytes) -> bool:
    claims, mac = _PREFIX + signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
    for signer in _signers(app.secrets, app.token_keys).get(generation, ()):
        if hmac.compare_digest(signer.sign(claims), mac):
            return True
    return False


class _Signer:
    """HMAC-SHA-256 under one key: what depends on the key alone is kept, which is five sixths of the time of `hmac.digest`."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, claims: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(claims)
        outer.update(inner.digest())
        return outer.digest()


@lru_cache(maxsize=256)
def _signers(secrets: tuple[str, ...], token_keys: tuple[str, ...]) -> dict[bytes, list[_Signer]]:
    """By generation. Remembered by the secrets themselves, so an App whose secrets change never meets those of before."""
    signers: dict[bytes, list[_Signer]] = {}
    for key in (*map(signing_key, secrets), *map(bytes.fromhex, token_keys)):
        signers.setdefault(generation_of(key), []).append(_Signer(key))
    return signers


def check_user(minted_at_ms: int, facts: UserFacts, now_ms: int) -> None:
    """`TokenRefused` unless a Token of the User that was minted then lets it connect now, expiry aside."""
    if facts.deactivated:
        raise TokenRefused("user-deactivated", "the User is deactivated")
    if minted_at_ms < facts.tokens_valid_from_ms:
        raise TokenRefused("revoked", "the Token was revoked")
    if facts.banned_until_ms > now_ms:
        raise TokenRefused("user-banned", "the User is banned", facts.banned_until_ms)
