"""One environment per file and process: shared for the same file, another one after it was recreated, closed by the last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gate.errors import ReplicaError, ReplicaMissing
from gate.replica import envs
from gate.replica.files import delete_facts
from gate.replica.writer import FactsFile
from tests.replica.ledger import Ledger


def test_users_of_one_file_share_it_and_the_last_closes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    path = ledger.file.path
    (tmp_path / "link.mdb").symlink_to(path.name)
    first, second = envs.acquire(path), envs.acquire(tmp_path / "link.mdb")
    assert first is second
    ledger.close()
    envs.release(path)
    assert envs.open_count(tmp_path) == 1
    envs.release(tmp_path / "link.mdb")
    assert envs.open_count(tmp_path) == 0


def test_a_file_made_again_under_its_name_is_another(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    path = tmp_path / "facts-1.mdb"
    old = envs.acquire(path)
    delete_facts(path)
    with pytest.raises(ReplicaMissing):
        envs.acquire(path)
    Ledger(tmp_path).close()
    new = envs.acquire(path)
    assert new is not old
    envs.release(path, old)
    with new.begin() as txn:
        assert txn.get(b"Mlayout") is not None, "the new one stays open"
    envs.release(path, new)
    assert envs.open_count(tmp_path) == 0


def test_a_file_that_is_read_here_cannot_be_written_here(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    path = tmp_path / "facts-1.mdb"
    envs.acquire(path)
    with pytest.raises(ReplicaError, match="open for reading"):
        FactsFile.open(path)
    envs.release(path)
    assert envs.open_count(tmp_path) == 0


MOUNTED = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"',
    "-",
]


def test_a_read_only_mount_is_refused(tmp_path: Path) -> None:
    """LMDB would read there without a place among the readers, and the replicator write over what is being read."""
    if subprocess.run([*MOUNTED, tmp_path, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount anything here")
    ledger = Ledger(tmp_path)
    path = ledger.file.path
    ledger.close()
    acquire = f"from pathlib import Path; from gate.replica import envs; envs.acquire(Path({str(path)!r}))"
    asked = subprocess.run(
        [*MOUNTED, tmp_path, sys.executable, "-c", acquire], capture_output=True, text=True, check=False
    )
    assert "-lock is not writable" in asked.stderr, asked.stderr
