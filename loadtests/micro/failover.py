"""How soon writes are accepted after a failover, and what checks at a steady rate notice of it.

    .venv/bin/python -m loadtests.micro.failover [--redis sentinel|cluster] [--flavor redis-7|valkey-9] [--count 20]

A primary, two replicas and three Sentinels with their own intervals, or three masters with a replica each; one node, and a
writer of four tasks in this process. Half of the failovers are by command (`SENTINEL FAILOVER`, `CLUSTER FAILOVER`), half by
`kill -9` of the primary.

    since promoted   from when the replica reports that it is a primary, to the first write that it accepts from Gate
    since named      the same from when the first Sentinel names it, which may be a second later; none with a cluster
    lost             writes that were acknowledged before the failover, of any kind, and that the new primary lacks
    checks           500/s over RESP by a client process of its own, pinned to a core, ms: for 20 s without any failover or
                     write, and during all of it. Other work on the machine delays both

One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import redis

from gate.core.model import FOREVER_MS
from gate.core.revision import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.store import Store
from harness.cluster_node import ClusterNode
from harness.clusters import ClusterSetup, partition_slot
from harness.sentinels import SentinelSetup
from harness.servers import Flavor, RedisServer
from harness.service import GateService
from harness.waiting import wait_until_async
from loadtests.micro.asker import Asking

APP = "default"
WRITERS = 4
LOOK_EVERY_S = 0.002
GIVE_UP_S = 30.0
QUIET_S = 20.0
SLOWEST_MS = 25


class Moments(NamedTuple):
    """When a replica was promoted, when something first named it, and which it is."""

    promoted_s: float
    named_s: float
    new: RedisServer


class Behind(ABC):
    """One topology."""

    url: str

    @abstractmethod
    def wait_whole(self) -> None:
        """Until it is whole."""

    @abstractmethod
    def primary(self) -> RedisServer:
        """The one whose turn it is."""

    @abstractmethod
    def moments(self, old: RedisServer) -> Moments:
        """Wait for the failover; raises TimeoutError."""

    @abstractmethod
    def command(self, old: RedisServer) -> None:
        """Begin a failover."""

    @abstractmethod
    def owns(self, old: RedisServer, partition: int) -> bool:
        """Whether the primary has that Partition; asked before the failover."""

    @abstractmethod
    def revive(self, old: RedisServer) -> None:
        """Start a server again that was killed."""

    @abstractmethod
    def stop(self) -> None:
        """End all servers."""


class BehindSentinels(Behind):
    """A primary and two replicas."""

    def __init__(self, flavor: Flavor, folder: Path) -> None:
        self._setup = SentinelSetup.start(flavor, folder, is_hasty=False)
        self.url = self._setup.url

    def wait_whole(self) -> None:
        self._setup.wait_whole()

    def primary(self) -> RedisServer:
        return self._setup.primary

    def moments(self, old: RedisServer) -> Moments:
        others = [server for server in self._setup.servers if server is not old]
        promoted_s = 0.0
        until_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until_s:
            if not promoted_s and any(map(_is_primary, others)):
                promoted_s = time.monotonic()
            if promoted_s and (new := self._setup.primary) is not old:
                return Moments(promoted_s, time.monotonic(), new)
            time.sleep(LOOK_EVERY_S)
        raise TimeoutError("no failover came about")

    def command(self, old: RedisServer) -> None:
        self._setup.fail_over(is_whole=True)

    def owns(self, old: RedisServer, partition: int) -> bool:
        return True

    def revive(self, old: RedisServer) -> None:
        old.restart()

    def stop(self) -> None:
        self._setup.stop()


class BehindCluster(Behind):
    """Three masters with a replica each, which fail over in turn."""

    def __init__(self, flavor: Flavor, folder: Path) -> None:
        self._setup = ClusterSetup.start(flavor, folder)
        self.url = self._setup.url
        self._turn = 0
        self._followers: dict[RedisServer, list[ClusterNode]] = {}

    def wait_whole(self) -> None:
        self._setup.wait_whole()

    def primary(self) -> RedisServer:
        """The next master in turn. Its replicas are noted: they cannot be asked for once it is dead."""
        masters = self._setup.masters
        chosen = masters[self._turn % len(masters)]
        self._turn += 1
        self._followers = {chosen: self._setup.replicas_of(chosen)}
        return chosen

    def moments(self, old: RedisServer) -> Moments:
        until_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until_s:
            for node in self._followers[old]:
                if _is_primary(node):
                    return Moments(now_s := time.monotonic(), now_s, node)
            time.sleep(LOOK_EVERY_S)
        raise TimeoutError("no failover came about")

    def command(self, old: RedisServer) -> None:
        self._followers[old][0].ask("FAILOVER")

    def owns(self, old: RedisServer, partition: int) -> bool:
        assert isinstance(old, ClusterNode)
        return old.own.owns(partition_slot(partition))

    def revive(self, old: RedisServer) -> None:
        assert isinstance(old, ClusterNode)
        old.launch()

    def stop(self) -> None:
        self._setup.stop()


BEHIND = {"sentinel": BehindSentinels, "cluster": BehindCluster}


async def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="sentinel", choices=tuple(BEHIND))
    parser.add_argument("--flavor", default="redis-7")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        behind: Behind = await asyncio.to_thread(BEHIND[options.redis], options.flavor, Path(folder))
        try:
            service = await asyncio.to_thread(GateService.start, Path(folder) / "node", "--redis", behind.url)
            try:
                found = await _measured(behind, service, options.count)
                print(json.dumps({"redis": options.redis, "flavor": options.flavor, **found}, indent=2))
            finally:
                await asyncio.to_thread(service.stop)
        finally:
            behind.stop()


async def _measured(behind: Behind, service: GateService, count: int) -> dict[str, object]:
    store = await Store.connect(behind.url)
    quiet = _asking(service)
    await asyncio.sleep(QUIET_S)
    without_ms = await asyncio.to_thread(quiet.end)
    checking = _asking(service)
    runs = [await _failed_over(behind, store, is_death=number % 2 == 1) for number in range(count)]
    during_ms = await asyncio.to_thread(checking.end)
    await store.aclose()
    result: dict[str, object] = {"failovers": count}
    for at, name in enumerate(("since_promoted_ms", "since_named_ms")):
        for kind, some in (("command", runs[::2]), ("death", runs[1::2])):
            took_ms = [1_000 * run[at] for run in some]
            result[f"{kind}_{name}"] = {"p50": round(statistics.median(took_ms), 1), "worst": round(max(took_ms), 1)}
    result["lost"] = {"command": sum(run[2] for run in runs[::2]), "death": sum(run[2] for run in runs[1::2])}
    return {**result, "checks_without": _shown(without_ms), "checks_during": _shown(during_ms)}


def _asking(service: GateService) -> Asking:
    return Asking(service.resp_port, service.credentials.app_key, service.credentials.app_secret)


def _shown(took_ms: list[float]) -> dict[str, float]:
    return {
        "count": len(took_ms),
        "p99_ms": round(statistics.quantiles(took_ms, n=100)[98], 1),
        "over_25_ms": sum(took > SLOWEST_MS for took in took_ms),
        "slowest_ms": round(max(took_ms), 1),
    }


async def _failed_over(behind: Behind, store: Store, *, is_death: bool) -> tuple[float, float, int]:
    await asyncio.to_thread(behind.wait_whole)
    old = behind.primary()
    concerned = {partition for partition in range(store.partitions) if behind.owns(old, partition)}
    acknowledged: dict[bytes, float] = {}
    writers = [asyncio.create_task(_write(store, acknowledged, b"%d" % number, concerned)) for number in range(WRITERS)]
    await asyncio.sleep(1)
    moments = asyncio.create_task(asyncio.to_thread(behind.moments, old))
    if is_death:
        old.kill()
    else:
        await asyncio.to_thread(behind.command, old)
    promoted_s, named_s, new = await moments
    begun = len(acknowledged)
    await wait_until_async(lambda: len(acknowledged) >= begun + 20, GIVE_UP_S, "writes at the new primary")
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    users = list(acknowledged)
    with new.client.pipeline(transaction=False) as pipeline:
        for user in users:
            pipeline.exists(keys.user(partition_of(APP, user, store.partitions), APP, user).decode())
        gone = {user for user, is_there in zip(users, pipeline.execute(), strict=True) if not is_there}
    accepted_s = min(at_s for user, at_s in acknowledged.items() if user not in gone and at_s > promoted_s)
    if is_death:
        await asyncio.to_thread(behind.revive, old)
    return accepted_s - promoted_s, accepted_s - named_s, len(gone)


async def _write(store: Store, acknowledged: dict[bytes, float], name: bytes, concerned: set[int]) -> None:
    """To Partitions of the primary that fails over."""
    number = 0
    while True:
        number += 1
        user = b"%s-%d-%d" % (name, number, time.monotonic_ns())
        if partition_of(APP, user, store.partitions) not in concerned:
            continue
        try:
            await store.bans.impose(APP, [user], FOREVER_MS, 1)
        except StoreUnavailable:
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            acknowledged[user] = time.monotonic()


def _is_primary(server: RedisServer) -> bool:
    try:
        return bool(server.client.info("replication")["role"] == "master")
    except redis.ConnectionError:  # Sentinels close the connections of a server that gets another role
        return False


if __name__ == "__main__":
    asyncio.run(main())
