"""The costs of slices of Presence on one server: connects and renewals with 8 slices against 1, and how fast Users move.

    .venv/bin/python -m loadtests.micro.slices [--flavor redis-7|valkey-9] [--slices 8] [--users 20000] [--rounds 7]

One App with one slice and one with more, on one server, take turns. In each round all Users connect and disconnect in batches
as a worker makes them. No Token is verified. Medians of the rounds.

    per_s              connects a second, through one connection of one process
    redis_us, gate_us  CPU for a connect in the server, and in the process that asks
    renewal            scripts that one renewal of a lease runs, with all Users online
    moved_per_s        Users that one growth moves a second, while nothing else happens
    moved_redis_us     CPU for each of them in the server

One server has one thread: what is shown is that a slice costs no more than an App did, so that N slices on N servers carry N
times as much. One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gate.core.model import AppFacts
from gate.core.presence import SESSION_RANDOM_BYTES, session_id, session_parts
from gate.core.sessions import OpenSession
from gate.presence.gateway import MAX_CALLS_A_BATCH
from gate.store.presence import PresenceStore
from gate.store.slicing import SlicedCall
from harness.servers import RedisServer
from tests.presence.played import Gateway, presence_on, spread

ONE, MANY = (AppFacts(key=key, secrets=("s",)) for key in ("one", "many"))


class Spent(NamedTuple):
    """Of one round, for one connect: seconds, and CPU in microseconds."""

    seconds: float
    redis_us: float
    gate_us: float


async def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flavor", default="redis-7")
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer.start(options.flavor, Path(folder) / "redis")
        try:
            print(json.dumps(await _measured(server, options.slices, options.users, options.rounds), indent=2))
        finally:
            server.stop()


async def _measured(server: RedisServer, slices: int, many: int, rounds: int) -> dict[str, Any]:
    store = presence_on(server.url)
    users = [b"user-%d" % nth for nth in range(many)]
    gateways = {app.key: await Gateway(store, app).lease() for app in (ONE, MANY)}
    await spread(store, MANY.key, slices)
    spent: dict[str, list[Spent]] = {app.key: [] for app in (ONE, MANY)}
    for nth in range(rounds + 1):
        taken = await _round(server, store, list(gateways.values()), users)
        if nth:  # the first warms both up
            for key, of_app in taken.items():
                spent[key].append(of_app)
    found = {key: _shown(some) for key, some in spent.items()}
    renewals = {key: await _renewal(server, gateway, users) for key, gateway in gateways.items()}
    moved, began_s, redis_s = many * (slices - 1) / slices, time.monotonic(), _redis_cpu_s(server)
    await spread(store, ONE.key, slices)
    moving_s, redis_s = time.monotonic() - began_s, _redis_cpu_s(server) - redis_s
    await store.client.aclose()
    one, more = found[ONE.key], found[MANY.key]
    return {
        "server": server.flavor,
        "users": many,
        "slices": {"1": one | {"renewal": renewals[ONE.key]}, str(slices): more | {"renewal": renewals[MANY.key]}},
        "ratios": {
            "per_s": round(more["per_s"] / one["per_s"], 2),
            "redis_us": round(one["redis_us"] / more["redis_us"], 2),
            "gate_us": round(one["gate_us"] / more["gate_us"], 2),
        },
        "moved_per_s": round(moved / moving_s),
        "moved_redis_us": round(redis_s * 1e6 / moved, 1),
    }


async def _round(
    server: RedisServer, store: PresenceStore, gateways: Sequence[Gateway], users: Sequence[bytes]
) -> dict[str, Spent]:
    """All connect, which is measured, and disconnect; a batch of each App in turn, so that what else runs is alike for both."""
    ids = [(user, session_parts(session_id(os.urandom(SESSION_RANDOM_BYTES), user))[0]) for user in users]
    batches = [ids[at : at + MAX_CALLS_A_BATCH] for at in range(0, len(ids), MAX_CALLS_A_BATCH)]
    spent = {gateway.app.key: Spent(0, 0, 0) for gateway in gateways}
    for nth, some in enumerate(batches):
        for gateway in gateways if nth % 2 else reversed(gateways):
            redis_s, gate_s, began_s = _redis_cpu_s(server), time.process_time(), time.monotonic()
            await store.exchange(*(_opening(gateway, *one) for one in some))
            seconds, gate_s = time.monotonic() - began_s, time.process_time() - gate_s
            one = Spent(seconds, (_redis_cpu_s(server) - redis_s) * 1e6, gate_s * 1e6)
            spent[gateway.app.key] = Spent(*(map(sum, zip(spent[gateway.app.key], one, strict=True))))
    for gateway in gateways:
        under = gateway.app.key, gateway.name, gateway.epoch
        for some in batches:
            await store.exchange(*(store.closing(*under, *one, "closed") for one in some))
    return {key: Spent(*(part / len(users) for part in one)) for key, one in spent.items()}


def _opening(gateway: Gateway, user: bytes, stored_id: str) -> SlicedCall:
    one = OpenSession(gateway.app, gateway.name, gateway.epoch, user, stored_id, "iOS", "", 1, "e", 1)
    return gateway.store.opening(one)


async def _renewal(server: RedisServer, gateway: Gateway, users: Sequence[bytes]) -> int:
    for at in range(0, len(users), MAX_CALLS_A_BATCH):
        await gateway.open_many(list(users[at : at + MAX_CALLS_A_BATCH]))
    before = _scripts_run(server)
    await gateway.store.lease(gateway.app.key, gateway.name, gateway.epoch)
    return _scripts_run(server) - before


def _shown(spent: Sequence[Spent]) -> dict[str, Any]:
    return {
        "per_s": round(1 / statistics.median(one.seconds for one in spent)),
        "redis_us": round(statistics.median(one.redis_us for one in spent), 1),
        "gate_us": round(statistics.median(one.gate_us for one in spent), 1),
    }


def _redis_cpu_s(server: RedisServer) -> float:
    used = server.client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def _scripts_run(server: RedisServer) -> int:
    return int(server.client.info("commandstats")["cmdstat_evalsha"]["calls"])


if __name__ == "__main__":
    asyncio.run(main())
