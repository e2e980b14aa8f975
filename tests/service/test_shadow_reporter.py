"""Counts of shadow mode on their way from a process to Redis: none is lost while Redis is away, and none counts twice."""

from __future__ import annotations

from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from gate.core.shadow import HOUR_MS
from gate.errors import StoreUnavailable
from gate.replica.shadow import Shadows
from gate.service import shadow_reporter
from gate.service.shadow_reporter import MAX_LINES_A_SECOND, MAX_PENDING, ShadowReporter
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.shadow import read_shadow_history
from harness.servers import RedisServer
from harness.waiting import wait_until_async

HOUR = 480_000


class Clock:
    now_ms = HOUR * HOUR_MS

    def __call__(self) -> int:
        return self.now_ms


def denied(shadows: Shadows, times: int = 1, app: str = "app") -> None:
    for _ in range(times):
        assert shadows.tally(app).answer(b"a", b"b", "blacklisted") == "allowed"


def exported() -> float:
    return REGISTRY.get_sample_value("gate_shadow_denials_total", {"reason": "blacklisted"}) or 0.0


async def test_counts_reach_redis_once_it_answers(private_redis: RedisServer) -> None:
    shadows, clock = Shadows(), Clock()
    reporter = ShadowReporter(shadows, now_ms=clock)
    before = exported()
    denied(shadows, 3)
    reporter.take()
    await reporter.flush()  # without a Redis: they stay
    assert exported() == before + 3
    reporter.client = client_of(parse_address(private_redis.url))
    private_redis.kill()
    with pytest.raises(StoreUnavailable):
        await reporter.flush()
    clock.now_ms += HOUR_MS
    denied(shadows, 2)
    reporter.take()
    private_redis.restart()

    async def is_flushed() -> bool:
        with suppress(StoreUnavailable):
            await reporter.flush()
            return True
        return False

    for _ in range(2):  # the second has nothing to write
        await wait_until_async(is_flushed, 10, "Redis to be reached again")
    history = await read_shadow_history(reporter.client, "app")
    assert [(one.hour, one.checks, one.reasons) for one in history.hours] == [
        (HOUR, 3, {"blacklisted": 3}),
        (HOUR + 1, 2, {"blacklisted": 2}),
    ]
    denied(shadows)
    await reporter.finish()
    assert (await read_shadow_history(reporter.client, "app")).total().denials == 6
    await reporter.client.aclose()


async def test_a_write_of_unknown_outcome_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, tried = ShadowReporter(shadows := Shadows()), []
    reporter.client = client_of(parse_address("unix:///nowhere"))

    async def unknown(*arguments: object) -> None:
        tried.append(arguments)
        raise StoreUnavailable("no answer", "unknown")

    monkeypatch.setattr(shadow_reporter, "add_shadow_counts", unknown)
    denied(shadows)
    reporter.take()
    with pytest.raises(StoreUnavailable):
        await reporter.flush()
    await reporter.flush()
    assert len(tried) == 1


def test_what_waits_for_redis_is_bounded() -> None:
    reporter = ShadowReporter(shadows := Shadows())
    for number in range(MAX_PENDING + 5):
        denied(shadows, app=f"app-{number}")
        reporter.take()
    assert reporter.pending == MAX_PENDING


def test_log_lines_are_samples_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    clock, shadows = Clock(), Shadows()
    ShadowReporter(shadows, monotonic=clock)
    denied(shadows, MAX_LINES_A_SECOND + 3)
    lines = [line for line in capsys.readouterr().out.splitlines() if "shadow-denied" in line]
    assert len(lines) == MAX_LINES_A_SECOND
    assert all(word in line for line in lines for word in ("app=app", "from=a", "to=b", "reason=blacklisted")), lines
    clock.now_ms += 1_000
    denied(shadows)
    (line,) = capsys.readouterr().out.splitlines()
    assert "left_out=3" in line
