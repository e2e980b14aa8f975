"""The seed of random tests: from the environment, and in the report of a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import seeds

REPOSITORY = Path(__file__).parents[2]
FAILING = Path(__file__).with_name("fails_by_seed.py")


@pytest.mark.parametrize(("given", "wanted"), [(None, 11), ("0", 0), ("7", 7)])
def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: int) -> None:
    monkeypatch.delenv(seeds.VARIABLE, raising=False)
    if given is not None:
        monkeypatch.setenv(seeds.VARIABLE, given)
    assert seeds.seed(11) == wanted


@pytest.mark.parametrize(("given", "wanted"), [(None, 40), ("10", 400), ("0.1", 4), ("0.001", 1)])
def test_the_environment_scales_searches(monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: int) -> None:
    monkeypatch.delenv(seeds.EXAMPLES, raising=False)
    if given is not None:
        monkeypatch.setenv(seeds.EXAMPLES, given)
    assert seeds.examples(40) == wanted


def test_the_report_of_a_failure_has_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(seeds.VARIABLE, "7")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FAILING)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "GATE_TEST_SEED=7" in done.stdout
