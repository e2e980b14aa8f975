"""Nonces seen, for Apps that let each signature be used once only (`strict_signature`).

Not a gating fact: no Change, nothing for a Replica. A nonce is kept until its signature is too old to pass by the clocks
of all nodes; the sweep forgets it then.
"""

from __future__ import annotations

from gate.core.partition import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.scripts import Call

MAX_NONCES = 250_000
"""Of one App in one Partition, some 30 MB: where clocks differ and nothing is swept, memory stays bounded."""


class Nonces:
    """Spends nonces."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    async def spend(self, app_key: str, nonce: str, until_ms: int) -> bool:
        """True the first time, False after that; `until_ms` is when its signature passes no more.

        Raises `StoreUnavailable`, also where so many are kept that one more has no room. Its outcome is never "unknown":
        whatever the request was to write, it has not been written yet.
        """
        raw = nonce.encode("utf-8", "surrogateescape")
        key = keys.nonces(partition_of(app_key, raw, self._partitions), app_key)
        spent: int = await self._client.query(Call(scripts.NONCE_SPEND, [key], [raw, until_ms, MAX_NONCES]))
        if spent < 0:
            raise StoreUnavailable(
                f"the App has used {MAX_NONCES} nonces that may not be forgotten yet; see gate doctor"
            )
        return spent == 1
