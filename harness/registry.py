"""The registry of nodes as it is once a deployment has run for a lease, so that a test need not wait for one.

Until then, a write is acknowledged as `node` at most (docs/decisions/0011).
"""

from __future__ import annotations

import asyncio

import redis

from gate.store import keys
from gate.store.joins import mark_of, reading
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store
from harness.waiting import wait_until

MARKER_TIMEOUT_S = 5.0
BRIEF_LEASE_MS = 1


async def settle(store: Store) -> None:
    """Make the list complete: a temporary node has watched it for its whole, very short lease."""
    watcher = NodeAnnouncer(store.client, "settler", lease_ttl_ms=BRIEF_LEASE_MS, partitions=store.partitions)
    while not await is_settled(store):
        await watcher.renew({})
        await asyncio.sleep(BRIEF_LEASE_MS / 1_000)
    await watcher.leave()


async def is_settled(store: Store) -> bool:
    """Whether the registry is, and on a Cluster the mark in every Partition as well."""
    registry = await store.writer.registry()
    if not registry.is_settled or not store.client.address.seeds:
        return registry.is_settled
    marks = map(mark_of, await store.client.query_each(reading(range(store.partitions))))
    return all(mark.proves(registry) for mark in marks)


def settle_at(url: str) -> None:
    """The same for a service that runs on the Redis at `url`, whose nodes are all there and hold their lease."""
    with _client(url) as client:

        def marker() -> bytes | None:
            found: bytes | None = client.hget(keys.NODES.decode(), "marker")
            return found

        found = wait_until(marker, MARKER_TIMEOUT_S, "a node to take its lease")
        assert found is not None
        client.hset(keys.NODES.decode(), "marker", found[:-1] + b"1")


def _client(url: str) -> redis.Redis | redis.RedisCluster:
    scheme, _, hosts = url.partition("://")
    if scheme == "redis+cluster":
        return redis.RedisCluster.from_url(f"redis://{hosts.split(',')[0]}")
    return redis.Redis.from_url(url, single_connection_client=True)
