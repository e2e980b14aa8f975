"""The session cookie, which says which operator a browser belongs to, and the tokens of its forms.

    cookie      2.<operator's name, base64url>.<id of the session>.<expiry, ms>.<HMAC, base64url>

The key of the HMAC is derived from the account as it is stored: its password's hash (which has a random salt and is never
shown), name, role and moment of creation. So any node can verify a session cookie, also after a restart. A change of the
account (password, role, removal) ends all of its session cookies at once, and the end of the session that a cookie names ends
that cookie (`gate.store.console_sessions`). Each use of the key names its purpose, so that a form's token is never accepted as
a session cookie.

Pure. Called by `session_auth` and by `request_context`.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

from itsdangerous import Signer

from gate.core.operators import Operator

# All of it is bounded, so that nothing long is decoded or hashed before it is known to be ours.
_COOKIE = re.compile(r"2\.([A-Za-z0-9_-]{2,88})\.([A-Za-z0-9_-]{16})\.(\d{13})\.[A-Za-z0-9_-]{43}")


# How long the address of a page may say what was done: who loads it later should not read that as news.
SAID_FOR_MS = 60_000


class SessionCookie(NamedTuple):
    """The contents of a session cookie; to be trusted only if it is `genuine`."""

    text: str
    name: str
    session: str
    until_ms: int


def new_cookie(operator: Operator, session: str, until_ms: int) -> str:
    """A session cookie of this operator, for the session with this id."""
    name = urlsafe_b64encode(operator.name.encode()).rstrip(b"=").decode()
    # Not `TimestampSigner`: that reads the clock itself, and here time is an argument.
    return _signer(operator, "session").sign(f"2.{name}.{session}.{until_ms}").decode()


def read_cookie(text: str) -> SessionCookie | None:
    """The contents of a session cookie, unverified; None if the text does not have its form."""
    match = _COOKIE.fullmatch(text)
    if match is None:
        return None
    try:
        name = urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)).decode()
    except ValueError:
        return None
    return SessionCookie(text, name, match[2], int(match[3]))


def is_genuine(cookie: SessionCookie, operator: Operator) -> bool:
    """Whether it was made for this account as it is now."""
    return _signer(operator, "session").validate(cookie.text)


def form_token(operator: Operator, cookie: str) -> str:
    """The token of forms that are sent with this session cookie: another site can know neither."""
    return _signer(operator, "form").get_signature(_bytes(cookie)).decode()


def sealed_message(operator: Operator, cookie: str, text: str, now_ms: int) -> str:
    """A message for the next page, as part of its address: `<base64>-<moment>.<HMAC>`, so that a link can't forge one."""
    packed = urlsafe_b64encode(text.encode("utf-8", "backslashreplace")).decode()
    message = f"{packed}-{now_ms}"
    return f"{message}.{_message_seal(operator, cookie, message)}"


def opened_message(operator: Operator, cookie: str, sealed: str, now_ms: int) -> str | None:
    """The text, or None if it is not this browser's own, or too old to be news."""
    message, _, seal = sealed.rpartition(".")
    if not is_same(seal, _message_seal(operator, cookie, message)):
        return None
    packed, _, at_ms = message.rpartition("-")
    return urlsafe_b64decode(packed).decode() if now_ms - int(at_ms) < SAID_FOR_MS else None


def is_same(given: str, wanted: str) -> bool:
    """Compares in a time that does not depend on where they differ."""
    return hmac.compare_digest(_bytes(given), wanted.encode())


def _message_seal(operator: Operator, cookie: str, message: str) -> str:
    return _signer(operator, "message").get_signature(_bytes(f"{cookie} {message}")).decode()


def _signer(operator: Operator, purpose: str) -> Signer:
    # NUL can't be in a name or a role: no two accounts have the same text.
    account = f"gate console\0{operator.name}\0{operator.role}\0{operator.created_at_ms}\0{purpose}"
    return Signer(operator.password_hash, salt=account, key_derivation="hmac", digest_method=sha256)


def _bytes(text: str) -> bytes:
    # A browser may send anything: lone surrogates stand for bytes that are not UTF-8.
    return text.encode("utf-8", "surrogatepass")
