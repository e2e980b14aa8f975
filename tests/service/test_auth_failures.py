"""The bound of `auth-failed` lines."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from gate.auth_failures import MAX_LINES_A_SECOND, AuthFailures


class Clock:
    def __init__(self) -> None:
        self.now_ms = 5_000

    def __call__(self) -> int:
        return self.now_ms


def counted() -> float:
    labels = {"surface": "resp", "reason": "wrong-secret"}
    return REGISTRY.get_sample_value("gate_auth_failures_total", labels) or 0.0


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in "".join(capsys.readouterr()).splitlines() if "auth-failed" in line]


def test_lines_a_second_are_bounded_and_the_rest_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    failures = AuthFailures(clock)
    before = counted()
    for _ in range(MAX_LINES_A_SECOND + 7):
        failures.note("resp", "wrong-secret", "app-1", "192.0.2.1")
    assert counted() == before + MAX_LINES_A_SECOND + 7
    logged = lines(capsys)
    assert len(logged) == MAX_LINES_A_SECOND
    assert all("app=app-1" in line and "peer=192.0.2.1" in line and "left_out" not in line for line in logged)
    clock.now_ms += 1_000
    failures.note("resp", "unknown-app", peer="192.0.2.1")
    failures.note("resp", "unknown-app", peer="192.0.2.1")
    first, second = lines(capsys)
    assert "left_out=7" in first and "app=" not in first and "left_out" not in second


async def test_what_was_left_out_is_said_when_nothing_more_comes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = asyncio.Event()
    monkeypatch.setattr("gate.auth_failures._SECOND_MS", 1)
    failures = AuthFailures(Clock())
    for _ in range(MAX_LINES_A_SECOND + 3):
        failures.note("console", "wrong-password")
    asyncio.get_running_loop().call_later(0.05, said.set)
    await asyncio.wait_for(said.wait(), 10)
    assert "left_out=3" in lines(capsys)[-1]
