"""What `gate serve` prints when it is ready, at its first start and later."""

from __future__ import annotations

from harness.service import Services


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
