"""The Token: a client's proof of which User it is, signed with a key that is derived from the App's secret.

    "gt1."  base64url, without padding, of  claims  HMAC-SHA-256 of "gt1." and the claims, 32 bytes
    claims  generation, 4 bytes   minted at, expires at (0: never), ms, 8 bytes each   nonce, 8 bytes
            length of the App key, 1 byte   App key   User id

Gate has a form of its own because a JWT does not fit: an id may be any 64 bytes, which JSON in base64 would stretch past the
256 characters of a Token. No header names an algorithm ("none" among them), and no claim is used before it is verified.

A leaked signing key signs Tokens but no requests. The generation names the secret under which a Token was minted: one of the
App's current secrets, or a dropped one whose Token key is kept (`token_keys`).

Whether a Token is accepted depends only on facts that every node has, so `verify` needs no Redis. A Token that was minted at
its User's `tokens_valid_from_ms` or later is valid, an earlier one is not. The store issues the moment
(`Users.enrol_for_token`): it is never before `tokens_valid_from_ms`, and a revocation sets that past every moment issued, so
no clock is trusted.

Pure: the caller supplies the clock and the nonce. Called by `gate.http` (minting, the client API), the RESP port and the
WebSocket.
"""

from __future__ import annotations

import hmac
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256

import msgspec

from gate.core.decide import FactsView
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import SEALED_PREFIX, AppFacts, UserFacts
from gate.errors import SecretsSealed, TokenRefused

# Names the form and its version. Scanners for leaked secrets can search for it.
PREFIX = "gt1."
# RongCloud's limit, on which client code relies. The longest Token of this form has 214.
MAX_TOKEN_CHARS = 256
NONCE_BYTES = 8

_KEY_CONTEXT = b"gate token signing key 1"
_HEAD = struct.Struct(">4sQQ8sB")
_MAC_BYTES = 32
# Of SHA-256; a signing key is shorter.
_BLOCK_BYTES = 64
_MIN_BYTES = _HEAD.size + 2 + _MAC_BYTES
_PREFIX = PREFIX.encode()
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
# By length modulo 4. Length 1 modulo 4 is never valid, so it gets no padding and fails to decode.
_PADDING = (b"", b"", b"==", b"=")

# Returns the facts of an App by its key, at this moment; None for an unknown App or one whose Tokens the caller refuses.
Lookup = Callable[[str], FactsView | None]


class Claims(msgspec.Struct, frozen=True, gc=False):
    """The contents of a Token. `expires_at_ms` is 0 for a Token that does not expire."""

    app: str
    user: bytes
    minted_at_ms: int
    expires_at_ms: int
    nonce: bytes
    generation: bytes


def encoded(raw: bytes) -> bytes:
    """Encode as base64url without padding, as in Tokens and Session ids: each byte string has exactly one accepted encoding.

    A connect takes five of these calls. The functions of the module `base64` cost twice as much, hence `binascii`.
    """
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


def decoded(text: bytes) -> bytes:
    """Decode text. Returns b"" if the text is not exactly what `encoded` returns for some bytes."""
    try:
        raw = a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) % 4])
    except ValueError:
        return b""
    # binascii ignores unknown characters and unused low bits; encoding again rejects such second spellings.
    return raw if encoded(raw) == text else b""


def signing_key(secret: str) -> bytes:
    """Return the key that signs Tokens under an App's secret. `token_keys` holds those of dropped secrets, as hex."""
    return hmac.digest(secret.encode(errors="surrogateescape"), _KEY_CONTEXT, "sha256")


def generation_of(key: bytes) -> bytes:
    """Return the 4 bytes by which a Token names its signing key."""
    return sha256(key).digest()[:4]


def expiry_ms(app: AppFacts, now_ms: int) -> int:
    """Return the expiry of a Token that is minted now, by the App's time to live; 0: never."""
    return now_ms + app.token_ttl_s * 1_000 if app.token_ttl_s else 0


def current_secret(app: AppFacts) -> str:
    """Return the secret that signs. Raises `SecretsSealed` if this process can't open it."""
    if not app.secrets or app.secrets[0].startswith(SEALED_PREFIX):
        raise SecretsSealed(f"the secrets of App {app.key!r} can't be opened here: nothing can be signed")
    return app.secrets[0]


def mint(app: AppFacts, user: bytes, minted_at_ms: int, nonce: bytes, now_ms: int | None = None) -> str:
    """Return a new Token for a User, under the App's current secret and with its time to live. `nonce` is 8 random bytes.

    `now_ms` is the clock's moment, if it differs from the moment that the Token carries.
    """
    expires_at_ms = expiry_ms(app, minted_at_ms if now_ms is None else now_ms)
    key = signing_key(current_secret(app))
    app_key = app.key.encode()
    head = _HEAD.pack(generation_of(key), minted_at_ms, expires_at_ms, nonce, len(app_key))
    claims = head + app_key + user
    signed = claims + hmac.digest(key, _PREFIX + claims, "sha256")
    return PREFIX + encoded(signed).decode()


def verify(token: str, lookup: Lookup, now_ms: int, only_app: str | None = None) -> Claims:
    """Return the contents of a valid Token. Raises `TokenRefused` for any other, with the first `TokenFault` that applies.

    The Token of another App than `only_app` is refused like that of an unknown one, before its signature is looked at.
    """
    claims, signed = _claims(token)
    view = lookup(claims.app) if only_app in (None, claims.app) else None
    if view is None:
        if only_app is None:
            raise TokenRefused("app-unknown", "the Token belongs to no App that is served here")
        problem = f"the Token does not belong to the App {only_app}, which this connection uses"
        raise TokenRefused("app-unknown", problem)
    text, mac = _PREFIX + signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
    for signer in _signers(view.app.secrets, view.app.token_keys).get(claims.generation, ()):
        if hmac.compare_digest(signer.sign(text), mac):
            break
    else:
        raise TokenRefused("forged", "the Token's signature is wrong, or its secret was dropped")
    if 0 < claims.expires_at_ms <= now_ms:
        raise TokenRefused("expired", "the Token has expired")
    check_user(claims.minted_at_ms, view.user(claims.user), now_ms)
    return claims


def generations(app: AppFacts) -> Collection[bytes]:
    """Return the generations of the keys whose Tokens the App accepts now."""
    return _signers(app.secrets, app.token_keys).keys()


def is_same_app(app: AppFacts, other: AppFacts) -> bool:
    """Return True if both are versions of the same App, rather than two Apps that reused one key (which share no secret).

    An App that was created again with its old secrets, after Redis lost it, counts as the same.
    """
    return app.created_at_ms == other.created_at_ms or not set(generations(app)).isdisjoint(generations(other))


def check_standing(app: AppFacts, generation: bytes, expires_at_ms: int, now_ms: int) -> None:
    """Raise `TokenRefused` unless a Token that was verified once would pass again, regardless of its User."""
    if generation not in generations(app):
        raise TokenRefused("forged", "the secret of the Token was dropped")
    if 0 < expires_at_ms <= now_ms:
        raise TokenRefused("expired", "the Token has expired")


def _claims(token: str) -> tuple[Claims, bytes]:
    """The claims of a Token of exactly this form, and the bytes that it encodes, of which the signature is the end.

    Another spelling of the same bytes is refused.
    """
    if token.startswith(PREFIX) and len(token) <= MAX_TOKEN_CHARS and token.isascii():
        signed = decoded(token[len(PREFIX) :].encode())
        if len(signed) >= _MIN_BYTES:
            generation, minted_at_ms, expires_at_ms, nonce, app_length = _HEAD.unpack_from(signed)
            # The key's length is signed too; the User id is the rest, so no separator is needed.
            app_ends = _HEAD.size + app_length
            app, user = signed[_HEAD.size : app_ends], signed[app_ends:-_MAC_BYTES]
            if app.isascii() and len(app) == app_length and 1 <= len(user) <= MAX_ID_BYTES:
                return Claims(app.decode(), user, minted_at_ms, expires_at_ms, nonce, generation), signed
    raise TokenRefused("malformed", "this is not a Token")


class _Signer:
    """HMAC-SHA-256 with one key. The states that depend only on the key are kept: five sixths of `hmac.digest`'s time."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        # The two padded keys of RFC 2104; `sign` copies the hash states after them.
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
    """Return the signers by generation. The cache key is the secrets, so a change of secrets never meets the old signers."""
    signers: dict[bytes, list[_Signer]] = {}
    for key in (*map(signing_key, secrets), *map(bytes.fromhex, token_keys)):
        signers.setdefault(generation_of(key), []).append(_Signer(key))
    return signers


def check_user(minted_at_ms: int, facts: UserFacts, now_ms: int) -> None:
    """Raise `TokenRefused` unless a Token of the User minted then lets it connect now, regardless of expiry."""
    if facts.deactivated:
        raise TokenRefused("user-deactivated", "the User is deactivated")
    if minted_at_ms < facts.tokens_valid_from_ms:
        raise TokenRefused("revoked", "the Token was revoked")
    if facts.banned_until_ms > now_ms:
        raise TokenRefused("user-banned", "the User is banned", facts.banned_until_ms)
