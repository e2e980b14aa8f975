"""The costs of a Redis Cluster of three masters against one server: acknowledgement, processor time a write, snapshots.

    .venv/bin/python -m loadtests.micro.cluster [--seconds 4] [--rounds 3] [--writers 16] [--entries 200000] [--flavor valkey-9]

Both run on this machine, without replicas, and take turns. A writer and two nodes are in this process.

    idle     processor time a second of both without writes
    paced    one write every 10 ms: how long until both nodes have applied it (`all`), and processor time for it
    busy     `--writers` writers without a pause: processor time for a write
    snapshot entries a second of a whole snapshot, read and not stored

Processor time is that of Gate (writer and two nodes) and of all servers; that of a write is without what is used when idle. One
JSON object on stdout, then a table. Of two cores that other work shares, the ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.snapshot import ListPart
from gate.errors import AppExists
from gate.replica.ports import Upstream
from gate.replica.replicator import Replicator
from gate.store.acks import Acknowledger
from gate.store.store import Store
from harness.clusters import ClusterSetup
from harness.registry import settle
from harness.servers import REDIS_FLAVORS, RedisServer

APP = "app"
PACE_S = 0.01
MEMBERS_A_LIST = 50
PATIENCE_MS = 10_000
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Deployment:
    """Servers, two nodes and a writer."""

    def __init__(self, name: str, pids: list[int], store: Store, acks: Acknowledger) -> None:
        self.name, self._pids, self._store, self._acks = name, pids, store, acks
        self._number = self.late = 0
        self.results: dict[str, list[float]] = {}

    def note(self, what: str, value: float) -> None:
        self.results.setdefault(what, []).append(value)

    async def write(self) -> float:
        """One acknowledged write; its time in ms."""
        self._number += 1
        began_s = time.perf_counter()
        written = await self._store.bans.impose(APP, [b"user-%d" % (self._number % 50_000)], FOREVER_MS, 1)
        applied = await self._acks.wait(written)
        self.late += applied != "all"
        return (time.perf_counter() - began_s) * 1_000

    async def paced(self, seconds: float) -> None:
        took_ms, end_s, before = [], time.monotonic() + seconds, self._cpu_s()
        while time.monotonic() < end_s:
            took_ms.append(await self.write())
            await asyncio.sleep(PACE_S)
        self._note_cpu("paced", before, seconds, len(took_ms))
        took_ms.sort()
        self.note("paced p50 ms", statistics.median(took_ms))
        self.note("paced p99 ms", took_ms[int(len(took_ms) * 0.99)])

    async def busy(self, seconds: float, writers: int) -> None:
        end_s, before = time.monotonic() + seconds, self._cpu_s()

        async def keep_writing() -> int:
            done = 0
            while time.monotonic() < end_s:
                await self.write()
                done += 1
            return done

        done = sum(await asyncio.gather(*(keep_writing() for _ in range(writers))))
        self._note_cpu("busy", before, seconds, done)
        self.note("busy writes/s", done / seconds)
        self.note("not all in time", self.late)

    async def idle(self, seconds: float) -> None:
        before = self._cpu_s()
        await asyncio.sleep(seconds)
        for part, used_s in self._since(before).items():
            self.note(f"idle {part} ms a second", used_s / seconds * 1e3)

    async def fill(self, entries: int) -> None:
        async with self._store.bulk(APP, 1) as bulk:
            members = [b"member-%d" % number for number in range(MEMBERS_A_LIST)]
            for number in range(entries // MEMBERS_A_LIST):
                await bulk.add(ListKind.BLACKLIST, b"owner-%d" % number, members)
            await bulk.flush()

    async def snapshot(self) -> None:
        began_s, entries = time.monotonic(), 0
        async for batch in self._store.snapshot():
            entries += sum(len(part.members) for part in batch if isinstance(part, ListPart))
        self.note("snapshot entries/s", entries / (time.monotonic() - began_s))

    def _note_cpu(self, phase: str, before: dict[str, float], seconds: float, writes: int) -> None:
        """Of each write, without the time that is used while idle."""
        for part, used_s in self._since(before).items():
            idle_s = self.results[f"idle {part} ms a second"][-1] * seconds / 1e3
            self.note(f"{phase} {part} us a write", (used_s - idle_s) / writes * 1e6)

    def _cpu_s(self) -> dict[str, float]:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids]
        ticks = sum(int(one[11]) + int(one[12]) for one in fields)
        return {"gate": time.process_time(), "redis": ticks / TICKS_A_SECOND}

    def _since(self, before: dict[str, float]) -> dict[str, float]:
        return {part: now_s - before[part] for part, now_s in self._cpu_s().items()}


@asynccontextmanager
async def deployed(name: str, url: str, pids: list[int], folder: Path) -> AsyncIterator[Deployment]:
    """Both nodes are there, and the registry is settled."""
    stores = [await Store.connect(url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS) for _ in range(3)]
    writer, *followed = stores
    with suppress(AppExists):
        await writer.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    nodes = [
        Replicator(folder / f"node-{at}", Upstream(store.changelog, store.announcer(f"node-{at}", f"place{at}")))
        for at, store in enumerate(followed)
    ]
    running = [asyncio.create_task(node.run()) for node in nodes]
    for node in nodes:
        await node.ready.wait()
    await settle(writer)
    acks = Acknowledger(writer, "node-0")
    await acks.start()
    made = Deployment(name, pids, writer, acks)
    try:
        yield made
    finally:
        await acks.aclose()
        for node in nodes:
            node.stop()
        await asyncio.gather(*running)
        for store in stores:
            await store.aclose()


async def measured(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Both deployments in turns; of each figure the median."""
    server = RedisServer.start(args.flavor, folder / "one")
    cluster = ClusterSetup.start(args.flavor, folder / "cluster", masters=3, replicas=0)
    each = (("one", server.url, [server.pid]), ("cluster", cluster.url, [node.pid for node in cluster.nodes]))
    results: dict[str, dict[str, Any]] = {}
    try:
        for turn in range(args.rounds):
            for name, url, pids in each:  # one at a time: the other's nodes would take processor time
                async with deployed(name, url, pids, folder / f"{name}-{turn}") as one:
                    await one.idle(args.seconds)
                    await one.paced(args.seconds)
                    await one.busy(args.seconds, args.writers)
                    if turn == args.rounds - 1:  # last: the nodes load what is there with each turn
                        await one.fill(args.entries)
                        await one.snapshot()
                for what, values in one.results.items():
                    results.setdefault(what, {}).setdefault(name, []).extend(values)
    finally:
        server.stop()
        cluster.stop()
    return {
        what: {name: round(statistics.median(values), 3) for name, values in by_name.items()}
        for what, by_name in results.items()
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--flavor", choices=REDIS_FLAVORS, default="valkey-9")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measured(args, Path(folder)))
    print(json.dumps({"load": os.getloadavg()[0], "flavor": args.flavor, **results}))
    print(f"{'':28}{'one':>12}{'cluster':>12}{'ratio':>8}")
    for what, by_name in results.items():
        one, cluster = by_name["one"], by_name["cluster"]
        print(f"{what:28}{one:12.3f}{cluster:12.3f}{cluster / one if one else 0:8.2f}")


if __name__ == "__main__":
    main()
