from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import ReplicaForeign, ReplicaFull, ReplicaMissing
from gate.replica import files
from gate.replica.files import request_rebuild
from gate.replica.layout import current_facts


def touched(directory: Path, *names: str) -> list[Path]:
    for name in names:
        (directory / name).touch()
    return [directory / name for name in names]


def test_generations_go_up_past_everything_there_is(tmp_path: Path) -> None:
    assert files.next_facts(tmp_path).name == "facts-1.mdb"
    touched(tmp_path, "facts-2.mdb", "facts-10.mdb-lock", "facts-9.mdb", "facts-x.mdb", "board")
    assert files.next_facts(tmp_path).name == "facts-11.mdb"


def test_current_is_replaced_in_one_step(tmp_path: Path) -> None:
    first, second = touched(tmp_path, "facts-1.mdb", "facts-2.mdb")
    files.make_current(first)
    assert current_facts(tmp_path) == first
    files.make_current(second)
    assert current_facts(tmp_path) == second
    assert {path.name for path in tmp_path.iterdir()} == {"current", "facts-1.mdb", "facts-2.mdb"}


def test_nothing_current(tmp_path: Path) -> None:
    (first,) = touched(tmp_path, "facts-1.mdb")
    files.make_current(first)
    files.forget_current(tmp_path)
    with pytest.raises(ReplicaMissing):
        current_facts(tmp_path)
    files.forget_current(tmp_path)


@pytest.mark.parametrize("content", ["../../etc/passwd", "", "facts-1.mdb/../x", "facts-1"])
def test_a_current_that_names_no_facts_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "current").write_text(content)
    with pytest.raises(ReplicaForeign):
        current_facts(tmp_path)


def test_a_current_that_names_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("facts-3.mdb\n")
    with pytest.raises(ReplicaMissing):
        current_facts(tmp_path)


def test_leftovers_go_and_the_rest_stays(tmp_path: Path) -> None:
    kept, *_ = touched(
        tmp_path,
        "facts-2.mdb",
        "facts-2.mdb-lock",
        "facts-1.mdb",
        "facts-1.mdb-lock",
        "facts-3.mdb",
        "board",
        "current",
    )
    (tmp_path / "facts-3.loading" / "lists").mkdir(parents=True)
    files.delete_leftovers(tmp_path, kept)
    assert {path.name for path in tmp_path.iterdir()} == {"facts-2.mdb", "facts-2.mdb-lock", "board", "current"}


def test_a_request_is_heeded_once(tmp_path: Path) -> None:
    assert not files.rebuild_is_requested(tmp_path)
    request_rebuild(tmp_path)
    request_rebuild(tmp_path)
    assert files.rebuild_is_requested(tmp_path)
    files.rebuild_is_done(tmp_path)
    assert not files.rebuild_is_requested(tmp_path)


def test_room_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.require_room(tmp_path)
    monkeypatch.setattr(files, "MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(ReplicaFull, match="bytes are free"):
        files.require_room(tmp_path)


def test_current_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ReplicaFull, match="can't be written"):
        files.make_current(tmp_path / "no such directory" / "facts-1.mdb")


def test_a_generation_that_was_used_or_is_named_is_not_given_again(tmp_path: Path) -> None:
    assert files.next_facts(tmp_path, used=4).name == "facts-5.mdb"
    (tmp_path / "current").write_text("facts-8.mdb\n")
    assert files.next_facts(tmp_path, used=4).name == "facts-9.mdb"


def test_the_highest_name_there_can_be_is_passed_over(tmp_path: Path) -> None:
    touched(tmp_path, "facts-999999999999.mdb", "facts-2.mdb")
    assert files.next_facts(tmp_path).name == "facts-3.mdb"


def test_a_deletion_names_the_file_it_means(tmp_path: Path) -> None:
    (path,) = touched(tmp_path, "facts-1.mdb")
    meant = files.identity_of(path)
    path.rename(tmp_path / "kept so that its inode is not given again")
    path.touch()
    files.delete_facts(path, meant)
    assert path.exists()
    files.delete_facts(path, files.identity_of(path))
    assert not path.exists()


def test_what_cannot_be_deleted_stays(tmp_path: Path) -> None:
    (tmp_path / "facts-3.mdb").mkdir()
    (tmp_path / "current").mkdir()
    files.delete_leftovers(tmp_path, None)
    files.forget_current(tmp_path)
    assert (tmp_path / "facts-3.mdb").is_dir()
    with pytest.raises(ReplicaForeign, match="can't be read"):
        current_facts(tmp_path)
