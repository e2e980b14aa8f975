"""For any damage to the pages of a facts file: a scrub finds it, or every fact can still be read unchanged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import NOWHERE
from gate.errors import ReplicaForeign
from gate.replica import file_check
from gate.replica.layout import CHECKSUM_RANGE, META_CHECKSUM
from gate.replica.writer import FactsFile
from harness.seeds import seed
from tests.replica.model import Changes

SEED = seed(0)

PAGE_BYTES = 4_096
OWNERS = 150


@pytest.fixture
def file(tmp_path: Path) -> FactsFile:
    file = FactsFile.create(tmp_path / "facts-1.mdb", 1)
    file.finish([NOWHERE], 1)
    changes = Changes("")
    file.apply({0: [changes.app_set()]}, 1)
    for nth in range(OWNERS):
        members = [b"m%d" % member for member in range(40)]
        file.apply({0: [changes("blocked", b"%060d" % nth, members, until_ms=FOREVER_MS)]}, 1)
        file.apply({0: [changes("ban-imposed", b"%060d" % nth, until_ms=nth + 1)]}, 1)
    file.apply({0: [changes("unblocked", b"%060d" % 3, [b"m1", b"m7"])]}, 1)
    return file


def test_a_sound_file_adds_up_while_it_is_written(file: FactsFile) -> None:
    assert file_check.adds_up(file.path) is None
    file.close_clean()
    assert file_check.adds_up(file.path) is None


def test_the_program_knows_the_layout() -> None:
    """It imports nothing of this project, so it repeats some constants."""
    assert file_check.CHECKSUM == META_CHECKSUM
    assert CHECKSUM_RANGE == 1 << 64


def _flip(page: bytearray, seeded: random.Random) -> None:
    at = seeded.randrange(len(page))
    page[at] ^= 1 << seeded.randrange(8)


def _zero(page: bytearray, _: random.Random) -> None:
    page[:] = bytes(len(page))


def _scramble(page: bytearray, seeded: random.Random) -> None:
    page[:] = seeded.randbytes(len(page))


def _lose_a_node(page: bytearray, _: random.Random) -> None:
    """One pointer less in the page's head: what it led to is gone, and nothing else shows."""
    lower = int.from_bytes(page[12:14], sys.byteorder)
    if lower > 18:
        page[12:14] = (lower - 2).to_bytes(2, sys.byteorder)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_flip, _zero, _scramble, _lose_a_node])
def test_damage_is_found_or_does_no_harm(file: FactsFile, damage: Callable[[bytearray, random.Random], None]) -> None:
    file.close()
    before, facts = file.path.read_bytes(), _facts(file.path)
    assert facts is not None
    seeded = random.Random(f"{damage.__name__} {SEED}")
    found = 0
    for _ in range(25):
        spoilt = bytearray(before)
        page = PAGE_BYTES * seeded.randrange(2, len(before) // PAGE_BYTES)
        content = spoilt[page : page + PAGE_BYTES]
        damage(content, seeded)
        spoilt[page : page + PAGE_BYTES] = content
        file.path.write_bytes(spoilt)
        if file_check.adds_up(file.path) is None:
            assert _facts(file.path) == facts
        else:
            found += 1
    assert found >= 3, "most pages hold facts"


def _facts(path: Path) -> dict[bytes, bytes | None] | None:
    """Every key, each looked up."""
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        return {key: txn.get(key) for key in txn.cursor().iternext(values=False)}


def test_a_file_without_a_checksum_or_meta_pages(file: FactsFile) -> None:
    file.close()
    with lmdb.open(str(file.path), subdir=False, map_size=1 << 30) as env, env.begin(write=True) as txn:
        txn.delete(META_CHECKSUM)
    assert file_check.adds_up(file.path) == "it has no checksum"
    os.truncate(file.path, 0)
    assert "cut short" in (file_check.adds_up(file.path) or "")


def test_it_is_given_up_while_too_much_is_written(file: FactsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.close()
    monkeypatch.setattr(file_check, "NICENESS", 0)
    monkeypatch.setattr(file_check, "MAX_GROWN_PAGES", -1)
    monkeypatch.setattr(file_check, "MAX_GROWN_SHARE", -1.0)
    with pytest.raises(SystemExit) as ended:
        file_check.scrub(str(file.path))
    assert ended.value.code == file_check.GIVEN_UP


async def test_what_another_killed_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for lack of memory. A signal raised by LMDB is damage, and its last message is reported."""
    program = tmp_path / "dies.py"
    monkeypatch.setattr(file_check, "__file__", str(program))
    program.write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert await file_check.scrubbed(tmp_path) is None
    program.write_text("import os, sys; sys.stderr.write('it broke'); sys.stderr.flush(); os.abort()")
    assert (
        await file_check.scrubbed(tmp_path) == f"reading it ended a process with signal {int(signal.SIGABRT)}: it broke"
    )
    program.write_text(f"import sys; sys.exit({file_check.GIVEN_UP})")
    with pytest.raises(TimeoutError):
        await file_check.scrubbed(tmp_path)


def test_the_writer_notices_that_another_wrote(file: FactsFile) -> None:
    assert file.was_changed() is None
    older = file.path.read_bytes()
    with file.write() as txn:
        txn.put(b"Mx", b"1")
    assert file.was_changed() is None
    file.path.write_bytes(older)
    assert file.was_changed() == "its newest commit is not the one that was written last"
    with pytest.raises(ReplicaForeign, match="something else has written to it"), file.write():
        pytest.fail("it must not be written on")
    os.truncate(file.path, PAGE_BYTES)
    assert "cut short" in (file.was_changed() or "")
    file.close()


def test_a_damaged_file_is_not_copied(file: FactsFile, tmp_path: Path) -> None:
    """A copy has a checksum of its own: damage would look sound in it."""
    with file.read() as txn:
        entry = next(key for key in txn.cursor().iternext(values=False) if bytes(key).startswith(b"L"))
    file.close()
    subprocess.run(
        [sys.executable, "-c", _LOSES, str(file.path), entry.hex()], check=True
    )  # LMDB must not open a file twice in a process
    opened = FactsFile.open(file.path)
    with pytest.raises(ReplicaForeign, match="do not add up"):
        opened.copy_packed(tmp_path / "facts-2.mdb", lambda: True)
    opened.close()


_LOSES = """
import lmdb, sys
with lmdb.open(sys.argv[1], subdir=False, map_size=1 << 40) as env, env.begin(write=True) as txn:
    assert txn.delete(bytes.fromhex(sys.argv[2]))
"""
