"""The session cookie, which says which operator a browser belongs to, and the tokens that its forms carry.

    badge       1.<operator's name, base64url>.<until when, ms>.<HMAC, base64url>

The key of the HMAC is derived from the account as it is stored: its password's hash (which has a random salt and is never
shown), name, role and moment of creation. So any node can verify a session cookie, also after a restart, and nothing has to
be stored. A change of the account (password, role, removal) ends all of its session cookies at once. Each use of the key
names its purpose, so that a form's token is never accepted as a session cookie.

Pure. Called by `session_auth` and by the visits.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from gate.core.operators import Operator

SESSION_TTL_MS = 8 * 3_600_000
"""A working day."""

_COOKIE = re.compile(r"(1\.([A-Za-z0-9_-]{2,88})\.(\d{13}))\.([A-Za-z0-9_-]{43})")


class SessionCookie(NamedTuple):
    """What a session cookie says; true only if it is `genuine`."""

    text: str
    name: str
    until_ms: int
    signed: str
    seal: str


def new_cookie(operator: Operator, until_ms: int) -> str:
    """A session cookie of this operator."""
    signed = f"1.{_text(operator.name.encode())}.{until_ms}"
    return f"{signed}.{_seal(operator, 'session cookie', signed)}"


def read_cookie(text: str) -> SessionCookie | None:
    """What it says, or None for what no session cookie looks like."""
    match = _COOKIE.fullmatch(text)
    if match is None:
        return None
    try:
        name = urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4)).decode()
    except ValueError:
        return None
    return SessionCookie(text, name, int(match[3]), match[1], match[4])


def is_genuine(cookie: SessionCookie, operator: Operator) -> bool:
    """Whether it was made for this account as it is now."""
    return hmac.compare_digest(cookie.seal, _seal(operator, "session cookie", cookie.signed))


def form_token(operator: Operator, cookie: str) -> str:
    """What forms carry that are sent with this session cookie: another site can know neither."""
    return _seal(operator, "form", cookie)


def sealed_message(operator: Operator, cookie: str, message: str) -> str:
    """A message for the page after this one, as part of its address: `<message>.<HMAC>`, so that a link can't forge one."""
    return f"{message}.{_seal(operator, 'message', f'{cookie} {message}')}"


def opened_message(operator: Operator, cookie: str, text: str) -> str | None:
    """The message, or None where it is not this browser's own."""
    message, _, seal = text.rpartition(".")
    return message if is_same(seal, _seal(operator, "message", f"{cookie} {message}")) else None


def is_same(given: str, wanted: str) -> bool:
    """Compares in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _seal(operator: Operator, purpose: str, said: str) -> str:
    account = f"gate console\0{operator.name}\0{operator.role}\0{operator.created_at_ms}"
    key = hmac.digest(operator.password_hash.encode(), account.encode(), "sha256")
    return _text(hmac.digest(key, f"{purpose}\0{said}".encode("utf-8", "surrogatepass"), "sha256"))


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
