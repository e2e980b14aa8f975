"""A node stops with thousands of WebSockets: each gets the time to reconnect, and all processes end in the drain's time."""

from __future__ import annotations

import os
import signal
import time
from statistics import median

from gate.config import OPTIONS
from gate.core.closing import ENDINGS
from harness.service import GateService
from loadtests.bench.apart import CLIENTS_NICE
from loadtests.bench.bed import Bed
from loadtests.bench.crowd import Crowd
from loadtests.bench.gateways import clients
from loadtests.bench.rows.websockets import websockets
from loadtests.bench.table import Row

STOPPED_WITHIN_S = 60.0
KILLED = "killed: it did not stop in time"
"""The supervisor's log line for a process that it had to kill."""


def measure(bed: Bed) -> list[Row]:
    """One row, on a node of its own, which has stopped afterwards."""
    most_s, code = float(OPTIONS["drain_timeout"].default or 0), ENDINGS["shutting-down"].code
    node, many = GateService.start(bed.folder / "drain", workers=1), websockets(bed)
    try:
        credentials = node.credentials
        with Crowd(node, clients(credentials.app_key, credentials.app_secret, many)) as crowd:
            crowd.come()
            crowd.watch()
            began_s = time.monotonic()
            os.kill(node.pid, signal.SIGTERM)
            node.wait_exit(STOPPED_WITHIN_S)
            took_s = time.monotonic() - began_s
            closed_s = [one.at_s - began_s for one in crowd.look().closed if one.code == code]
    finally:
        node.stop()
    killed = node.output.count(KILLED)
    return [
        Row(
            "websocket-drain",
            f"SIGTERM to a node with {many:,} WebSockets: closed with {code}, of its roles killed, until all has ended",
            f"all closed so, none killed, <= {most_s:g} s",
            f"{len(closed_s):,} closed so, {killed} killed, {took_s:.1f} s",
            len(closed_s) == many and not killed and took_s <= most_s,
            {
                "half_closed_s": median(closed_s or [0.0]),
                "all_closed_s": max(closed_s, default=0.0),
                "clients_nice": CLIENTS_NICE,
            },
        )
    ]
