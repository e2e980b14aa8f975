"""Used nonces, for Apps that accept each signature only once (`strict_signature`).

A nonce is no gating fact: there is no Change, and it is not in a Replica. It is kept until its signature is too old by the
clocks of all nodes; then the sweep deletes it.
"""

from __future__ import annotations

from gate.core.revision import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.scripts import Call

# Per App and Partition, some 30 MB: if clocks differ and nothing is swept, memory stays bounded.
MAX_NONCES = 250_000


class Nonces:
    """Records nonces as used."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    async def spend(self, app_key: str, nonce: str, until_ms: int) -> bool:
        """Return True for the first use, False afterwards; `until_ms` is the end of its signature's validity.

        Raises `StoreUnavailable`, also if the maximum of nonces is stored. The outcome is never "unknown": the request itself
        has not been written yet.
        """
        raw = nonce.encode("utf-8", "surrogateescape")
        # Spread over Partitions by the nonce itself.
        key = keys.nonces(partition_of(app_key, raw, self._partitions), app_key)
        spent: int = await self._client.query(Call(scripts.NONCE_SPEND, [key], [raw, until_ms, MAX_NONCES]))
        if spent < 0:
            raise StoreUnavailable(
                f"the App has used {MAX_NONCES} nonces that may not be forgotten yet; see gate doctor"
            )
        return spent == 1
