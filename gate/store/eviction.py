"""Whether the server may evict keys: then a Ban may be dropped for room, and lets someone through.

Every `maxmemory-policy` but `noeviction` counts, whether `maxmemory` is set or not: it may be set at any time, and a hosted
server does not always show its limit. `volatile-*` counts as well: what closes the Sessions of a banned User has an expiry. The
policy is read from INFO, which needs no right to read the configuration.
"""

from __future__ import annotations

from gate.store.client import Client

SAFE_POLICY = "noeviction"


async def eviction_policy(client: Client) -> str:
    """The policy by which it may evict; "" if it does not, or does not say. Raises `StoreUnavailable`."""
    for server in await client.masters():
        (text,) = await server.read(("INFO", "memory"))
        facts = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        policy = str(facts.get("maxmemory_policy", SAFE_POLICY))
        if policy != SAFE_POLICY:
            return policy
    return ""


def shown_eviction(client: Client, policy: str) -> str:
    """What is wrong, and what to do."""
    return (
        f"{client.address.shown} may evict facts (maxmemory-policy {policy}), and an evicted Ban lets someone through: "
        f"CONFIG SET maxmemory-policy {SAFE_POLICY}"
    )
