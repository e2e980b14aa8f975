"""What a webhook receives: the signed address and the form. The moment and the nonce are arguments.

As RongCloud signs its callbacks: with query parameters, by the App's current secret. Both names that its documents give the
moment are sent. The body is not signed; a receiver that must be sure of it uses https.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode, urlsplit, urlunsplit

from gate.core.model import AppFacts
from gate.core.signature import CALLBACK_NONCE, signature_of
from gate.core.token import current_secret
from gate.store.webhook_queue import QueuedWebhook


def callback_nonce() -> str:
    """A new one, which can't be a request's; of 18 characters, as long as RongCloud's may be."""
    # The prefix keeps a callback from being sent back as a request: no signature with it is accepted (`http.auth`).
    return CALLBACK_NONCE + secrets.token_hex(5)


def signed_url(app: AppFacts, webhook_url: str, nonce: str, now_ms: int) -> str:
    """One of the App's webhooks with the signature's parameters behind those that it has."""
    moment = str(now_ms)
    signature = signature_of(current_secret(app), nonce, moment)
    query = urlencode(
        {"appKey": app.key, "nonce": nonce, "timestamp": moment, "signTimestamp": moment, "signature": signature}
    )
    address = urlsplit(webhook_url)
    # The URL's own query comes first and is not parsed: what the App wrote in it stays as it is.
    return urlunsplit(address._replace(query=f"{address.query}&{query}" if address.query else query, fragment=""))


def form_of(hook: QueuedWebhook) -> bytes:
    """The result, one User a callback. An id that is not UTF-8 travels as its bytes."""
    fields = {
        "userId": hook.user,
        "operateId": hook.operation,
        "type": hook.kind,
        "code": hook.code,
        "time": hook.at_ms,
    }
    return urlencode(fields).encode()
