"""Nonces seen, for Apps that let each signature be used once only (`strict_signature`).

Not a gating fact: no Change, nothing for a Replica. Redis forgets a nonce by itself when its signature is too old to pass.
"""

from __future__ import annotations

from gate.core.partition import partition_of
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.scripts import Call


class Nonces:
    """Spends nonces."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    async def spend(self, app_key: str, nonce: str, ttl_ms: int) -> bool:
        """True the first time within `ttl_ms`, False after that. Raises `StoreUnavailable`.

        Its outcome is never "unknown": whatever the request was to write, it has not been written yet.
        """
        raw = nonce.encode("utf-8", "surrogateescape")
        key = keys.nonce(partition_of(app_key, raw, self._partitions), app_key, raw)
        return bool(await self._client.query(Call(scripts.NONCE_SPEND, [key], [ttl_ms])))
