"""Whether the server may evict keys: an evicted Ban no longer has an effect.

Every `maxmemory-policy` except `noeviction` counts, whether `maxmemory` is set or not: it may be set at any time, and a hosted
server does not always show its limit. `volatile-*` counts too: the record that closes a banned User's Sessions has an expiry.
The policy is read from INFO, which needs no right to read the configuration.
"""

from __future__ import annotations

from gate.store.client import Client

SAFE_POLICY = "noeviction"


async def eviction_policy(client: Client) -> str:
    """Return the eviction policy; "" if the server does not evict or does not report one. Raises `StoreUnavailable`."""
    for server in await client.masters():
        (text,) = await server.read(("INFO", "memory"))
        # INFO has headings without a colon.
        facts = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        policy = str(facts.get("maxmemory_policy", SAFE_POLICY))
        if policy != SAFE_POLICY:
            return policy
    return ""


def shown_eviction(client: Client, policy: str) -> str:
    """Return the problem and its remedy."""
    return (
        f"{client.address.shown} may evict facts (maxmemory-policy {policy}), and an evicted Ban has no effect: "
        f"CONFIG SET maxmemory-policy {SAFE_POLICY}"
    )
