"""Unit costs for `loadtests.plan` that no row of the benchmark has: memory, processor time and bytes of one thing each.

    .venv/bin/python -m loadtests.micro.units [--flavor redis-7|valkey-9] [--scale 1.0]

A real server with the settings of `deploy/redis/redis.conf`, and a node on it. Memory is `used_memory` before and after,
with the Changelogs trimmed, so that each thing is counted alone. Processor time is that of the server's main thread, of the
node's processes by `/proc`, over thousands of calls. Other work on the machine raises it by what it takes of the caches, so
each is the least of `ROUNDS`, and `load_average` shows how busy the machine was. Writes `loadtests/results/units.json`, in
two minutes on a machine that is not busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio
import requests

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from gate.presence.session_recovery import RECOVERED_AT_ONCE
from gate.store import keys, presence_keys
from gate.store.acks import Announcement, pack_announcement
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore
from gate.store.store import Store
from harness.ports import LOOPBACK
from harness.processes import family
from harness.servers import Flavor, RedisServer
from harness.service import GateService
from harness.signing import signature_headers
from harness.waiting import wait_until_async
from loadtests.bench.client import ask, encode
from loadtests.bench.facts import user_id
from loadtests.bench.gateways import LOADED_AT_ONCE, Gateways, clients
from loadtests.bench.table import RESULTS, machine
from loadtests.micro.spent import ROLE, Spent, server_cpu_s, spent, spent_by_role
from tests.deploy.files import redis_settings

REPORT = RESULTS / "units.json"
PLACE = {"bind", "port", "dir", "protected-mode"}
"""The options of a test server."""
APP = "default"
USERS, SHORT_LIST, LONG_LIST, LONG_LISTS = 50_000, 25, 1_000, 50
WRITES, WRITERS, HTTP_WRITES, HTTP_CONNECTIONS = 20_000, 512, 2_000, 50
SESSIONS, RENEWALS, RENEWALS_AT_ONCE = 12_000, 2_000, 100
PUBLISHED, SUBSCRIBERS = 10_000, 8
ROUNDS = 3
WITHIN_S = 60.0
DEADLINE_MS = 60_000


class Unit(NamedTuple):
    """One row: the cost of one unit."""

    row: str
    what: str
    value: float
    unit: str

    def as_row(self) -> dict[str, Any]:
        return {**self._asdict(), "value": float(f"{self.value:.4g}"), "measured": f"{self.value:.4g} {self.unit}"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flavor", default="redis-7")
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    rows = [unit.as_row() for unit in measured(options.flavor, options.scale)]
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "server": options.flavor,
        "load_average": round(os.getloadavg()[1], 1),
        "rows": rows,
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    for row in rows:
        print(f"{row['row']}: {row['what']}: {row['measured']}")


def measured(flavor: Flavor, scale: float) -> Iterator[Unit]:
    """All rows."""
    settings = [word for name, value in redis_settings() if name not in PLACE for word in (f"--{name}", value or "")]
    with tempfile.TemporaryDirectory(prefix="gate-units-") as folder:
        server = RedisServer.start(flavor, Path(folder) / "server", aof=True, extra=settings)
        try:
            yield from asyncio.run(_in_memory(server, scale))
            server.client.flushall()
            node = GateService.start(Path(folder) / "node", redis_url=server.url)
            try:
                yield from asyncio.run(_of_a_write(server, node, scale))
                yield from _of_a_connect(server, node, scale)
            finally:
                node.stop()
        finally:
            server.stop()


async def _in_memory(server: RedisServer, scale: float) -> list[Unit]:
    store = await Store.connect(server.url, deadline_ms=DEADLINE_MS)
    try:
        now_ms, many = wall_ms(), round(USERS * scale)

        async def register() -> None:
            async with store.bulk(APP, now_ms) as bulk:
                for number in range(many):
                    await bulk.register(user_id(number), f"Name {number}")
                await bulk.flush()

        async def fill(owners: range, entries: int) -> None:
            async with store.bulk(APP, now_ms) as bulk:
                for owner in owners:
                    members = [user_id((owner * 7 + place * 101) % 100_000_000) for place in range(entries)]
                    await bulk.add(ListKind.BLACKLIST, user_id(owner), members)
                await bulk.flush()

        short, long_ = round(many / SHORT_LIST), max(1, round(LONG_LISTS * scale))
        user = await _bytes_of(server, store, register)
        in_short = await _bytes_of(server, store, lambda: fill(range(short), SHORT_LIST))
        in_long = await _bytes_of(server, store, lambda: fill(range(many, many + long_), LONG_LIST))
    finally:
        await store.aclose()
    return [
        Unit("user-memory", "Redis memory of a registered User with a name", user / many, "B"),
        Unit("entry-memory-short", f"Redis memory of an entry in a list of {SHORT_LIST}",
             in_short / short / SHORT_LIST, "B"),
        Unit("entry-memory-long", f"Redis memory of an entry in a list of {LONG_LIST:,}",
             in_long / long_ / LONG_LIST, "B"),
    ]  # fmt: skip


async def _bytes_of(server: RedisServer, store: Store, load: Callable[[], Awaitable[None]]) -> float:
    before = _used_bytes(server, store)
    await load()
    return _used_bytes(server, store) - before


def _used_bytes(server: RedisServer, store: Store) -> float:
    for partition in range(store.partitions):
        server.client.xtrim(keys.log(partition), maxlen=0, approximate=False)
    memory = server.client.info("memory")
    others = sum(int(memory.get(name, 0)) for name in ("mem_clients_normal", "mem_aof_buffer"))
    return float(int(memory["used_memory"]) - others)


async def _of_a_write(server: RedisServer, node: GateService, scale: float) -> list[Unit]:
    store = await Store.connect(server.url, deadline_ms=DEADLINE_MS)
    many, app = round(WRITES * scale), node.credentials.app_key
    try:
        return [
            *await _of_following(server, store, node, many),
            Unit("changelog-memory", "Redis memory of a Change in the Changelog",
                 _memory_an_entry(server, [keys.log(partition) for partition in range(store.partitions)]), "B"),
            Unit("audit-memory", "Redis memory of a list write in the audit, with an actor of 5 bytes",
                 _memory_an_entry(server, [keys.audit(partition, app) for partition in range(store.partitions)]), "B"),
            Unit("change-wire-bytes", "a Change as a node reads it", _bytes_on_wire(server, keys.log(0)), "B"),
            Unit("announcement-redis-cpu", f"Redis CPU of an announcement to one subscriber, of {SUBSCRIBERS}",
                 min([await _publish(server, round(PUBLISHED * scale)) for _ in range(ROUNDS)]) * 1e6, "us"),
            Unit("write-http-cpu", f"CPU of the HTTP role a blacklist/add, {HTTP_CONNECTIONS} connections",
                 min([await _http_write_s(node, round(HTTP_WRITES * scale), one) for one in range(ROUNDS)]) * 1e6, "us"),
        ]  # fmt: skip
    finally:
        await store.aclose()


async def _of_following(server: RedisServer, store: Store, node: GateService, many: int) -> list[Unit]:
    """Writes while the node follows them, and writes that it reads only after all of them."""
    heard = 0

    def hear(_: Any) -> None:
        nonlocal heard
        heard += 1

    costs: list[tuple[Spent, float]] = []
    most_heard, batch = 0.0, 0.0
    async with _listening(server, keys.APPLIED_CHANNEL, 1, hear):
        for round_ in range(ROUNDS):
            file_bytes, applied, before, heard = _file_bytes(server), _applied(node), spent(server, node), 0
            began_s = time.monotonic()
            await _write(store, node.credentials.app_key, many, round_)
            await _wait_applied(node, applied + many)
            most_heard, batch = max((most_heard, batch), (heard / (time.monotonic() - began_s), many / max(1, heard)))
            costs.append((spent(server, node).since(before), _file_bytes(server) - file_bytes))
    apart = [await _apart(server, store, node, many, ROUNDS + round_) for round_ in range(ROUNDS)]
    alone, catching_up = min(one.server for one, _ in apart), min(one.server for _, one in apart)
    together = min(cost.server for cost, _ in costs)
    replicator = min(cost.roles["replicator"] for cost, _ in costs)
    behind = min(one.roles["replicator"] for _, one in apart)
    return [
        Unit("write-redis-cpu", f"Redis CPU of a list write, {WRITERS} writers, no node", alone / many * 1e6, "us"),
        Unit("follower-redis-cpu", "Redis CPU of a Change, for each node that reads it",
             max(together - alone, catching_up) / many * 1e6, "us"),
        Unit("change-replicator-cpu", "CPU of a node's replicator a Change, as they come", replicator / many * 1e6, "us"),
        Unit("change-catching-up-cpu", "CPU of a node's replicator a Change, where many wait", behind / many * 1e6, "us"),
        Unit("changes-a-batch", "Changes that a node applied between two announcements, as they came",
             batch, "Changes"),
        Unit("write-file-bytes", "append-only file and replication stream, a list write",
             min(size for _, size in costs) / many, "B"),
        Unit("announcements", "announcements of a node while Changes arrive without a pause", most_heard, "/s"),
    ]  # fmt: skip


async def _apart(server: RedisServer, store: Store, node: GateService, many: int, round_: int) -> tuple[Spent, Spent]:
    """Writes while the replicator stands still, and then the replicator's reading and applying of them."""
    (replicator,) = [one.pid for one in family(node.pid) if f"{ROLE} replicator" in one.command]
    applied, before = _applied(node), spent(server, node)
    os.kill(replicator, signal.SIGSTOP)
    try:
        await _write(store, node.credentials.app_key, many, round_)
    finally:
        written = spent(server, node)
        os.kill(replicator, signal.SIGCONT)
    await _wait_applied(node, applied + many)
    return written.since(before), spent(server, node).since(written)


async def _wait_applied(node: GateService, changes: float) -> None:
    await wait_until_async(lambda: _applied(node) >= changes, WITHIN_S, "the node to have applied the writes")


async def _write(store: Store, app: str, many: int, round_: int) -> None:
    """Each adds one entry to a list; so many are under way at a time."""

    async def writer(first: int) -> None:
        for number in range(first, many, WRITERS):
            member = user_id(number + many * (round_ + 1))
            await store.lists.add(
                app, ListKind.BLACKLIST, user_id(number), [member], FOREVER_MS, wall_ms(), None, "", "units"
            )

    await asyncio.gather(*(writer(first) for first in range(WRITERS)))


async def _http_write_s(node: GateService, many: int, round_: int) -> float:
    """Seconds of the HTTP role's processor time a write."""
    import aiohttp  # the client's own time is not in the figure

    known = node.credentials
    before = spent_by_role(node)["http"]
    connector = aiohttp.TCPConnector(limit=HTTP_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def caller(first: int) -> None:
            for number in range(first, many, HTTP_CONNECTIONS):
                form = {"userId": f"h{round_}-{number}", "blackUserId": f"b{number}"}
                headers = signature_headers(known.app_key, known.app_secret)
                async with session.post(f"{node.http}/user/blacklist/add.json", data=form, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        await asyncio.gather(*(caller(first) for first in range(HTTP_CONNECTIONS)))
    return (spent_by_role(node)["http"] - before) / many


async def _publish(server: RedisServer, many: int) -> float:
    """Seconds of Redis's processor time a message and subscriber, beyond those of a message without subscribers."""
    packed = pack_announcement(Announcement("node-with-a-name", {}, "0123456789abcdef", "0123456789abcdef"))
    channel = b"gate:units"

    def publish() -> float:
        began_s = server_cpu_s(server)
        with server.client.pipeline(transaction=False) as pipeline:
            for _ in range(many):
                pipeline.publish(channel, packed)
            pipeline.execute()
        return server_cpu_s(server) - began_s

    heard = 0

    def hear(_: Any) -> None:
        nonlocal heard
        heard += 1

    alone = await asyncio.to_thread(publish)
    async with _listening(server, channel, SUBSCRIBERS, hear):
        together = await asyncio.to_thread(publish)
        await wait_until_async(lambda: heard >= many * SUBSCRIBERS, WITHIN_S, "all messages to arrive")
    return max(together - alone, 0.0) / many / SUBSCRIBERS


@asynccontextmanager
async def _listening(
    server: RedisServer, channel: bytes, many: int, hear: Callable[[Any], None]
) -> AsyncIterator[None]:
    """So many subscribers."""
    client = redis.asyncio.Redis(host=LOOPBACK, port=server.port)
    listeners = [client.pubsub(ignore_subscribe_messages=True) for _ in range(many)]
    for listener in listeners:
        await listener.subscribe(channel)

    async def listen(listener: Any) -> None:
        async for message in listener.listen():
            if message is not None:
                hear(message)

    tasks = [asyncio.create_task(listen(listener)) for listener in listeners]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in listeners:
            await listener.aclose()
        await client.aclose()


def _of_a_connect(server: RedisServer, node: GateService, scale: float) -> Iterator[Unit]:
    known = node.credentials
    many = max(LOADED_AT_ONCE, round(SESSIONS * scale) // LOADED_AT_ONCE * LOADED_AT_ONCE)
    gate, name = Gateways(node), b"edge-units"
    connection = gate.connect(name)
    try:
        renewals = [_renewals_s(server, connection, gate, name, round(RENEWALS * scale)) for _ in range(ROUNDS)]
        costs, reads = [], []
        for round_ in range(ROUNDS):
            everyone = clients(known.app_key, known.app_secret, many, f"round{round_}-")
            before = spent(server, node)
            for at in range(0, many, LOADED_AT_ONCE):
                gate.load(connection, name, everyone[at : at + LOADED_AT_ONCE])
            costs.append(spent(server, node).since(before))
            reads.append(asyncio.run(_session_reads_s(server, known.app_key, [one.user for one in everyone])))
            gate.renew(connection, name)
        feed = presence_keys.feed(known.app_key)
        of_feed = _memory_an_entry(server, [feed])
        on_wire = _bytes_on_wire(server, feed)
    finally:
        connection.close()
    yield Unit("connect-redis-cpu", "Redis CPU of a connect", min(cost.server for cost in costs) / many * 1e6, "us")
    workers = min(cost.roles["worker"] for cost in costs)
    yield Unit("connect-worker-cpu", "CPU of a node's worker a connect, over RESP", workers / many * 1e6, "us")
    yield Unit("renewal-redis-cpu", "Redis CPU of a renewal of a lease without Sessions", min(renewals) * 1e6, "us")
    yield Unit("session-read-redis-cpu", "Redis CPU of a User's Sessions, 200 Users a call", min(reads) * 1e6, "us")
    yield Unit("feed-memory", "Redis memory of an entry of the feed", of_feed, "B")
    yield Unit("feed-wire-bytes", "an entry of the feed as it is read", on_wire, "B")


async def _session_reads_s(server: RedisServer, app: str, users: list[bytes]) -> float:
    store = PresenceStore(client_of(parse_address(server.url), DEADLINE_MS, DEADLINE_MS))
    before = server_cpu_s(server)
    try:
        for at in range(0, len(users), RECOVERED_AT_ONCE):
            await store.presences(app, users[at : at + RECOVERED_AT_ONCE])
    finally:
        await store.client.aclose()
    return (server_cpu_s(server) - before) / len(users)


def _renewals_s(server: RedisServer, connection: socket.socket, gate: Gateways, name: bytes, many: int) -> float:
    """A whole fleet's renewals come together, too."""
    before = server_cpu_s(server)
    for _ in range(0, many, RENEWALS_AT_ONCE):
        ask(connection, gate.renewal(name) * RENEWALS_AT_ONCE, RENEWALS_AT_ONCE)
    return (server_cpu_s(server) - before) / many


def _memory_an_entry(server: RedisServer, streams: Sequence[bytes]) -> float:
    used = sum(int(server.client.memory_usage(stream, samples=0) or 0) for stream in streams)
    return used / sum(int(server.client.xlen(stream)) for stream in streams)


def _bytes_on_wire(server: RedisServer, stream: bytes) -> float:
    """Of an entry, as a reader receives it."""
    with socket.create_connection((LOOPBACK, server.port), WITHIN_S) as connection:
        entries, received = ask(connection, encode("XREVRANGE", stream, "+", "-", "COUNT", 500), 1)
    return len(received) / len(entries[0])


def _file_bytes(server: RedisServer) -> float:
    return float(server.client.info("persistence")["aof_current_size"])


def _applied(node: GateService) -> float:
    """Changes that the node has applied, by its metrics."""
    lines = requests.get(f"{node.http}/metrics", timeout=WITHIN_S).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("gate_replica_applied_total "))


if __name__ == "__main__":
    main()
