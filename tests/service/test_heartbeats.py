"""The page of heartbeats: who is silent, and that two mappings see each other."""

from __future__ import annotations

from pathlib import Path

from gate.service.heartbeats import MAX_NOTE_BYTES, SILENT_AFTER_MS, Heartbeats


def test_a_new_page_names_everybody_as_silent(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", ["redis", "worker-0"])
    assert heartbeats.silent(10_000) == ["redis", "worker-0"]


def test_a_beat_counts_only_of_one_that_is_ready(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", ["redis", "http"])
    heartbeats.beat(0, 10_000)
    heartbeats.beat(1, 10_000)
    heartbeats.set_ready(1, True)
    assert heartbeats.answering(10_000) == {"redis": False, "http": True}


def test_silence_begins_after_the_documented_time(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", ["http"])
    heartbeats.beat(0, 10_000)
    heartbeats.set_ready(0, True)
    assert heartbeats.silent(10_000 + SILENT_AFTER_MS) == []
    assert heartbeats.silent(10_001 + SILENT_AFTER_MS) == ["http"]


def test_another_mapping_of_the_page_sees_it(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", [f"worker-{index}" for index in range(64)])
    other = Heartbeats(tmp_path / "roles")
    other.beat(63, 5)
    other.set_ready(63, True)
    assert heartbeats.answering(5)["worker-63"]


def test_a_new_layout_leaves_an_orphan_writing_to_its_own_page(tmp_path: Path) -> None:
    orphans = Heartbeats.create(tmp_path / "roles", ["http"])
    heartbeats = Heartbeats.create(tmp_path / "roles", ["http"])
    orphans.beat(0, 5)
    orphans.set_ready(0, True)
    assert heartbeats.silent(5) == ["http"]


def test_a_note_of_a_process_that_answers_is_a_warning(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", ["redis", "http"])
    heartbeats.note(1, "clock of n1: 2.0 s ahead of Redis's")
    assert heartbeats.warnings(10_000) == []
    heartbeats.beat(1, 10_000)
    heartbeats.set_ready(1, True)
    assert heartbeats.warnings(10_000) == ["clock of n1: 2.0 s ahead of Redis's"]
    heartbeats.note(1, "")
    assert heartbeats.warnings(10_000) == []


def test_the_process_of_a_slot_is_named_until_it_has_none(tmp_path: Path) -> None:
    heartbeats = Heartbeats.create(tmp_path / "roles", ["redis", "http"])
    heartbeats.note(1, "x" * MAX_NOTE_BYTES)
    heartbeats.set_pid(1, 4711)
    assert Heartbeats(tmp_path / "roles").pids() == {"http": 4711}
    assert heartbeats.explained("http") == "http: " + "x" * MAX_NOTE_BYTES
    heartbeats.set_pid(1, 0)
    assert heartbeats.pids() == {}
