"""The page of heartbeats: who is silent, and that two mappings see each other."""

from __future__ import annotations

from pathlib import Path

from gate.service.roles_board import SILENT_AFTER_MS, RolesBoard


def test_a_new_page_names_everybody_as_silent(tmp_path: Path) -> None:
    board = RolesBoard.lay_out(tmp_path / "roles", ["redis", "worker-0"])
    assert board.silent(10_000) == ["redis", "worker-0"]


def test_a_beat_counts_only_of_one_that_is_ready(tmp_path: Path) -> None:
    board = RolesBoard.lay_out(tmp_path / "roles", ["redis", "http"])
    board.beat(0, 10_000)
    board.beat(1, 10_000)
    board.set_ready(1, True)
    assert board.answering(10_000) == {"redis": False, "http": True}


def test_silence_begins_after_the_documented_time(tmp_path: Path) -> None:
    board = RolesBoard.lay_out(tmp_path / "roles", ["http"])
    board.beat(0, 10_000)
    board.set_ready(0, True)
    assert board.silent(10_000 + SILENT_AFTER_MS) == []
    assert board.silent(10_001 + SILENT_AFTER_MS) == ["http"]


def test_another_mapping_of_the_page_sees_it(tmp_path: Path) -> None:
    board = RolesBoard.lay_out(tmp_path / "roles", [f"worker-{index}" for index in range(64)])
    other = RolesBoard(tmp_path / "roles")
    other.beat(63, 5)
    other.set_ready(63, True)
    assert board.answering(5)["worker-63"]


def test_laying_out_anew_leaves_an_orphan_writing_to_its_own_page(tmp_path: Path) -> None:
    orphans = RolesBoard.lay_out(tmp_path / "roles", ["http"])
    board = RolesBoard.lay_out(tmp_path / "roles", ["http"])
    orphans.beat(0, 5)
    orphans.set_ready(0, True)
    assert board.silent(5) == ["http"]


def test_a_note_of_a_process_that_answers_is_a_warning(tmp_path: Path) -> None:
    board = RolesBoard.lay_out(tmp_path / "roles", ["redis", "http"])
    board.note(1, "clock of n1: 2.0 s ahead of Redis's")
    assert board.warnings(10_000) == []
    board.beat(1, 10_000)
    board.set_ready(1, True)
    assert board.warnings(10_000) == ["clock of n1: 2.0 s ahead of Redis's"]
    board.note(1, "")
    assert board.warnings(10_000) == []
