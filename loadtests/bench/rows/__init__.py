"""The rows of the report, one file a subject. Each takes the bed and gives the rows it measured."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.bench.bed import Bed
from loadtests.bench.rows import (
    acks,
    batches,
    checks,
    crosscheck,
    drain,
    fairness,
    fairness_http,
    gateway_death,
    http_checks,
    in_process,
    presence,
    replica_files,
    round_trip,
    storm,
    tail,
    user_calls,
    websockets,
)
from loadtests.bench.table import Row

ROWS: dict[str, Callable[[Bed], list[Row]]] = {
    "checks": checks.measure,
    "before": checks.measure_before,
    "roundtrip": round_trip.measure,
    "fairness": fairness.measure,
    "fairness-http": fairness_http.measure,
    "may-send": in_process.measure_may_send,
    "mcheck": batches.measure_mcheck,
    "http-check": http_checks.measure_get,
    "http-batch": http_checks.measure_batch,
    "size": replica_files.measure_size,
    "snapshot": replica_files.measure_snapshot,
    "restart": replica_files.measure_restart,
    "ack": acks.measure,
    "tail": tail.measure,
    "pauses": tail.measure_pauses,
    "user-calls": user_calls.measure,
    "presence-churn": presence.measure_churn,
    "presence": presence.measure_heartbeats,
    "gateway-death": gateway_death.measure,
    "websockets": websockets.measure_held,
    "websocket-kicks": websockets.measure_kicks,
    "websocket-storm": storm.measure,
    "websocket-drain": drain.measure,
    "redis-benchmark": crosscheck.measure,
    "postgres": checks.measure_postgres,
    "casbin": in_process.measure_casbin,
    "cedarpy": in_process.measure_cedar,
}
"""By the name that `--only` takes, in the order in which they run."""
