"""RongCloud's signature: app servers sign their requests with it, and Gate signs the callbacks that it sends.

It covers neither body nor path: it proves only that the sender knows the App's secret. Both directions share the formula, so
a callback's nonce begins with `CALLBACK_NONCE`. A signature that leaks from a callback's receiver, or from a log of its
address, is then invalid for a request.
"""

from __future__ import annotations

from hashlib import sha1

# Prefix of the nonce of each callback. A request whose nonce and timestamp together begin with it is refused.
CALLBACK_NONCE = "webhook-"


def signature_of(secret: str, nonce: str, timestamp: str) -> str:
    """Return the lowercase hex SHA-1 of secret + nonce + timestamp, as the strings are sent."""
    return sha1((secret + nonce + timestamp).encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
