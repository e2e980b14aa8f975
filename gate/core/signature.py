"""RongCloud's signature: how an app server signs its requests, and Gate the callbacks that it sends.

It binds neither body nor path: it shows that the sender knows the App's secret, no more.
"""

from __future__ import annotations

from hashlib import sha1


def signature_of(secret: str, nonce: str, timestamp: str) -> str:
    """The lowercase hex SHA-1 of secret + nonce + timestamp, as the strings are sent."""
    return sha1((secret + nonce + timestamp).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
