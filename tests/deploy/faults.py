"""Each alert's fault, as series that Prometheus would have scraped, and the series of a node that is well.

Series are in the notation of `promtool test rules`, a value a minute: `1+2x5` is 1, 3 … 11, `_x9` is nine without a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NODE = 'job="gate",instance="a:8080"'


class Fault(NamedTuple):
    """What fires an alert."""

    series: dict[str, str]
    at: str
    """When the alert fires, after the start."""
    summary: str
    """As people read it."""
    labels: Mapping[str, str] = MappingProxyType({})
    """Of the alert, in addition to its severity; `instance` and `job` only if the alert keeps them."""


ON_NODE = {"instance": "a:8080", "job": "gate"}
OF_NODE = {"instance": "a:8080"}


def _bucket(metric: str, labels: str, bounds: dict[str, str]) -> dict[str, str]:
    return {f'{metric}_bucket{{{labels},le="{bound}"}}': values for bound, values in bounds.items()}


FAULTS: dict[str, Fault] = {
    "GateGone": Fault(
        {f"up{{{NODE}}}": "1 0x9"},
        "3m",
        "a:8080 does not answer scrapes: its service or its machine is down",
        ON_NODE,
    ),
    "GateRoleDown": Fault(
        {f'gate_role_up{{{NODE},role="http"}}': "1 0x9"},
        "3m",
        "http on a:8080 does not answer",
        ON_NODE | {"role": "http"},
    ),
    "GateRoleRestarts": Fault(
        {f'gate_role_restarts_total{{{NODE},role="http"}}': "0+1x20"},
        "10m",
        "http on a:8080 died 10 times in ten minutes",
        ON_NODE | {"role": "http"},
    ),
    "GateHttpFails": Fault(
        {f'gate_http_requests_total{{{NODE},group="check",status="503"}}': "0+60x20"},
        "10m",
        "a:8080 answers requests with 5xx",
        OF_NODE,
    ),
    "GateAuthFailures": Fault(
        {f'gate_auth_failures_total{{{NODE},surface="http",reason="wrong-secret"}}': "0+90x20"},
        "15m",
        "a:8080 refuses credentials on http, 1.5 a second",
        OF_NODE | {"surface": "http"},
    ),
    "GateChecksSlow": Fault(
        _bucket("gate_check_seconds", f'{NODE},surface="http"', {"0.05": "0x20", "0.1": "0+60x20", "+Inf": "0+60x20"}),
        "15m",
        "a:8080 takes 99.5ms for the slowest hundredth of its checks over http",
        OF_NODE | {"surface": "http"},
    ),
    "GateShadowMode": Fault(
        {f'gate_shadow_apps{{{NODE},environment="production"}}': "2x1500"},
        "24h10m",
        "nothing is enforced for 2 Apps in production: shadow mode is on for a day",
    ),
    "GateCertificateEnds": Fault(
        {f"gate_tls_certificate_not_after_seconds{{{NODE}}}": "864000x20"},  # ten days after the start
        "10m",
        "the certificate of the TLS ports of a:8080 ends at 1970-01-11 00:00:00 +0000 UTC",
        ON_NODE,
    ),
    "GateDiskFull": Fault(
        {f"gate_disk_free_bytes{{{NODE}}}": "5x20", f"gate_disk_size_bytes{{{NODE}}}": "100x20"},
        "10m",
        "the disk with the data directory of a:8080 has 5% left",
        ON_NODE,
    ),
    "GateRedisAway": Fault(
        {f"gate_replica_state{{{NODE}}}": "2 3x9"},
        "3m",
        "a:8080 can't reach Redis: checks go on, writes and connects fail",
        ON_NODE,
    ),
    "GateRedisMemoryFull": Fault(
        {
            f'gate_redis_memory_used_bytes{{{NODE},of="facts"}}': "95x20",
            f'gate_redis_memory_max_bytes{{{NODE},of="facts"}}': "100x20",
        },
        "10m",
        "the Redis of facts uses 95% of its maxmemory: then writes fail",
        {"of": "facts"},
    ),
    "GateRedisEvicts": Fault(
        {f'gate_redis_evicted_keys{{{NODE},of="facts"}}': "0x5 1x20"},
        "8m",
        "the Redis of facts evicts keys: Bans may not hold",
        {"of": "facts"},
    ),
    "GateReplicaStale": Fault(
        {f"gate_replica_stale_seconds{{{NODE}}}": "0 90x9"},
        "3m",
        "a:8080 answers from facts that are 1m 30s old",
        ON_NODE,
    ),
    "GateReplicaReloads": Fault(
        {f"gate_replica_reloads_total{{{NODE}}}": "1+1x90"},
        "60m",
        "a:8080 had to load 60 snapshots in an hour: it loses the Changelog",
        ON_NODE,
    ),
    "GateReplicaLags": Fault(
        {f"gate_replica_lag_changes{{{NODE}}}": "0 20000x9"},
        "3m",
        "a:8080 has 20k Changes still to apply",
        ON_NODE,
    ),
    "GateWritesPending": Fault(
        {f'gate_write_applied_total{{{NODE},applied="node"}}': "0+6x20"},
        "15m",
        "a:8080 acknowledges writes that not every live node has applied in time",
        OF_NODE,
    ),
    "GateWritesNotDurable": Fault(
        {f"gate_write_durability_late_total{{{NODE}}}": "0+6x20"},
        "15m",
        "a:8080 acknowledges writes that are not as durable in time as --durability asks",
        OF_NODE,
    ),
    "GateFactsLost": Fault(
        {f"gate_lost_facts{{{NODE}}}": "0 7x9"},
        "2m",
        "Redis lost 7 facts that a:8080 has: Bans may not hold",
        ON_NODE,
    ),
    "GateClockApart": Fault(
        {f"gate_clock_offset_seconds{{{NODE}}}": "0 -2.5x9"},
        "3m",
        "the clock of a:8080 is 2.5s from Redis's: Bans end early or late",
        ON_NODE,
    ),
    "GateSweepRefused": Fault(
        {
            f'gate_sweeps_total{{{NODE},outcome="run"}}': "5x60",
            f'gate_sweeps_total{{{NODE},outcome="refused"}}': "0+12x60",
        },
        "40m",
        "a:8080 removes no ended facts, because the clocks differ",
        ON_NODE | {"outcome": "run"},
    ),
    "GateHeartbeatsLate": Fault(
        {f"gate_lease_oldest_beat_ratio{{{NODE}}}": "0.3 0.85x9"},
        "6m",
        "a:8080 sees leases renewed at 85% of their time: some will be lost",
        ON_NODE,
    ),
    "GateLeasesEnded": Fault(
        {f'gate_presence_swept_total{{{NODE},what="leases"}}': "0x4 4x9"},
        "6m",
        "4 Gateways' leases ended within five minutes: they died, or can't reach Gate",
    ),
    "GateSessionsEnded": Fault(
        {f'gate_presence_swept_total{{{NODE},what="sessions"}}': "0x4 20000x9"},
        "6m",
        "20k Sessions ended with their Gateways' leases within five minutes",
    ),
    "GateKicksLate": Fault(
        _bucket("gate_kick_lag_seconds", NODE, {"1": "0x20", "2.5": "0+60x20", "+Inf": "0+60x20"}),
        "10m",
        "Sessions of Users are closed 2.485s after their Ban or deactivation",
    ),
    "GateWebhooksFail": Fault(
        {f'gate_webhooks_total{{{NODE},outcome="failed"}}': "0+2x20"},
        "15m",
        "a:8080 had 30 attempts at webhooks fail in fifteen minutes",
        OF_NODE,
    ),
    "GatePresenceWebhooksFail": Fault(
        {f'gate_presence_webhooks_total{{{NODE},outcome="failed"}}': "0+2x20"},
        "15m",
        "a:8080 had 30 attempts at presence webhooks fail in fifteen minutes",
        OF_NODE,
    ),
    "GatePresenceChangesLost": Fault(
        {f'gate_presence_changes_told_total{{{NODE},outcome="lost"}}': "0+3x90"},
        "60m",
        "a:8080 lost 180 changes for a presence webhook: the feed was trimmed",
        OF_NODE,
    ),
    "GateWebhooksDead": Fault(
        {f'gate_webhooks_total{{{NODE},outcome="dead"}}': "_x5 1x9"},
        "8m",
        "a:8080 has given up results for a webhook",
        ON_NODE | {"outcome": "dead"},
    ),
}

HEALTH: dict[str, str] = {
    f"up{{{NODE}}}": "1x1600",
    f'gate_role_up{{{NODE},role="http"}}': "1x1600",
    f'gate_role_restarts_total{{{NODE},role="http"}}': "1x1600",
    f'gate_http_requests_total{{{NODE},group="check",status="200"}}': "0+6000x1600",
    f'gate_http_requests_total{{{NODE},group="check",status="503"}}': "3x1600",
    f'gate_auth_failures_total{{{NODE},surface="http",reason="wrong-secret"}}': "0+2x1600",
    f'gate_auth_failures_total{{{NODE},surface="http",reason="missing"}}': "0+600x1600",
    **_bucket("gate_check_seconds", f'{NODE},surface="http"', {"0.0001": "0+600x1600", "+Inf": "0+600x1600"}),
    f'gate_shadow_apps{{{NODE},environment="production"}}': "0x1600",
    f'gate_shadow_apps{{{NODE},environment="development"}}': "3x1600",
    f"gate_tls_certificate_not_after_seconds{{{NODE}}}": "7776000x1600",
    f"gate_disk_free_bytes{{{NODE}}}": "60x1600",
    f"gate_disk_size_bytes{{{NODE}}}": "100x1600",
    f"gate_replica_state{{{NODE}}}": "2x1600",
    f'gate_redis_memory_used_bytes{{{NODE},of="facts"}}': "60x1600",
    f'gate_redis_memory_max_bytes{{{NODE},of="facts"}}': "100x1600",
    f'gate_redis_memory_used_bytes{{{NODE},of="presence"}}': "60x1600",
    f'gate_redis_memory_max_bytes{{{NODE},of="presence"}}': "0x1600",
    f'gate_redis_evicted_keys{{{NODE},of="facts"}}': "0x1600",
    f"gate_replica_stale_seconds{{{NODE}}}": "0 0.4x1600",
    f"gate_replica_reloads_total{{{NODE}}}": "1x1600",
    f"gate_replica_lag_changes{{{NODE}}}": "0 120x1600",
    f'gate_write_applied_total{{{NODE},applied="all"}}': "0+600x1600",
    f'gate_write_applied_total{{{NODE},applied="node"}}': "4x1600",
    f"gate_write_durability_late_total{{{NODE}}}": "2x1600",
    f"gate_lost_facts{{{NODE}}}": "0x1600",
    f"gate_clock_offset_seconds{{{NODE}}}": "0.02x1600",
    f'gate_sweeps_total{{{NODE},outcome="run"}}': "0+12x1600",
    f'gate_sweeps_total{{{NODE},outcome="refused"}}': "6x1600",
    f"gate_lease_oldest_beat_ratio{{{NODE}}}": "0.4x1600",
    f'gate_presence_swept_total{{{NODE},what="leases"}}': "2x1600",
    f'gate_presence_swept_total{{{NODE},what="sessions"}}': "0+100x1600",
    **_bucket("gate_kick_lag_seconds", NODE, {"0.01": "0+6x1600", "1": "0+6x1600", "+Inf": "0+6x1600"}),
    f'gate_webhooks_total{{{NODE},outcome="failed"}}': "3x1600",
    f'gate_webhooks_total{{{NODE},outcome="dead"}}': "1x1600",
    f'gate_presence_webhooks_total{{{NODE},outcome="failed"}}': "3x1600",
    f'gate_presence_changes_told_total{{{NODE},outcome="lost"}}': "5x1600",
}
LOOKED_AT = ("70m", "6h", "25h")
"""When the node is well; before the first one a count that begins higher may look like one that has grown."""
