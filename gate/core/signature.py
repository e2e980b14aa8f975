"""RongCloud's signature: how an app server signs its requests, and Gate the callbacks that it sends.

It binds neither body nor path: it shows that the sender knows the App's secret, no more. Both directions share the formula, so
a callback's nonce begins with `CALLBACK_NONCE`: what its receiver, or a log of its address, shows must sign no request.
"""

from __future__ import annotations

from hashlib import sha1

CALLBACK_NONCE = "webhook-"
"""What the nonce of each callback begins with, and nonce and timestamp of no request together."""


def signature_of(secret: str, nonce: str, timestamp: str) -> str:
    """The lowercase hex SHA-1 of secret + nonce + timestamp, as the strings are sent."""
    return sha1((secret + nonce + timestamp).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
