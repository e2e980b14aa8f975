"""Only the file that the replicator writes is reported as fresh, and only facts that were read after that was known."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gate.clock import monotonic_ms
from gate.errors import ReplicaError
from gate.replica import status_page as status_page_module
from gate.replica.files import make_current
from gate.replica.layout import BOARD_FILE
from gate.replica.reader import Replica, status_of
from gate.replica.reading import Reading
from gate.replica.status_page import FRESH_GRACE_MS, NEVER_FRESH_MS, StatusPage
from tests.replica.ledger import Ledger, app_facts, said


class Site:
    """A facts file in use and its status_page, freshly stamped; `bob` is on alice's blacklist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ledger = Ledger(directory, 1, app_facts())
        self.older = directory.parent / "older"
        shutil.copy(self.ledger.file.path, self.older)
        for member in (b"bob", b"zoe"):  # two, since LMDB reads the one or the other half of what a copy has
            self.ledger.commit(said("blocked", b"alice", member))
        self.status_page = StatusPage(directory / BOARD_FILE, write=True)
        self.status_page.use(1, self.ledger.file.identity)
        self.stamp()

    def stamp(self) -> None:
        self.status_page.stamp(monotonic_ms())

    def swap(self) -> Ledger:
        """Put another file in use, in which bob is not blocked."""
        fresh = Ledger(self.directory, 2, app_facts(), current=False)
        make_current(fresh.file.path)
        self.status_page.use(2, fresh.file.identity)
        self.stamp()
        return fresh

    def close(self) -> None:
        self.status_page.close()
        self.ledger.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "replica")
    yield made
    made.close()


class Program:
    """Another process with a `gate.Replica`: it answers each line with its `stale_ms` and then a verdict."""

    _TEXT = """
import sys
from gate import Replica
replica = Replica.open(sys.argv[1], app="app")
print("opened", flush=True)
for line in sys.stdin:
    print(replica.status.stale_ms, replica.verdict("bob", "alice").word, flush=True)
"""

    def __init__(self, site: Site, directory: Path | None = None) -> None:
        self._site = site
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._TEXT, str(directory or site.directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "opened\n"

    def __call__(self) -> tuple[int, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._site.stamp()  # just now: a busy machine takes its time to start a process
        print(file=self._process.stdin, flush=True)
        age, word = self._process.stdout.readline().split()
        return int(age), word

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


FRESH = (0, "blacklisted")


def test_a_copy_moved_over_the_file_is_of_unknown_age(site: Site) -> None:
    with Program(site) as before:
        assert before() == FRESH
        site.older.replace(site.ledger.file.path)
        with Program(site) as after:
            assert after() == (NEVER_FRESH_MS, "allowed")
        assert before() == FRESH


def test_who_has_facts_does_not_leave_them_for_a_copy(site: Site) -> None:
    with Program(site) as program:
        assert program() == FRESH
        site.older.replace(site.ledger.file.path)
        site.status_page.put(generation=1)
        assert program() == (NEVER_FRESH_MS, "blacklisted"), "the word moved, and the file that it is of is not there"
        fresh = site.swap()
        assert program() == (0, "allowed")
    fresh.close()


def test_a_copy_moved_over_the_next_file_is_not_moved_to(site: Site) -> None:
    with Program(site) as program:
        assert program() == FRESH
        fresh = site.swap()
        site.older.replace(fresh.file.path)
        assert program() == (NEVER_FRESH_MS, "blacklisted")
    fresh.close()


def test_a_copy_of_the_whole_directory_is_of_unknown_age(site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.directory, tmp_path / "copy")
    with Program(site, tmp_path / "copy") as program:
        assert program() == (NEVER_FRESH_MS, "blacklisted")


def test_facts_are_not_fresh_while_the_next_file_cannot_be_opened(site: Site) -> None:
    """As where a program has no descriptor left: it goes on with the old ones, which no one keeps in step any more."""
    with Program(site) as program:
        assert program() == FRESH
        fresh = site.swap()
        lock, away = site.directory / "facts-2.mdb-lock", site.directory / "away"
        lock.rename(away)
        assert program() == (NEVER_FRESH_MS, "blacklisted")
        away.rename(lock)
        assert program() == (0, "allowed")
    fresh.close()


def test_a_stamp_made_after_a_swap_does_not_count_for_the_old_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is paused while it reads the age."""
    reading = Reading(site.directory)
    swapped: list[Ledger] = []
    stale_ms = StatusPage.stale_ms

    def paused(status_page: StatusPage, now_ms: int) -> int:
        age_ms = stale_ms(status_page, now_ms)
        if not swapped:
            swapped.append(site.swap())
            (site.directory / "facts-3.mdb").write_bytes(b"no facts" * 2_000)
            make_current(site.directory / "facts-3.mdb")
        return age_ms

    site.status_page.stamp(monotonic_ms() - 10_000)
    monkeypatch.setattr(StatusPage, "stale_ms", paused)
    assert reading.stale_ms() == NEVER_FRESH_MS
    reading.close()
    swapped[0].close()


def test_a_stamp_of_the_future_is_damage(site: Site) -> None:
    reader = Reading(site.directory)
    assert (reader.view().stale_ms, status_of(reader).stale_ms) == (0, 0)
    site.status_page.stamp(monotonic_ms() + FRESH_GRACE_MS + 60_000)
    assert (reader.view().stale_ms, status_of(reader).stale_ms) == (NEVER_FRESH_MS, NEVER_FRESH_MS)
    reader.close()


def test_a_program_that_was_there_before_the_replicator_sees_it_stamp(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the status page of the boot before."""
    site.status_page.put(boot=1)
    reader = Reading(site.directory)
    assert reader.view().stale_ms == NEVER_FRESH_MS
    again = StatusPage(site.directory / BOARD_FILE, write=True)
    again.use(1, site.ledger.file.identity)
    again.stamp(monotonic_ms())
    monkeypatch.setattr(status_page_module, "LOOK_AGAIN_MS", 0)
    assert reader.view().stale_ms == 0
    reader.close()
    again.close()


def _in_a_child(act: Callable[[], str]) -> str:
    """What `act` says in a child of a fork."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sending, act().encode())
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as said:
        answer = said.read()
    os.waitpid(child, 0)
    return answer


def _refused(ask: Callable[[], object]) -> str:
    try:
        return f"answered {ask()}"
    except ReplicaError as fault:
        return str(fault)


def test_after_a_fork_the_child_is_refused_and_the_parent_keeps_its_place(site: Site) -> None:
    """Both would have one place in LMDB's table of readers: the writer would write over pages that one of them reads."""
    with Replica.open(site.directory, app="app") as replica:
        assert not replica.may_send("bob", "alice")
        for ask in (
            lambda: replica.may_send("bob", "alice"),
            lambda: replica.verdict("bob", "alice"),
            lambda: Replica.open(site.directory, app="app"),
        ):
            assert "fork" in _in_a_child(lambda ask=ask: _refused(ask))  # type: ignore[misc]
        assert not replica.may_send("bob", "alice")


def test_a_child_may_open_what_its_parent_did_not(site: Site) -> None:
    def asked() -> str:
        with Replica.open(site.directory, app="app") as replica:
            return replica.verdict("bob", "alice").word

    site.ledger.close()
    assert _in_a_child(asked) == "blacklisted"
    site.ledger = Ledger(site.directory, 9, current=False)
