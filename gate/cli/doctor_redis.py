"""The checks of `gate doctor` that ask Redis: does it answer, does it keep what it is told, is its clock ours."""

from __future__ import annotations

from collections.abc import Iterator

from gate.cli.finding import Finding, fail, ok, warn
from gate.cli.moments import shown_duration
from gate.cli.options import Target
from gate.cli.output import counted
from gate.cli.reach import Reach, run_with
from gate.clock import wall_ms
from gate.errors import GateError
from gate.store.vitals import Vitals, read_vitals

SKEW_WARN_MS, SKEW_FAIL_MS = 1_000, 10_000
"""Bans end by each machine's wall clock: so far apart, they visibly end at different times."""
NEARLY_FULL_PERCENT = 90


def findings(target: Target) -> Iterator[Finding]:
    """One finding if Redis can't be reached, else several."""
    try:
        vitals, skew_ms, apps, live_nodes = run_with(target, _looked)
    except GateError as fault:
        yield fail("Redis", str(fault), "checks go on without it, writes do not: start it, or say --redis URL")
        return
    shown = f"{vitals.name} {vitals.version} answers, {counted(apps, 'App')}, {counted(live_nodes, 'live node')}"
    yield ok("Redis", shown)
    yield _role(vitals)
    yield _persistence(vitals)
    yield _eviction(vitals)
    yield _memory(vitals)
    yield _clock(skew_ms)


async def _looked(reach: Reach) -> tuple[Vitals, int, int, int]:
    before_ms = wall_ms()
    vitals = await read_vitals(reach.store.client)
    after_ms = wall_ms()
    # The answer was made somewhere between the two; what lies between is no skew.
    skew_ms = max(before_ms - vitals.now_ms, vitals.now_ms - after_ms, 0)
    return vitals, skew_ms, len(await reach.store.apps.list()), len(await reach.store.writer.live_nodes())


def _role(vitals: Vitals) -> Finding:
    if vitals.role == "master":
        return ok("Redis role", "primary")
    return fail("Redis role", vitals.role, "name the primary with --redis: a replica refuses writes")


def _persistence(vitals: Vitals) -> Finding:
    subject = "Redis persistence"
    if vitals.last_write_failed:
        return fail(subject, "the last write to disk failed", "look at its disk and its log: writes may be refused")
    if not vitals.is_append_only:
        return warn(
            subject, "append-only file off", "set appendonly yes, or a restart loses what came after a snapshot"
        )
    fsync = vitals.append_fsync or "not told"
    if fsync == "no":
        return warn(subject, "append-only file on, fsync no", "set appendfsync everysec, or always")
    return ok(subject, f"append-only file on, fsync {fsync}")


def _eviction(vitals: Vitals) -> Finding:
    subject, policy = "Redis eviction", vitals.eviction_policy
    if vitals.evicted_keys and policy != "noeviction":
        return fail(
            subject, f"{vitals.evicted_keys:,} keys were evicted: Bans may be lost", "set maxmemory-policy noeviction"
        )
    if policy is None:
        return warn(subject, "the server does not tell", "make sure that maxmemory-policy is noeviction")
    if policy != "noeviction":
        return fail(subject, f"maxmemory-policy {policy}: a full memory would drop Bans", "set it to noeviction")
    return ok(subject, "none (noeviction)")


def _memory(vitals: Vitals) -> Finding:
    used = f"{vitals.used_memory_bytes / (1 << 20):.0f} MiB used"
    if not vitals.max_memory_bytes:
        return ok("Redis memory", f"{used}, no limit")
    percent = 100 * vitals.used_memory_bytes // vitals.max_memory_bytes
    found = f"{used}, {percent} % of maxmemory"
    if percent >= NEARLY_FULL_PERCENT:
        return warn("Redis memory", found, "raise maxmemory: writes are refused when it is full")
    return ok("Redis memory", found)


def _clock(skew_ms: int) -> Finding:
    found = f"{shown_duration(skew_ms)} from Redis's"
    advice = "run NTP on both machines: Bans end by the wall clock"
    if skew_ms >= SKEW_FAIL_MS:
        return fail("clock", found, advice)
    return warn("clock", found, advice) if skew_ms >= SKEW_WARN_MS else ok("clock", found)
