"""Metrics: one table of objects with every name that /metrics exports, summed over all processes of the service.

Each process counts into memory-mapped files of its own (prometheus_client's multiprocess mode, switched on by
`PROMETHEUS_MULTIPROC_DIR`, which the supervisor sets before a role starts); the process that answers /metrics adds
them up. Counts of a dead process stay in the sum, in one file for all of them. Without that variable (tests, the CLI) the
objects count within the process.

Values on pages that other processes write (the Replica's status page) are read at the scrape, through `StatusSource`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# A write within the node takes about a millisecond, a wait that gives up one second.
_ACK_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
# A check takes some 20 us over HTTP and 5 us on the RESP port, a write waits a millisecond at most on an idle service;
# anything past a second is trouble.
HTTP_BUCKETS_S = (
    0.000005,
    0.00001,
    0.00002,
    0.00005,
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
)
# A kick within the machine takes some milliseconds. After seconds a banned User may have read messages.
_KICK_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


_STATES = "0 loading, 1 catching up, 2 current, 3 cut off, 4 reloading, 5 stopped."

CHECKS = Counter("gate_checks_total", "Decisions, by verdict.", ["verdict"])
CHECK_SECONDS = Histogram(
    "gate_check_seconds",
    "Time to answer checks that came together, by surface: one request of http, one in eight chunks read of resp.",
    ["surface"],
    buckets=HTTP_BUCKETS_S,
)
RESP_CONNECTIONS = Gauge("gate_resp_connections", "Open RESP connections.", multiprocess_mode="livesum")
NATIVE_WORKERS = Gauge(
    "gate_native_workers", "RESP workers whose checks the compiled core answers.", multiprocess_mode="livesum"
)
RESP_CONNECTIONS_OPENED = Counter("gate_resp_connections_opened_total", "RESP connections accepted.")
RESP_ERRORS = Counter("gate_resp_errors_total", "Commands on the RESP port that were answered with an error.")
HTTP_REQUESTS = Counter("gate_http_requests_total", "HTTP requests, by group of endpoints.", ["group", "status"])
HTTP_SECONDS = Histogram("gate_http_request_seconds", "Time to answer, by group.", ["group"], buckets=HTTP_BUCKETS_S)
AUTH_FAILURES = Counter("gate_auth_failures_total", "Failed attempts to sign in.", ["surface", "reason"])
SHADOW_DENIALS = Counter(
    "gate_shadow_denials_total", "Checks of Apps in shadow mode that were allowed and would be denied.", ["reason"]
)
SHADOW_APPS = Gauge(
    "gate_shadow_apps",
    "Apps in shadow mode, by environment: nothing of theirs is enforced.",
    ["environment"],
    multiprocess_mode="livemax",
)
ROLE_RESTARTS = Counter("gate_role_restarts_total", "Processes of the service that died and were restarted.", ["role"])
WRITE_APPLIED = Counter("gate_write_applied_total", "Gating writes, by how far they got in time.", ["applied"])
WRITE_DURABILITY_LATE = Counter(
    "gate_write_durability_late_total", "Gating writes that were not as durable in time as --durability asks."
)
LOST_FACTS = Gauge(
    "gate_lost_facts",
    "Facts that Redis lost, by the lists in this node's data directory.",
    multiprocess_mode="livemostrecent",
)
WRITE_ACK_SECONDS = Histogram("gate_write_ack_seconds", "Wait for the nodes to apply a write.", buckets=_ACK_BUCKETS_S)
WEBSOCKETS = Gauge("gate_websockets", "Open WebSockets of clients.", multiprocess_mode="livesum")
WEBSOCKETS_CLOSED = Counter("gate_websockets_closed_total", "WebSockets that ended, by why.", ["reason"])
WEBSOCKET_MESSAGES = Counter("gate_websocket_messages_total", "Answers on WebSockets, by type.", ["type"])
USERS_ERASED = Counter("gate_erased_users_total", "Deactivated Users whose facts were erased.")
WEBHOOKS = Counter("gate_webhooks_total", "Attempts at webhooks: delivered, failed, dead, unwanted.", ["outcome"])
PRESENCE_WEBHOOKS = Counter(
    "gate_presence_webhooks_total", "Attempts at batches for presence webhooks: delivered, failed.", ["outcome"]
)
PRESENCE_CHANGES = Counter(
    "gate_presence_changes_told_total", "Entries of feeds for presence webhooks: delivered, lost.", ["outcome"]
)
PRESENCE_SWEPT = Counter("gate_presence_swept_total", "Leases and sessions ended, departures announced.", ["what"])
SESSIONS_KICKED = Counter("gate_sessions_kicked_total", "Sessions closed for what the Changelog says.", ["reason"])
KICK_LAG_SECONDS = Histogram(
    "gate_kick_lag_seconds", "From a Change to the end of the Sessions that it closed.", buckets=_KICK_BUCKETS_S
)
OLDEST_BEAT = Gauge(
    "gate_lease_oldest_beat_ratio",
    "Largest age of a lease's last beat lately, of the time that it may have.",
    multiprocess_mode="livemax",
)
GATEWAYS = Gauge("gate_gateways", "Gateways whose lease holds, by App.", ["app"], multiprocess_mode="livemax")
SESSIONS = Gauge(
    "gate_sessions", "Live Sessions, by App and platform.", ["app", "platform"], multiprocess_mode="livemax"
)
CLOCK_OFFSET_SECONDS = Gauge(
    "gate_clock_offset_seconds", "This node's wall clock less Redis's.", multiprocess_mode="livemostrecent"
)
CLOCK_SPREAD_SECONDS = Gauge(
    "gate_clock_spread_seconds",
    "How far the two clocks are apart that differ most, of Redis's and those of all nodes.",
    multiprocess_mode="livemostrecent",
)
# Gauges in milliseconds of 0.7: exported for one version more, for dashboards and alerts that ask for them.
CLOCK_OFFSET_MS = Gauge("gate_clock_offset_ms", "Old: gate_clock_offset_seconds.", multiprocess_mode="livemostrecent")
CLOCK_SPREAD_MS = Gauge("gate_clock_spread_ms", "Old: gate_clock_spread_seconds.", multiprocess_mode="livemostrecent")
REDIS_MEMORY_USED = Gauge(
    "gate_redis_memory_used_bytes",
    "Memory that Redis uses for its data; of a Cluster that of the fullest master.",
    ["of"],
    multiprocess_mode="livemax",
)
REDIS_MEMORY_MAX = Gauge(
    "gate_redis_memory_max_bytes", "The maxmemory of the same server; 0 for none.", ["of"], multiprocess_mode="livemax"
)
REDIS_EVICTED_KEYS = Gauge(
    "gate_redis_evicted_keys", "Keys that Redis evicted since it started.", ["of"], multiprocess_mode="livemax"
)
TLS_NOT_AFTER = Gauge(
    "gate_tls_certificate_not_after_seconds",
    "When the certificate of the TLS ports ends, in seconds since 1970; 0 without such a port.",
    multiprocess_mode="livemax",
)
SWEEPS = Counter("gate_sweeps_total", "Rounds of the sweep: run, or refused for what the clocks say.", ["outcome"])
FACTS_ENDED = Counter("gate_swept_facts_total", "Ended facts that the sweep removed.")


def add_times(histogram: Histogram, counts: Sequence[int], total_s: float) -> None:
    """Count many times at once: the number per bucket, the last one without a bound, and their total.

    prometheus_client's `observe` takes one value and 4 us. The private attributes used here are those of the locked version.
    """
    histogram._sum.inc(total_s)
    for bucket, many in zip(histogram._buckets, counts, strict=True):
        if many:
            bucket.inc(many)


class StatusFigures(Protocol):
    """The values that a scrape reads from the Replica's status page; `gate.replica.status_page.StatusView` has this shape."""

    @property
    def state(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    @property
    def stale_ms(self) -> int: ...
    @property
    def reloads(self) -> int: ...
    @property
    def damages(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def lag(self) -> int: ...


# Reads the status page; returns None while it does not exist.
StatusSource = Callable[[], StatusFigures | None]


class StatusCollector(Collector):
    """The Replica's values, and whether each role answers, at the time of the scrape."""

    def __init__(self, status_page: StatusSource, answering: Callable[[], Mapping[str, bool]]) -> None:
        self._status_page = status_page
        self._answering = answering

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gate_role_up", "Whether a process of the service answers.", labels=["role"])
        for role, answers in self._answering().items():
            up.add_metric([role], float(answers))
        yield up
        figures = self._status_page()
        if figures is None:
            return
        yield GaugeMetricFamily("gate_replica_state", _STATES,
                                value=int(figures.state))  # fmt: skip
        yield GaugeMetricFamily(
            "gate_replica_ready", "Whether the Replica has caught up once.", value=float(figures.ready)
        )
        yield GaugeMetricFamily(
            "gate_replica_stale_seconds", "Age of the facts; 0 while fresh.", value=figures.stale_ms / 1_000
        )
        yield GaugeMetricFamily("gate_replica_stale_ms", "Old: gate_replica_stale_seconds.", value=figures.stale_ms)
        yield GaugeMetricFamily("gate_replica_lag_changes", "Changes known of but not applied.", value=figures.lag)
        yield CounterMetricFamily("gate_replica_reloads", "Snapshots loaded.", value=figures.reloads)
        yield CounterMetricFamily("gate_replica_damages", "Damaged files that were left.", value=figures.damages)
        yield CounterMetricFamily("gate_replica_applied", "Changes applied.", value=figures.applied)


def render_metrics(
    status_page: StatusSource = lambda: None,
    roles: Callable[[], Mapping[str, bool]] = dict,
    more: Sequence[Collector] = (),
) -> bytes:
    """Return the page for a scrape. `roles` returns whether each role answers; `more` is collected as well."""
    if DIRECTORY_VARIABLE not in os.environ:
        from prometheus_client import REGISTRY

        return bytes(generate_latest(REGISTRY))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for collector in (StatusCollector(status_page, roles), *more):
        registry.register(collector)
    reading = os.open(os.environ[DIRECTORY_VARIABLE], os.O_RDONLY)
    try:
        # The lock keeps the supervisor from merging the counts of dead processes while they are added up.
        fcntl.flock(reading, fcntl.LOCK_SH)
        return bytes(generate_latest(registry))
    finally:
        os.close(reading)
