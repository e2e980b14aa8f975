"""The child that checks first. The damage that it must detect would kill this process."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import NOWHERE
from gate.replica import file_check
from gate.replica.writer import FactsFile
from harness.seeds import seed
from tests.replica.model import Changes

SEED = seed(0)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    file = FactsFile.create(tmp_path / "facts-1.mdb", 1)
    file.finish([NOWHERE], 1)
    changes = Changes("")
    file.apply({0: [changes.app_set()]}, 1)
    for i in range(50):
        file.apply({0: [changes("blocked", b"%064d" % i, [b"m%d" % j for j in range(60)], until_ms=FOREVER_MS)]}, 1)
    file.close_clean()
    return file.path


def test_a_sound_file_survives(facts: Path) -> None:
    assert file_check.survives(facts) is None


def test_so_does_one_that_is_being_written(facts: Path) -> None:
    file = FactsFile.open(facts)
    assert file_check.survives(facts) is None
    file.close()


@pytest.mark.parametrize("bytes_left", [0, 1, 4_096, 8_192, 12_288, 100_000])
def test_cut_short(facts: Path, bytes_left: int) -> None:
    os.truncate(facts, bytes_left)
    assert file_check.survives(facts)


def test_cut_short_by_one_page(facts: Path) -> None:
    os.truncate(facts, facts.stat().st_size - 4_096)
    problem = file_check.survives(facts)
    assert problem
    assert "cut short" in problem


@pytest.mark.parametrize("nth", range(6))
def test_noise_in_the_middle(facts: Path, nth: int) -> None:
    """Every page but the first two; LMDB keeps no checksums, so that noise in a page's unused part may pass."""
    size = facts.stat().st_size
    with facts.open("r+b") as file:
        file.seek(8_192)
        file.write(random.Random(SEED + nth).randbytes(size - 8_192))
    assert file_check.survives(facts)


def test_a_death_is_reported(facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dies.py"
    program.write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    monkeypatch.setattr(file_check, "__file__", str(program))
    assert file_check.survives(facts) == f"reading it ended a process with signal {int(signal.SIGSEGV)}"


def test_slow_is_not_damaged(facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "hangs.py"
    program.write_text("import signal; signal.pause()")
    monkeypatch.setattr(file_check, "__file__", str(program))
    monkeypatch.setattr(file_check, "PROBE_TIMEOUT_S", 0.2)
    assert file_check.survives(facts) is None


def test_it_also_looks_where_a_file_is_too_large_to_walk(facts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_check, "WALK_MAX_BYTES", 0)
    assert file_check.look(str(facts)) is None
