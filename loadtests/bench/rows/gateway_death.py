"""A Gateway with very many Sessions dies: how long its sweep takes once the lease has ended, and what checks take meanwhile."""

from __future__ import annotations

import os
import time

from gate.core.presence import LEASE_TTL_MS
from gate.store import presence_keys
from harness.service import GateService
from harness.waiting import wait_until
from loadtests.bench.bed import Bed
from loadtests.bench.gateways import LOADED_AT_ONCE, Client, Gateways
from loadtests.bench.paced import PacedChecks, p99_ms, pace, slowest_ms
from loadtests.bench.rows.presence import everyone_of, settled
from loadtests.bench.table import Row

NAME = b"doomed"
REST_S = 3.0
MOST_SWEEP_S = 10.0
"""A few seconds, on a busy machine too; none of these Sessions is live meanwhile."""
MOST_CHECK_MS = 100
"""Slower than that, checks would have stopped; others share the cores, so a few wait for one."""
WITHIN_S = 120.0


def measure(bed: Bed) -> list[Row]:
    """One row."""
    node, client = bed.presence, bed.presence_store.client
    everyone, sessions = everyone_of(bed), presence_keys.sessions(node.credentials.app_key)
    settled(bed.presence_store)
    with PacedChecks(node, pace(bed.options.seconds)) as checks:
        _come_and_die(Gateways(node), everyone)
        rest_s, busy_before, announced = time.monotonic(), os.getloadavg()[0], _newest(node)
        wait_until(lambda: time.monotonic() >= rest_s + REST_S, WITHIN_S, "a look at checks at rest")
        wait_until(lambda: client.hlen(sessions) < len(everyone), WITHIN_S, "the lease to end")
        began_s = time.monotonic()
        wait_until(lambda: client.hlen(sessions) == 0, WITHIN_S, "the sweep to end")
        swept_s = time.monotonic() - began_s
        settled(bed.presence_store)
        announced = _newest(node) - announced
        at_rest = checks.took_between(rest_s, rest_s + REST_S)
        took_ns = checks.took_between(began_s, time.monotonic())
    slowest = slowest_ms(took_ns)
    return [
        Row(
            "gateway-death",
            f"a Gateway with {len(everyone):,} Sessions dies: its sweep once the lease of {LEASE_TTL_MS // 1_000} s has ended, "
            f"checks at {checks.per_s:,}/s until all departures are delivered",
            f"<= {MOST_SWEEP_S:.0f} s, no check > {MOST_CHECK_MS} ms, each delivered once",
            f"{swept_s:.1f} s; {slowest:.1f} ms (at rest {slowest_ms(at_rest):.1f}); {announced:,} delivered",
            swept_s <= MOST_SWEEP_S and slowest <= MOST_CHECK_MS and announced == len(everyone),
            {
                "checks": len(took_ns),
                "p99_check_ms": p99_ms(took_ns),
                "p99_check_at_rest_ms": p99_ms(at_rest),
                "load_average_before": busy_before,
            },
        )
    ]


def _come_and_die(gateways: Gateways, everyone: list[Client]) -> None:
    with gateways.connect(NAME) as connection:
        for at in range(0, len(everyone), LOADED_AT_ONCE):
            gateways.renew(connection, NAME)
            gateways.load(connection, NAME, everyone[at : at + LOADED_AT_ONCE])


def _newest(node: GateService) -> int:
    """The number of the newest entry of the feed."""
    cursor: bytes = node.resp_client().execute_command("GATE.EVENTS", "$")[0]
    return int(cursor.split(b"-")[1])
