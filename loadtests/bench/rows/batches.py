"""Many checks in one request: `GATE.MCHECK` over RESP, and `POST /v1/check` over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from loadtests.bench.bed import Bed
from loadtests.bench.client import Peer, ask
from loadtests.bench.http import http_connection, post
from loadtests.bench.load import Script, write_script
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row
from loadtests.bench.turns import Bound, compared, in_turn, judged, summary

RECIPIENTS = 100
GROUPS = 1_000
CONNECTIONS = 50
LEAST_MCHECK_RATIO = 3.0
ONE_BY_ONE = "single checks in pipelines of 100"
HTTP_PAIRS = 1_000
HTTP_BODIES = 50
LEAST_HTTP_PAIRS_PER_S = 300_000


def measure_mcheck(bed: Bed) -> list[Row]:
    """The same pairs as groups of 100: of Gate, and of Gate without the compiled core; and as pipelines of 100 checks."""
    recipients = [recipient for _, recipient in bed.pairs("uniform")]
    senders = [sender for sender, _ in bed.pairs("uniform")]
    many = min(GROUPS, len(recipients) // RECIPIENTS)
    groups = [(senders[nth], recipients[nth * RECIPIENTS : (nth + 1) * RECIPIENTS]) for nth in range(many)]
    with bed.without_core() as python:
        scripts = {system.name: _grouped(bed, system, groups) for system in (bed.gate, python)}
        scripts[ONE_BY_ONE] = bed.prepared(bed.gate, "uniform", many * RECIPIENTS)[0]
        loads = in_turn(bed, scripts, RECIPIENTS, CONNECTIONS)
    what = f"GATE.MCHECK of {RECIPIENTS} recipients, pairs/s, {CONNECTIONS} connections"
    singles = {ONE_BY_ONE: compared(loads, bed.gate.name, ONE_BY_ONE)}
    return [
        judged(
            "mcheck",
            f"{what}, against Gate without its compiled core",
            loads,
            bed.gate.name,
            Bound(RECIPIENTS, python.name, LEAST_MCHECK_RATIO),
            {"systems": {name: summary(these) for name, these in loads.items()}, **singles},
        )
    ]


def _grouped(bed: Bed, system: GateSystem, groups: Sequence[tuple[bytes, list[bytes]]]) -> Script:
    requests = [system.many_request(*group) for group in groups]
    with system.connect() as connection:
        exchanges = [(request, ask(connection, request, 1)[1]) for request in requests]
    path = bed.folder / f"{system.name.replace(' ', '-')}-mcheck.script"
    return write_script(path, system.target, exchanges, 1 / RECIPIENTS)


def measure_http(bed: Bed) -> list[Row]:
    """One connection, one request at a time."""
    requests = _http_requests(bed)
    rates = []
    for _ in range(bed.options.rounds):
        with http_connection(bed.node) as connection:
            started = time.perf_counter()
            sent = 0
            while (elapsed := time.perf_counter() - started) < bed.options.seconds:
                post(connection, requests[sent % len(requests)])
                sent += 1
            rates.append(sent * HTTP_PAIRS / elapsed)
    return [
        Row(
            "http-batch",
            "POST /v1/check of 1,000 pairs, pairs/s, one connection",
            f">= {LEAST_HTTP_PAIRS_PER_S:,}",
            f"{median(rates):,.0f}",
            median(rates) >= LEAST_HTTP_PAIRS_PER_S,
            {"rounds": [round(rate) for rate in rates]},
        )
    ]


def _http_requests(bed: Bed) -> list[bytes]:
    pairs = [(sender.decode(), recipient.decode()) for sender, recipient in bed.pairs("uniform")]
    credentials = bed.node.credentials
    secret = base64.b64encode(f"{credentials.app_key}:{credentials.app_secret}".encode()).decode()
    requests = []
    for nth in range(min(HTTP_BODIES, len(pairs) // HTTP_PAIRS)):
        body = json.dumps({"pairs": pairs[nth * HTTP_PAIRS : (nth + 1) * HTTP_PAIRS]}, separators=(",", ":")).encode()
        head = (
            f"POST /v1/check HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic {secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    _expect_verdicts(bed, requests[0])
    return requests


def _expect_verdicts(bed: Bed, request: bytes) -> None:
    with http_connection(bed.node) as connection:
        answer: dict[str, Any] = json.loads(post(connection, request))
    if len(answer.get("verdicts", ())) != HTTP_PAIRS:
        raise Peer(f"POST /v1/check answered {answer}")
