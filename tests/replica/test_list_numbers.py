"""List numbers: which Users have one, when it is assigned and released, that no entry is orphaned, and the room they save."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import lmdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.revision import NOWHERE, Position
from gate.core.snapshot import AppPart, ListPart
from gate.errors import ChangelogBroken
from gate.replica.bulk import SnapshotBuild
from gate.replica.layout import FIRST_LIST, LIST_NUMBERS, META_NEXT_LIST, pack_next_list, user_prefix
from gate.replica.reading import Reading
from gate.replica.writer import FactsFile
from harness.seeds import examples, seed
from tests.replica.ledger import Ledger, app_facts, said
from tests.replica.model import Changes, Model, check_numbers, facts_in, list_numbers

SEED = seed(1)

EPOCH = "e" * 16


def new_file(directory: Path) -> FactsFile:
    file = FactsFile.create(directory / "facts-1.mdb", 1)
    file.finish([Position(EPOCH, 0, "")], 1)
    return file


@pytest.fixture
def changes() -> Changes:
    return Changes(EPOCH)


@pytest.fixture
def file(tmp_path: Path, changes: Changes) -> Iterator[FactsFile]:
    opened = new_file(tmp_path)
    opened.apply({0: [changes.app_set()]}, 1)
    yield opened
    opened.close()


def numbers(file: FactsFile) -> dict[bytes, int]:
    """List number by User, of the first App."""
    with file.read() as txn:
        check_numbers(txn)
        return {key[3:]: number for key, number in list_numbers(txn).items() if key[:3] == user_prefix(0)[1:]}


class TestOneUser:
    def test_both_lists_share_a_number(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes("blocked", b"u", [b"a"], until_ms=9)]}, 1)
        before = numbers(file)
        file.apply({0: [changes("admitted", b"u", [b"a"], until_ms=FOREVER_MS)]}, 1)
        assert numbers(file) == before == {b"u": FIRST_LIST}

    def test_other_facts_leave_it_as_it_is(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes("blocked", b"u", [b"a"], until_ms=9), changes("ban-imposed", b"u", until_ms=5)]}, 1)
        file.apply({0: [changes("ban-lifted", b"u"), changes("ban-imposed", b"other", until_ms=5)]}, 1)
        assert numbers(file) == {b"u": FIRST_LIST}

    def test_the_last_entry_takes_it_along(self, file: FactsFile, changes: Changes) -> None:
        file.apply(
            {0: [changes("blocked", b"u", [b"a"], until_ms=9), changes("admitted", b"u", [b"a"], until_ms=9)]}, 1
        )
        file.apply({0: [changes("unblocked", b"u", [b"a"])]}, 1)
        assert numbers(file) == {b"u": FIRST_LIST}
        file.apply({0: [changes("unadmitted", b"u", [b"a"])]}, 1)
        assert numbers(file) == {}

    @pytest.mark.parametrize("at_once", [True, False], ids=["in one commit", "in two"])
    @pytest.mark.parametrize("emptied_by", ["unblocked", "user-erased"])
    def test_a_list_that_was_emptied_is_filled_again(
        self, file: FactsFile, changes: Changes, at_once: bool, emptied_by: str
    ) -> None:
        file.apply({0: [changes("blocked", b"u", [b"a", b"b"], until_ms=9)]}, 1)
        steps = [
            changes(emptied_by, b"u", [b"a", b"b"] if emptied_by == "unblocked" else []),
            changes("blocked", b"u", [b"b", b"c"], until_ms=FOREVER_MS),
        ]
        for commit in [steps] if at_once else [[step] for step in steps]:
            file.apply({0: commit}, 1)
        assert numbers(file) == {b"u": FIRST_LIST + 1}
        assert facts_in(file).entries == {("app", ListKind.BLACKLIST, b"u", m): FOREVER_MS for m in (b"b", b"c")}

    def test_a_reader_that_knows_the_old_number_learns_the_new_one(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "replica", 1, app_facts())
        reading = Reading(tmp_path / "replica")

        def word() -> str:
            reading.refresh()
            app = reading.app("app")
            assert app is not None
            found = app.word(b"a", b"u")
            reading.release()
            return found

        ledger.commit(said("blocked", b"u", b"a"))
        assert word() == "blacklisted"
        ledger.commit(said("unblocked", b"u", b"a"), said("blocked", b"u", b"b"))
        assert word() == "allowed"
        ledger.commit(said("blocked", b"u", b"a"))
        assert word() == "blacklisted"
        ledger.commit(said("user-erased", b"u"), said("whitelist-switched", b"u", value=b"1"))
        assert word() == "not-whitelisted", "on and empty, so without a number"
        ledger.commit(said("admitted", b"u", b"a"))
        assert word() == "allowed"
        reading.close()
        ledger.close()


class TestGiving:
    def test_none_is_given_twice_across_restarts(self, tmp_path: Path, changes: Changes) -> None:
        file = new_file(tmp_path)
        file.apply({0: [changes.app_set()]}, 1)

        def fill_and_empty() -> int:
            file.apply({0: [changes("blocked", b"u", [b"a"], until_ms=9)]}, 1)
            given = numbers(file)[b"u"]
            file.apply({0: [changes("unblocked", b"u", [b"a"])]}, 1)
            return given

        given = [fill_and_empty(), fill_and_empty()]
        file.close_clean()
        file = FactsFile.open(file.path)
        given += [fill_and_empty(), fill_and_empty()]
        assert given == sorted(set(given))
        file.close()

    def test_a_commit_that_fails_gives_none(self, file: FactsFile, changes: Changes) -> None:
        blocked = changes("blocked", b"u", [b"a"], until_ms=9)
        with pytest.raises(ChangelogBroken):
            file.apply({0: [blocked, blocked]}, 1)
        file.apply({0: [blocked]}, 1)
        assert numbers(file) == {b"u": FIRST_LIST}

    def test_a_snapshot_numbers_its_lists_in_order_and_later_ones_go_on(self, tmp_path: Path) -> None:
        file = FactsFile.create(tmp_path / "facts-1.mdb", 1)
        build = SnapshotBuild(file, tmp_path / "loading", batch_keys=7)
        build.add([AppPart(app_facts())])
        for owner in random.Random(SEED).sample(range(100), 100):
            build.add([ListPart("app", kind, b"%03d" % owner, [b"b", b"a"], FOREVER_MS) for kind in ListKind])
        for _ in build.steps():
            pass
        build.close()
        assert not (tmp_path / "loading").exists()
        file.finish([NOWHERE], 1)
        assert numbers(file) == {b"%03d" % owner: FIRST_LIST + owner for owner in range(100)}
        file.apply({0: [Changes("")("blocked", b"new", [b"a"], until_ms=9)]}, 1)
        assert numbers(file)[b"new"] == FIRST_LIST + 100
        file.close()

    def test_used_up_they_ask_for_a_fresh_file(self, file: FactsFile, changes: Changes) -> None:
        with file.write() as txn:
            txn.put(META_NEXT_LIST, pack_next_list(LIST_NUMBERS - 1))
        file.apply({0: [changes("blocked", b"last", [b"a"], until_ms=9)]}, 1)
        assert numbers(file) == {b"last": LIST_NUMBERS - 1}
        one_more = changes("blocked", b"one more", [b"a"], until_ms=9)
        with pytest.raises(ChangelogBroken, match="list-numbers"):
            file.apply({0: [one_more]}, 1)
        assert numbers(file) == {b"last": LIST_NUMBERS - 1}


def test_a_removed_app_takes_only_its_own_users_entries_along(file: FactsFile, changes: Changes) -> None:
    members = [b"m%d" % i for i in range(7)]
    blocks = [
        changes("blocked", b"u%d" % i, members, until_ms=9, app=app) for i in range(10) for app in ("app", "other")
    ]
    file.apply({0: [*blocks, changes("ban-imposed", b"v", until_ms=5), changes.app_set("other")]}, 1)
    before = {entry: end for entry, end in facts_in(file).entries.items() if entry[0] == "other"}
    file.apply({0: [changes("app-removed")]}, 1)
    counts = [_facts_left(file)]
    while file.purge(4):
        counts.append(_facts_left(file))
        assert counts[-2] - counts[-1] <= 4
    assert facts_in(file).entries == before
    assert len(before) == 70
    assert counts[-1] == 70 + 10


def _facts_left(file: FactsFile) -> int:
    with file.read() as txn:
        return sum(key[:1] in (b"U", b"L") for key in cast("Iterator[bytes]", txn.cursor().iternext(values=False)))


_owners = st.integers(0, 40).map(lambda i: b"owner\x00%d" % i)
_members = st.lists(st.integers(0, 6).map(lambda i: b"%d" % i), min_size=1, max_size=5)
_apps = st.sampled_from(("one", "two"))


class ManyOwners(RuleBasedStateMachine):
    """Lists of many Users of two Apps come and go, in commits of any size, across restarts; a naive model says the rest."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.file = new_file(Path(self.directory.name))
        self.changes = Changes(EPOCH)
        self.model = Model()
        self.pending = [self.changes.app_set(app) for app in ("one", "two")]

    @rule(app=_apps, owner=_owners, members=_members, kind=st.sampled_from(("blocked", "admitted")))
    def add(self, app: str, owner: bytes, members: list[bytes], kind: str) -> None:
        self.pending.append(self.changes(kind, owner, members, until_ms=FOREVER_MS, app=app))

    @rule(app=_apps, owner=_owners, members=_members, kind=st.sampled_from(("unblocked", "unadmitted")))
    def remove(self, app: str, owner: bytes, members: list[bytes], kind: str) -> None:
        self.pending.append(self.changes(kind, owner, members, app=app))

    @rule(choose=st.randoms(use_true_random=False))
    def empty_a_list(self, choose: random.Random) -> None:
        if self.model.entries:
            app, kind, owner, _ = choose.choice(sorted(self.model.entries))
            members = [entry[3] for entry in self.model.entries if entry[:3] == (app, kind, owner)]
            word = "unblocked" if kind is ListKind.BLACKLIST else "unadmitted"
            self.pending.append(self.changes(word, owner, members, app=app))

    @rule(app=_apps, owner=_owners, kind=st.sampled_from(("ban-imposed", "ban-lifted", "user-erased")))
    def change_the_user(self, app: str, owner: bytes, kind: str) -> None:
        self.pending.append(self.changes(kind, owner, until_ms=5 if kind == "ban-imposed" else 0, app=app))

    @rule()
    def commit(self) -> None:
        pending, self.pending = self.pending, []
        for change in pending:
            self.model.apply(change)
        self.file.apply({0: pending}, 1)

    @rule()
    def restart(self) -> None:
        self.file.close()
        self.file = FactsFile.open(self.file.path)

    @invariant()
    def facts_are_the_models(self) -> None:
        if not self.pending:
            assert facts_in(self.file) == self.model.facts()

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            self.directory.cleanup()


TestManyOwners = ManyOwners.TestCase
TestManyOwners.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestWhatTheySave:
    """Bytes an entry in the tree, records of owners included, with 12-byte ids and 25 entries an owner."""

    OWNERS, MEMBERS = 4_000, 25

    def lists(self) -> list[tuple[bytes, list[bytes]]]:
        chance = random.Random(SEED)
        ids = [b"user%08d" % i for i in chance.sample(range(10**8), 5 * self.OWNERS)]
        return [(owner, chance.sample(ids, self.MEMBERS)) for owner in ids[: self.OWNERS]]

    def bytes_an_entry(self, path: Path) -> float:
        """Pages in use: those that the last commits left free to be used again are the same few in a file of any size."""
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env:
            stat = env.stat()
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * stat["psize"] / (self.OWNERS * self.MEMBERS)

    def test_after_a_snapshot(self, tmp_path: Path) -> None:
        file = FactsFile.create(tmp_path / "facts-1.mdb", 1)
        build = SnapshotBuild(file, tmp_path / "loading")
        build.add([AppPart(AppFacts(key="app", secrets=("s",)))])
        build.add([ListPart("app", ListKind.BLACKLIST, owner, entries, FOREVER_MS) for owner, entries in self.lists()])
        for _ in build.steps():
            pass
        build.close()
        file.finish([NOWHERE], 1)
        file.close()
        assert self.bytes_an_entry(file.path) < 35

    def test_after_following_single_entries_in_random_order(self, tmp_path: Path, changes: Changes) -> None:
        file = new_file(tmp_path)
        pairs = [(owner, member) for owner, members in self.lists() for member in members]
        random.Random(SEED).shuffle(pairs)
        for start in range(0, len(pairs), 5_000):
            batch = pairs[start : start + 5_000]
            file.apply({0: [changes("blocked", o, [m], until_ms=FOREVER_MS) for o, m in batch]}, 1)
        file.close()
        assert self.bytes_an_entry(file.path) < 55
