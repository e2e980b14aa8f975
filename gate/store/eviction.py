"""Whether the server may evict keys: an evicted Ban no longer has an effect.

Every `maxmemory-policy` except `noeviction` counts, whether `maxmemory` is set or not: it may be set at any time, and a hosted
server does not always show its limit. `volatile-*` counts too: the record that closes a banned User's Sessions has an expiry.
The policy is read from INFO, which needs no right to read the configuration.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.store.client import Client

SAFE_POLICY = "noeviction"


class ServerMemory(NamedTuple):
    """The memory of the server, or of the fullest master of a Cluster."""

    used_bytes: int
    max_bytes: int
    """`maxmemory`; 0 for no limit."""
    evicted_keys: int
    """Since the start of the server, of all masters."""
    policy: str
    """The first one that evicts; "" if no master evicts or reports a policy."""

    @property
    def fullness(self) -> float:
        """The share of the limit that is in use; 0 without a limit."""
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0


async def read_memory(client: Client) -> ServerMemory:
    """Read the memory of all masters. Raises `StoreUnavailable`."""
    of_masters = []
    for server in await client.masters():
        # Two commands, because Redis 6.2 takes one section at a time.
        texts = await server.read(("INFO", "memory"), ("INFO", "stats"))
        # INFO has headings without a colon.
        facts = dict(line.split(":", 1) for line in b"\n".join(texts).decode().splitlines() if ":" in line)
        used, limit, evicted = (int(facts.get(name, 0)) for name in ("used_memory", "maxmemory", "evicted_keys"))
        policy = str(facts.get("maxmemory_policy", SAFE_POLICY))
        of_masters.append(ServerMemory(used, limit, evicted, "" if policy == SAFE_POLICY else policy))
    fullest = max(of_masters, key=lambda one: (one.fullness, one.used_bytes))
    return fullest._replace(
        evicted_keys=sum(one.evicted_keys for one in of_masters),
        policy=next((one.policy for one in of_masters if one.policy), ""),
    )


async def eviction_policy(client: Client) -> str:
    """Return the eviction policy; "" if the server does not evict or does not report one. Raises `StoreUnavailable`."""
    return (await read_memory(client)).policy


def shown_eviction(client: Client, policy: str) -> str:
    """Return the problem and its remedy."""
    return (
        f"{client.address.shown} may evict facts (maxmemory-policy {policy}), and an evicted Ban has no effect: "
        f"CONFIG SET maxmemory-policy {SAFE_POLICY}"
    )
