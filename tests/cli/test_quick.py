"""What the commands that people run most may import: a library that comes back makes each of them slower."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.service import GateService
from tests.cli.command import Command

SLOW = (
    "pydantic", "rich", "structlog", "asyncio", "redis", "aiohttp", "prometheus_client", "orjson",
    "gate.store", "gate.service", "gate.config",
)  # fmt: skip
"""Each takes 10 to 200 ms; none is needed to answer from the Replica, or to print a page of help."""

_RUN = """
import sys
from gate.__main__ import main
sys.argv = ["gate", *sys.argv[1:]]
try:
    main()
finally:
    print("\\nimported:", *(name for name in {slow!r} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["check", "ann", "bob"], {"orjson"}),
        (["check", "--help"], {"orjson"}),
    ],
)
def test_slow_libraries_are_not_imported(service: GateService, arguments: list[str], allowed: set[str]) -> None:
    env = {"GATE_DATA": str(service.data), "COLUMNS": "80"}
    program = _RUN.format(slow=SLOW)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    imported = done.stdout.splitlines()[-1]
    assert imported.startswith("imported:")
    assert set(imported.split()[1:]) <= allowed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["bans", "--limit", "x"], "write a whole number, not 'x': see gate bans --help"),
        (["bans", "--limit", "0"], "write a whole number, at least 1: see gate bans --help"),
        (["connect", "t", "--ping", "nan"], "--ping: must be a duration as 7d, 90m or 2h30m"),
        (["replica", "rebuild", "--wait", "1.5"], "--wait: must be a duration as 7d, 90m or 2h30m"),
    ],
)
def test_numbers_are_refused_with_what_to_write(anyone: Command, arguments: list[str], problem: str) -> None:
    result = anyone(*arguments, status=2)
    assert problem in result.err and len(result.err.splitlines()) == 1
