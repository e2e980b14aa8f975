"""Many checks in one request: `GATE.MCHECK` over RESP, and `POST /v1/check` over HTTP."""

from __future__ import annotations

import base64
import json
import time
from statistics import median
from typing import Any

from loadtests.bench.bed import Bed
from loadtests.bench.client import Batch, Peer, ask, run
from loadtests.bench.http import http_connection, post
from loadtests.bench.pairs import Pair
from loadtests.bench.systems import encoded, prepare
from loadtests.bench.table import Row

RECIPIENTS = 100
GROUPS = 1_000
CONNECTIONS = 50
LEAST_MCHECK_RATIO = 2.0
HTTP_PAIRS = 1_000
HTTP_BODIES = 50
LEAST_HTTP_PAIRS_PER_S = 300_000


def measure_mcheck(bed: Bed) -> list[Row]:
    """The same pairs as groups of 100 and as single checks in pipelines of 100."""
    recipients = [recipient for _, recipient in bed.pairs("uniform")]
    groups = min(GROUPS, len(recipients) // RECIPIENTS)
    many: list[Batch] = []
    singles: list[Pair] = []
    with bed.gate.connect() as connection:
        for group in range(groups):
            sender = bed.pairs("uniform")[group][0]
            these = recipients[group * RECIPIENTS : (group + 1) * RECIPIENTS]
            request = bed.gate.many_request(sender, these)
            _, size = ask(connection, request, 1)
            many.append(Batch(request, size, RECIPIENTS))
            singles += [(sender, recipient) for recipient in these]
    one_by_one, _ = prepare(bed.gate, encoded(bed.gate, singles), RECIPIENTS)
    grouped_rates, single_rates = [], []
    for _ in range(bed.options.rounds):
        grouped_rates.append(run(bed.gate.connect, many, CONNECTIONS, bed.options.seconds).checks_per_s)
        single_rates.append(run(bed.gate.connect, one_by_one, CONNECTIONS, bed.options.seconds).checks_per_s)
    ratio = median(grouped_rates) / median(single_rates)
    return [
        Row(
            "mcheck",
            "GATE.MCHECK of 100 recipients, pairs/s, against single checks in pipelines of 100",
            f">= {LEAST_MCHECK_RATIO} x",
            f"{ratio:.2f} x ({median(grouped_rates):,.0f} to {median(single_rates):,.0f})",
            ratio >= LEAST_MCHECK_RATIO,
        )
    ]


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
