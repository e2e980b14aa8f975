from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gate.errors import ReplicaForeign, ReplicaMissing
from gate.replica import status_page as status_page_module
from gate.replica.status_page import FRESH_GRACE_MS, NEVER_FRESH_MS, State, StatusPage, StatusView

NOW_MS = 5_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


def test_a_reader_sees_what_the_replicator_puts(path: Path) -> None:
    writer, reader = StatusPage(path, write=True), StatusPage(path)
    writer.put(state=State.CURRENT, ready=1, lag=7, applied=99, reloads=2, generation=3)
    writer.stamp(NOW_MS)
    assert reader.view(NOW_MS) == StatusView(State.CURRENT, True, 0, os.getpid(), 2, 99, 7, 3)
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("age_ms", "stale_ms"), [(0, 0), (FRESH_GRACE_MS, 0), (FRESH_GRACE_MS + 1, FRESH_GRACE_MS + 1), (90_000, 90_000)]
)
def test_staleness_is_age_past_the_grace(path: Path, age_ms: int, stale_ms: int) -> None:
    status_page = StatusPage(path, write=True)
    status_page.stamp(NOW_MS)
    assert status_page.stale_ms(NOW_MS + age_ms) == stale_ms
    status_page.close()


def test_never_stamped_is_never_fresh(path: Path) -> None:
    status_page = StatusPage(path, write=True)
    assert status_page.stale_ms(NOW_MS) == NEVER_FRESH_MS
    status_page.close()


def test_a_new_replicator_keeps_when_facts_were_last_complete(path: Path) -> None:
    """Else every restart of it would make a node look as if it had never known anything."""
    first = StatusPage(path, write=True)
    first.put(state=State.CURRENT, ready=1, reloads=4)
    first.stamp(NOW_MS)
    first.close()
    second = StatusPage(path, write=True)
    view = second.view(NOW_MS + 2_000)
    assert (view.state, view.ready, view.reloads) == (State.LOADING, False, 0)
    assert view.stale_ms == 2_000
    second.close()


def test_a_stamp_of_another_boot_is_worth_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = StatusPage(path, write=True)
    first.stamp(NOW_MS)
    first.close()
    monkeypatch.setattr(status_page_module, "boot_id", lambda: b"another boot")
    reader = StatusPage(path)
    assert reader.stale_ms(NOW_MS) == NEVER_FRESH_MS
    reader.close()
    second = StatusPage(path, write=True)
    assert second.stale_ms(NOW_MS) == NEVER_FRESH_MS
    second.close()


def test_the_page_is_never_without_its_magic_for_a_reader(path: Path) -> None:
    StatusPage(path, write=True).close()
    words: list[int] = []

    class Watched(StatusPage):
        def put(self, **fields: int) -> None:
            super().put(**fields)
            words.append(int.from_bytes(path.read_bytes()[:8], sys.byteorder))

    Watched(path, write=True).close()
    assert len(words) >= 2
    assert 0 not in words


def test_none_here(path: Path) -> None:
    with pytest.raises(ReplicaMissing):
        StatusPage(path)


@pytest.mark.parametrize("content", [b"", b"short", b"\x00" * 4_096, b"x" * 4_096])
def test_no_status_page(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ReplicaForeign):
        StatusPage(path)


def test_it_is_for_this_user_alone(path: Path) -> None:
    StatusPage(path, write=True).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_page_that_was_taken_away_is_laid_out_again(path: Path) -> None:
    """A reader that maps the old page, and one that opens it now, see the same values at once."""
    writer, reader = StatusPage(path, write=True), StatusPage(path)
    writer.put(generation=7, state=State.CURRENT)
    writer.stamp(NOW_MS)
    chosen = reader.chosen[0]
    path.unlink()
    was_in_place = writer.is_in_place
    writer.recreate()
    assert (was_in_place, writer.is_in_place) == (False, True)
    assert reader.chosen[0] != chosen, "who compares that word looks again"
    assert reader.stale_ms(NOW_MS) == 0
    writer.stamp(NOW_MS + 5_000)
    for one in (reader, StatusPage(path)):
        assert one.view(NOW_MS + 5_000)[:3] == (State.CURRENT, False, 0)
        assert one.view(NOW_MS).generation == 7
        one.close()
    writer.close()


def test_a_reader_finds_the_page_that_another_writer_laid_out(path: Path) -> None:
    first, reader = StatusPage(path, write=True), StatusPage(path)
    first.stamp(NOW_MS)
    path.unlink()
    first.close()
    second = StatusPage(path, write=True)
    assert second.is_new
    assert reader.stale_ms(NOW_MS + 2_000) == NEVER_FRESH_MS
    second.stamp(NOW_MS + 2_000)
    assert reader.stale_ms(NOW_MS + 2_000) == 0
    reader.close()
    second.close()


def test_a_writer_remembers_the_generation_before_it(path: Path) -> None:
    first = StatusPage(path, write=True)
    first.put(generation=41)
    first.close()
    second = StatusPage(path, write=True)
    assert (second.last_generation, second.view(NOW_MS).generation) == (41, 0)
    second.close()
