"""The signature of the RongCloud-compatible API, made as its SDKs make it: one place for tests, the demo and load."""

from __future__ import annotations

import hashlib
import secrets
import time


def signature_headers(app_key: str, app_secret: str) -> dict[str, str]:
    """Headers for one signed form call, with a nonce of its own, good for strict Apps too."""
    nonce, timestamp = secrets.token_hex(8), str(int(time.time() * 1_000))
    return {
        "App-Key": app_key,
        "Nonce": nonce,
        "Timestamp": timestamp,
        "Signature": hashlib.sha1((app_secret + nonce + timestamp).encode()).hexdigest(),
        "Content-Type": "application/x-www-form-urlencoded",
    }
