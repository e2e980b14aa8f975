"""What `gate serve` prints when it is ready, at its first start and later."""

from __future__ import annotations

from pathlib import Path

from harness.service import Services
from harness.waiting import wait_until
from tests.service.running import listening_systemd


def greeting(output: str) -> list[str]:
    """The lines that are no log, without the ready line."""
    return [line for line in output.splitlines() if not line.startswith(("timestamp=", "gate ready"))]


def test_the_first_start_says_where_everything_is_and_later_ones_do_not(start_service: Services) -> None:
    first = start_service.start()
    first.wait_for_output("  stop")
    lines = first.output.splitlines()
    ready = next(number for number, line in enumerate(lines) if line.startswith("gate ready"))
    assert [line.split()[0] for line in lines[ready + 1 : ready + 6]] == [
        "version", "console", "credentials", "Redis", "stop"
    ]  # fmt: skip
    assert f"{first.http}/console/, sign in as admin" in first.output
    assert str(first.data / "credentials.json") in first.output
    assert f"embedded, in {first.data / 'redis'}" in first.output
    assert first.credentials.operator_password not in first.output
    first.stop()

    again = start_service.start(data=first.data)
    assert again.output.count("gate ready") == 1
    again.stop()
    assert greeting(again.output) == []


def test_with_logs_for_programs_nothing_else_is_printed(start_service: Services) -> None:
    service = start_service.start("--log-format", "json")
    service.stop()
    assert [line for line in service.output.splitlines() if not line.startswith(("{", "gate ready"))] == []


def test_systemd_learns_when_all_answers_and_when_it_ends(start_service: Services, tmp_path: Path) -> None:
    with listening_systemd(tmp_path) as (variables, lines):
        service = start_service.start(env=variables | {"WATCHDOG_USEC": "30000000"})
        ready = next(line for line in service.output.splitlines() if line.startswith("gate ready"))
        wait_until(lambda: lines().count("WATCHDOG=1") > 1, 10, "two signs of life")
        wait_until(lambda: f"STATUS={ready}" in lines(), 10, "the state to be sent")
        assert lines()[0] == "READY=1", "signs of life before it could fill the queue that it needs"
        service.stop()
        assert [line for line in lines() if line != "WATCHDOG=1"] == ["READY=1", f"STATUS={ready}", "STOPPING=1"]


def test_a_systemd_that_does_not_listen_does_not_end_the_service(start_service: Services, tmp_path: Path) -> None:
    service = start_service.start(env={"NOTIFY_SOCKET": str(tmp_path / "no-one")})
    assert service.stop() == 0
