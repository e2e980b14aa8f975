"""Requests to the replicator, which are files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gate.replica.files import DAMAGED_FILE, report_damage


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_damage_on_a_full_disk_is_reported_once_there_is_room(tmp_path: Path) -> None:
    facts, report = tmp_path / "facts-1.mdb", tmp_path / DAMAGED_FILE
    with no_room():
        report_damage(facts, "a page can't be read")
    assert not report.exists()
    report_damage(facts, "a page can't be read")
    assert report.read_text() == "facts-1.mdb\na page can't be read\n"


def test_the_first_report_of_damage_stands(tmp_path: Path) -> None:
    facts, report = tmp_path / "facts-1.mdb", tmp_path / DAMAGED_FILE
    report_damage(facts, "first")
    report_damage(facts, "second")
    assert report.read_text() == "facts-1.mdb\nfirst\n"
