"""How soon writes are accepted after a failover, and what checks at a steady rate notice of it.

    .venv/bin/python -m loadtests.micro.failover [--flavor redis-7|valkey-9] [--count 20]

A primary, two replicas and three Sentinels with their own intervals; one node, and a writer of four tasks in this process.
Half of the failovers are by `SENTINEL FAILOVER`, half by `kill -9` of the primary.

    since promoted   from when the replica reports that it is a primary, to the first write that it accepts from Gate
    since named      the same from when the first Sentinel names it, which may be a second later
    lost             writes that were acknowledged before the failover, of any kind, and that the new primary lacks
    checks           500/s over RESP, ms: for 20 s without any failover or write, and during all of it. Other work on the
                     machine delays both

One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import redis

from gate.core.model import FOREVER_MS
from gate.core.partition import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.store import Store
from tests.harness.sentinels import SentinelSetup
from tests.harness.servers import Flavor, RedisServer
from tests.harness.service import Checking, GateService
from tests.harness.waiting import wait_until_async

APP = "default"
WRITERS = 4
LOOK_EVERY_S = 0.002
GIVE_UP_S = 30.0
QUIET_S = 20.0
SLOWEST_MS = 25


async def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flavor", default="redis-7")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setup = await asyncio.to_thread(SentinelSetup.start, options.flavor, Path(folder), is_hasty=False)
        try:
            service = await asyncio.to_thread(GateService.start, Path(folder) / "node", "--redis", setup.url)
            try:
                print(json.dumps(await _measured(setup, service, options.flavor, options.count), indent=2))
            finally:
                await asyncio.to_thread(service.stop)
        finally:
            setup.stop()


async def _measured(setup: SentinelSetup, service: GateService, flavor: Flavor, count: int) -> dict[str, object]:
    store = await Store.connect(setup.url)
    quiet = Checking(service)
    await asyncio.sleep(QUIET_S)
    quiet.end()
    checking = Checking(service)
    runs = [await _failed_over(setup, store, is_death=number % 2 == 1) for number in range(count)]
    checking.end()
    await store.aclose()
    result: dict[str, object] = {"flavor": flavor, "failovers": count}
    for at, name in enumerate(("since_promoted_ms", "since_named_ms")):
        for kind, some in (("command", runs[::2]), ("death", runs[1::2])):
            took_ms = [1_000 * run[at] for run in some]
            result[f"{kind}_{name}"] = {"p50": round(statistics.median(took_ms), 1), "worst": round(max(took_ms), 1)}
    result["lost"] = {"command": sum(run[2] for run in runs[::2]), "death": sum(run[2] for run in runs[1::2])}
    return {**result, "checks_without": _shown(quiet.took_ms), "checks_during": _shown(checking.took_ms)}


def _shown(took_ms: list[float]) -> dict[str, float]:
    return {
        "count": len(took_ms),
        "p99_ms": round(statistics.quantiles(took_ms, n=100)[98], 1),
        "over_25_ms": sum(took > SLOWEST_MS for took in took_ms),
        "slowest_ms": round(max(took_ms), 1),
    }


async def _failed_over(setup: SentinelSetup, store: Store, *, is_death: bool) -> tuple[float, float, int]:
    await asyncio.to_thread(setup.wait_whole)
    old = setup.primary
    acknowledged: dict[bytes, float] = {}
    writers = [asyncio.create_task(_write(store, acknowledged, b"%d" % number)) for number in range(WRITERS)]
    await asyncio.sleep(1)
    moments = asyncio.create_task(asyncio.to_thread(_moments, setup, old))
    if is_death:
        old.kill()
    else:
        await asyncio.to_thread(setup.fail_over, is_whole=True)
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
        await asyncio.to_thread(old.restart)
    return accepted_s - promoted_s, accepted_s - named_s, len(gone)


async def _write(store: Store, acknowledged: dict[bytes, float], name: bytes) -> None:
    number = 0
    while True:
        number += 1
        user = b"%s-%d-%d" % (name, number, time.monotonic_ns())
        try:
            await store.bans.impose(APP, [user], FOREVER_MS, 1)
        except StoreUnavailable:
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            acknowledged[user] = time.monotonic()


def _moments(setup: SentinelSetup, old: RedisServer) -> tuple[float, float, RedisServer]:
    """When a replica was promoted, when a Sentinel first named it, and which it is."""
    others = [server for server in setup.servers if server is not old]
    promoted_s = 0.0
    until_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < until_s:
        if not promoted_s and any(map(_is_primary, others)):
            promoted_s = time.monotonic()
        if promoted_s and (new := setup.primary) is not old:
            return promoted_s, time.monotonic(), new
        time.sleep(LOOK_EVERY_S)
    raise TimeoutError("no failover came about")


def _is_primary(server: RedisServer) -> bool:
    try:
        return bool(server.client.info("replication")["role"] == "master")
    except redis.ConnectionError:  # Sentinels close the connections of a server that gets another role
        return False


if __name__ == "__main__":
    asyncio.run(main())
