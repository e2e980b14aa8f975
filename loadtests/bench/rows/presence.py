"""Presence at the rate a reconnect storm brings, through the RESP port, Redis included: Sessions, heartbeats, reads, memory.

A node of its own on a Valkey of its own, its append-only file on, so that what is counted there is Presence and nothing else.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from gate.core.presence import LEASE_TTL_MS
from gate.store import presence_keys
from gate.store.slicing import MAX_ROWS_A_SCRIPT
from harness.servers import RedisServer
from harness.waiting import wait_until
from loadtests.bench.bed import Bed, create_app
from loadtests.bench.client import ask, encode
from loadtests.bench.gateways import LOADED_AT_ONCE, BareScripts, Churn, Client, Gateways, churn_rate, clients
from loadtests.bench.load import run, write_script
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row

USERS_AT_SCALE_1 = 100_000
LEAST_USERS = 1_000
LINES = 4
PIPELINE = 256
LEAST_CHURN_PER_S = 20_000
LEAST_OF_BARE = 0.5
BARE_APP = "bare"
ROUNDS_A_TURN = 3
"""So many seconds, where others take one: departures are announced a second later, which is to be under the clock too."""

GATEWAYS = 4
BEATS = 21
MOST_WRITES_A_BEAT = 4
BEATS_A_LEASE = 3
"""A Gateway renews once a third of its lease."""
WATCHED_S = 2.0

ASKED = 100
ASKING = 10
LEAST_ONLINE_PER_S = 200_000
MOST_BYTES_A_SESSION = 250


def measure_churn(bed: Bed) -> list[Row]:
    """Systems take turns; each Session is opened, answered, closed, answered.

    Gate has one script open or close what came together, so it is held against the script alone at its best too: called for as
    many at a time, by a client that has nothing else to do.
    """
    everyone = everyone_of(bed)
    gate, store = Gateways(bed.presence), bed.presence_store
    together = {f"{BARE_APP}-{many}": many for many in (1, MAX_ROWS_A_SCRIPT)}
    for app_key in together:
        create_app(bed.presence, app_key, "--key", app_key)  # Presence of what is no App is dropped
    bare = [BareScripts(store, app_key, everyone, many) for app_key, many in together.items()]
    systems: list[Churn] = [gate, *bare]
    rates: dict[str, list[float]] = {system.name: [] for system in systems}
    for _ in range(bed.options.rounds):
        for system in systems:
            settled(store)  # so that each has only its own departures announced meanwhile
            seconds = ROUNDS_A_TURN * bed.options.seconds
            rates[system.name].append(churn_rate(system, everyone, LINES, PIPELINE, seconds))
    for system in bare:
        system.forget()
    ours = median(rates[gate.name])
    shares = {system.name: ours / median(rates[system.name]) for system in bare}
    return [
        Row(
            "presence-churn",
            f"connects and disconnects a second, {LINES} Gateways, pipeline {PIPELINE}, against bare EVALSHA",
            f">= {LEAST_CHURN_PER_S:,}/s and {LEAST_OF_BARE} x",
            f"{ours:,.0f}/s, " + ", ".join(f"{share:.2f} x {name}" for name, share in shares.items()),
            ours >= LEAST_CHURN_PER_S and min(shares.values()) >= LEAST_OF_BARE,
            {name: [round(rate) for rate in some] for name, some in rates.items()},
        )
    ]


def measure_heartbeats(bed: Bed) -> list[Row]:
    """Writes that a round of renewals makes, without Sessions and with all of them; and what memory a Session takes."""
    gate, server = Gateways(bed.presence), bed.presence_store
    everyone = everyone_of(bed)
    names = [b"beat-%d" % nth for nth in range(GATEWAYS)]
    connections = [gate.connect(name) for name in names]
    settled(server)
    try:
        empty = [_writes_of_a_beat(gate, server, connections, names) for _ in range(BEATS)]
        # What came before filled it: then each new entry would take the place of an old one, and cost nothing.
        server.client.xtrim(presence_keys.feed(bed.presence.credentials.app_key), maxlen=0, approximate=False)
        before = _used_bytes(server)
        share = len(everyone) // GATEWAYS
        for at in range(0, share, LOADED_AT_ONCE):
            for nth, (connection, name) in enumerate(zip(connections, names, strict=True)):
                gate.renew(connection, name)  # on a slow machine all this takes longer than a lease
                some = everyone[nth * share : (nth + 1) * share]
                gate.load(connection, name, some[at : at + LOADED_AT_ONCE])
        settled(server)
        bytes_each = (_used_bytes(server) - before) / (share * GATEWAYS)
        full = [_writes_of_a_beat(gate, server, connections, names) for _ in range(BEATS)]
        others_per_s = _writes_meanwhile(server) / WATCHED_S
        reads = _online_rate(bed, everyone)
    finally:
        for connection in connections:
            connection.close()
    return [
        _beats_row(median(empty), median(full), others_per_s, share * GATEWAYS),
        _memory_row(bytes_each, share * GATEWAYS),
        reads,
    ]


def _beats_row(empty: float, full: float, others_per_s: float, sessions: int) -> Row:
    return Row(
        "presence",
        f"Redis writes of {GATEWAYS} Gateways with {sessions:,} Sessions, a renewal (3 a lease of {LEASE_TTL_MS // 1_000} s)",
        f"<= {MOST_WRITES_A_BEAT}, whatever the Users",
        f"{full:.0f} ({full * BEATS_A_LEASE:.0f} a lease), {empty:.0f} without Sessions",
        full <= MOST_WRITES_A_BEAT and full == empty,
        {"all_other_writes_per_s": others_per_s},
    )


def _memory_row(bytes_each: float, sessions: int) -> Row:
    return Row(
        "presence",
        f"Redis memory of a Session and its entry in the feed, {sessions:,} of them",
        f"<= {MOST_BYTES_A_SESSION} B",
        f"{bytes_each:.0f} B",
        bytes_each <= MOST_BYTES_A_SESSION,
    )


def _online_rate(bed: Bed, everyone: list[Client]) -> Row:
    system = GateSystem(bed.presence, bed.presence.credentials)
    users = [one.user for one in everyone]
    requests = [encode("GATE.ONLINE", *users[at : at + ASKED]) for at in range(0, len(users) - ASKED + 1, ASKED)]
    with system.connect() as connection:
        exchanges = [(request, ask(connection, request, 1)[1]) for request in requests]
    script = write_script(bed.folder / "online.script", system.target, exchanges, 1 / ASKED)
    rates = [run(bed.load_client, script, ASKED, ASKING, bed.options.seconds) for _ in range(bed.options.rounds)]
    per_s = median(rate.per_s for rate in rates)
    return Row(
        "presence",
        f"GATE.ONLINE of {ASKED} Users, Users/s, {ASKING} connections",
        f">= {LEAST_ONLINE_PER_S:,}",
        f"{per_s:,.0f}, p99 {median(rate.p99_us for rate in rates) / 1_000:.1f} ms",
        per_s >= LEAST_ONLINE_PER_S,
        {"rounds": [round(rate.per_s) for rate in rates]},
    )


def everyone_of(bed: Bed) -> list[Client]:
    credentials = bed.presence.credentials
    many = max(LEAST_USERS, round(USERS_AT_SCALE_1 * bed.options.scale))
    return clients(credentials.app_key, credentials.app_secret, many)


def _writes_of_a_beat(gate: Gateways, server: RedisServer, connections: list[Any], names: list[bytes]) -> int:
    """Within these few ms hardly anything else writes; the median of many leaves it out."""
    before = _writes(server)
    for connection, name in zip(connections, names, strict=True):
        gate.renew(connection, name)
    return _writes(server) - before


def _writes_meanwhile(server: RedisServer) -> int:
    before = _writes(server)
    until = time.monotonic() + WATCHED_S
    wait_until(lambda: time.monotonic() >= until, WATCHED_S * 2, "the watch to end")
    return _writes(server) - before


def _writes(server: RedisServer) -> int:
    """Commands that write, those inside scripts too, since the server started."""
    stats = server.client.info("commandstats")
    return sum(int(one["calls"]) for name, one in stats.items() if name.removeprefix("cmdstat_") in _writing(server))


def _writing(server: RedisServer) -> frozenset[str]:
    if server.port not in _WRITING:
        commands = server.client.command()
        _WRITING[server.port] = frozenset(name for name, about in commands.items() if "write" in about["flags"])
    return _WRITING[server.port]


_WRITING: dict[int, frozenset[str]] = {}


def settled(server: RedisServer) -> None:
    """Until no departure is being announced or swept any more."""
    wait_until(lambda: not server.client.keys("gate:{*}:leaving"), 60.0, "departures to be announced")


def _used_bytes(server: RedisServer) -> int:
    # What clients and the append-only file buffer is gone a moment later, and no Session's.
    memory = server.client.info("memory")
    return int(memory["used_memory"]) - int(memory.get("mem_clients_normal", 0)) - int(memory.get("mem_aof_buffer", 0))
