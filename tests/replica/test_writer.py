from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate.core.changes import check_follows
from gate.core.model import FOREVER_MS, ListKind, UserFacts
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaFull
from gate.replica.layout import (
    JOURNAL_COMMITS,
    JOURNAL_EVERYTHING,
    META_SUCCESSOR,
    journal_key,
    position_key,
    unpack_journal,
    unpack_position,
)
from gate.replica.writer import FactsFile
from harness.seeds import examples
from tests.replica.model import Changes, facts_in
from tests.replica.ops import Op, ops
from tests.replica.scripted import ScriptedRedis

EPOCH = "e" * 16
START = Position(EPOCH, 0, "")


def new_file(directory: Path, partitions: int = 2, **rest: int) -> FactsFile:
    file = FactsFile.create(directory / "facts-1.mdb", partitions, **rest)
    file.finish([START] * partitions, 1)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FactsFile]:
    opened = new_file(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def changes() -> Changes:
    return Changes(EPOCH)


class TestEachKindOfChange:
    def user(self, file: FactsFile, user: bytes = b"u") -> UserFacts:
        return facts_in(file).users.get(("app", user), UserFacts())

    def test_own_facts_are_set_and_lifted(self, file: FactsFile, changes: Changes) -> None:
        file.apply(
            {
                1: [
                    changes.app_set(),
                    changes("user-registered", b"u", value=b"1"),
                    changes("user-deactivated", b"u"),
                    changes("ban-imposed", b"u", until_ms=5),
                    changes("ban-imposed", b"u", until_ms=3),
                    changes("mute-imposed", b"u", until_ms=FOREVER_MS),
                    changes("tokens-revoked", b"u", value=b"77"),
                    changes("whitelist-switched", b"u", value=b"1"),
                ]
            },
            1,
        )
        assert self.user(file) == UserFacts(
            registered=True, deactivated=True, banned_until_ms=3, muted_until_ms=FOREVER_MS,
            tokens_valid_from_ms=77, whitelist_on=True,
        )  # fmt: skip
        lifts = ["user-reactivated", "ban-lifted", "mute-lifted"]
        file.apply({1: [changes(kind, b"u") for kind in lifts]}, 1)
        file.apply({1: [changes("whitelist-switched", b"u", value=b"0")]}, 1)
        assert self.user(file) == UserFacts(registered=True, tokens_valid_from_ms=77)

    def test_a_user_without_facts_is_deleted(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes.app_set(), changes("ban-imposed", b"u", until_ms=5)]}, 1)
        file.apply({0: [changes("ban-lifted", b"u")]}, 1)
        assert ("app", b"u") not in facts_in(file).users

    def test_list_sizes_count_an_entry_once(self, file: FactsFile, changes: Changes) -> None:
        file.apply(
            {
                0: [
                    changes.app_set(),
                    changes("blocked", b"u", [b"a", b"b", b"a"], until_ms=FOREVER_MS),
                    changes("blocked", b"u", [b"b", b"c"], until_ms=9),
                    changes("unblocked", b"u", [b"a", b"never there"]),
                    changes("admitted", b"u", [b"a"], until_ms=FOREVER_MS),
                ]
            },
            1,
        )
        facts = facts_in(file)
        assert self.user(file) == UserFacts(blacklist_size=2, whitelist_size=1)
        assert facts.entries == {
            ("app", ListKind.BLACKLIST, b"u", b"b"): 9,
            ("app", ListKind.BLACKLIST, b"u", b"c"): 9,
            ("app", ListKind.WHITELIST, b"u", b"a"): FOREVER_MS,
        }

    def test_an_end_may_be_taken_off_again(self, file: FactsFile, changes: Changes) -> None:
        blocks = [changes("blocked", b"u", [b"a"], until_ms=until) for until in (9, FOREVER_MS)]
        file.apply({0: [*blocks, changes.app_set()]}, 1)
        assert facts_in(file).entries == {("app", ListKind.BLACKLIST, b"u", b"a"): FOREVER_MS}
        assert self.user(file).blacklist_size == 1

    def test_erasing_a_user_leaves_its_place_on_others_lists(self, file: FactsFile, changes: Changes) -> None:
        file.apply(
            {
                0: [
                    changes.app_set(),
                    changes("ban-imposed", b"u", until_ms=5),
                    changes("blocked", b"u", [b"a"], until_ms=FOREVER_MS),
                    changes("blocked", b"a", [b"u"], until_ms=FOREVER_MS),
                    changes("blocked", b"uu", [b"a"], until_ms=FOREVER_MS),
                    changes("user-erased", b"u"),
                ]
            },
            1,
        )
        facts = facts_in(file)
        assert set(facts.users) == {("app", b"a"), ("app", b"uu")}
        assert {(owner, member) for _, _, owner, member in facts.entries} == {(b"a", b"u"), (b"uu", b"a")}

    def test_an_erased_user_may_stay_deactivated(self, file: FactsFile, changes: Changes) -> None:
        before = [changes.app_set(), changes("ban-imposed", b"u", until_ms=5), changes("user-deactivated", b"u")]
        file.apply({0: [*before, changes("user-erased", b"u", value=b"d")]}, 1)
        assert self.user(file) == UserFacts(deactivated=True)
        file.apply({0: [changes("user-erased", b"u", value=b"dr")]}, 1)
        assert self.user(file) == UserFacts(deactivated=True, registered=True)

    def test_a_users_change_may_come_before_its_app(self, file: FactsFile) -> None:
        users, apps = Changes(EPOCH), Changes(EPOCH)
        file.apply({1: [users("ban-imposed", b"u", until_ms=5)]}, 1)
        assert facts_in(file).users == {}
        file.apply({0: [apps.app_set()]}, 1)
        assert self.user(file).banned_until_ms == 5

    def test_settings_are_replaced(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes.app_set(), changes.app_set(list_policy="both")]}, 1)
        assert facts_in(file).apps["app"].list_policy == "both"


class TestRemovedApps:
    def test_it_is_gone_at_once_and_its_facts_by_and_by(self, file: FactsFile, changes: Changes) -> None:
        many = [changes("blocked", b"u", [b"m%d" % i for i in range(50)], until_ms=FOREVER_MS)]
        file.apply({0: [*many, changes.app_set(), changes.app_set("other")]}, 1)
        file.apply({0: [changes("app-removed")]}, 1)
        assert set(facts_in(file).apps) == {"other"}
        steps = 0
        while file.purge(10):
            steps += 1
        assert steps >= 5
        with file.read() as txn:
            assert not [key for key, _ in txn.cursor() if bytes(key[:1]) in b"UL"]

    def test_what_comes_for_it_later_is_dropped_and_the_position_moves(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes.app_set(), changes("app-removed")]}, 1)
        file.apply({0: [changes("ban-imposed", b"u", until_ms=5)]}, 1)
        assert facts_in(file).users == {}
        assert file.positions[0].seq == 3

    def test_created_again_it_needs_a_fresh_snapshot(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes.app_set(), changes("app-removed")]}, 1)
        with pytest.raises(ChangelogBroken) as caught:
            file.apply({0: [changes.app_set()]}, 1)
        assert caught.value.reason == "recreated"


class TestOrder:
    def test_the_next_change_follows(self, changes: Changes) -> None:
        first, second = changes("ban-lifted", b"u"), changes("ban-lifted", b"u")
        position = check_follows(START, [first, second])
        assert position == Position(EPOCH, 2, second.write_id)

    def test_a_hole_is_seen(self, changes: Changes) -> None:
        changes("ban-lifted", b"u")
        with pytest.raises(ChangelogBroken, match="hole"):
            check_follows(START, [changes("ban-lifted", b"u")])

    def test_a_repetition_is_seen(self, changes: Changes) -> None:
        change = changes("ban-lifted", b"u")
        with pytest.raises(ChangelogBroken, match="hole"):
            check_follows(Position(EPOCH, 1, change.write_id), [change])

    def test_another_history_of_the_same_numbers_is_seen(self, changes: Changes) -> None:
        changes("ban-lifted", b"u")
        with pytest.raises(ChangelogBroken, match="forked"):
            check_follows(Position(EPOCH, 1, "another"), [changes("ban-lifted", b"u")])

    def test_a_break_leaves_facts_and_positions_as_they_were(self, file: FactsFile, changes: Changes) -> None:
        good = [changes.app_set(), changes("ban-imposed", b"u", until_ms=5)]
        changes("ban-lifted", b"u")
        with pytest.raises(ChangelogBroken):
            file.apply({0: [*good, changes("ban-lifted", b"u")], 1: []}, 1)
        assert facts_in(file).apps == {}
        assert file.positions == (START, START)
        file.apply({0: good}, 1)
        assert file.positions[0].seq == 2


class TestCommits:
    def test_positions_and_facts_are_one_commit(self, file: FactsFile, changes: Changes) -> None:
        moved = file.apply({0: [changes.app_set()]}, 42)
        with file.read() as txn:
            record = unpack_position(bytes(txn.get(position_key(0)) or b""))
        assert moved == {0: record.position} == {0: file.positions[0]}
        assert record.applied_at_ms == 42

    def test_the_journal_names_exactly_the_users_touched(self, file: FactsFile, changes: Changes) -> None:
        file.apply({0: [changes.app_set()]}, 1)
        blocked = changes("blocked", b"\x00o:", [b"m"], until_ms=FOREVER_MS)
        file.apply({0: [blocked, changes("ban-imposed", b"u", until_ms=5)]}, 1)
        with file.read() as txn:
            journal = bytes(txn.get(journal_key(txn.id()), b"?"))
        assert {user for _, user in unpack_journal(journal)} == {b"\x00o:", b"u"}

    def test_an_entry_that_only_gets_another_end_touches_no_user(self, file: FactsFile, changes: Changes) -> None:
        first = [changes.app_set(), changes("blocked", b"o", [b"m"], until_ms=FOREVER_MS)]
        file.apply({0: first}, 1)
        file.apply({0: [changes("blocked", b"o", [b"m"], until_ms=9)]}, 1)
        with file.read() as txn:
            assert bytes(txn.get(journal_key(txn.id()), b"?")) == b""

    def test_a_commit_that_touches_very_many_says_everything(
        self, file: FactsFile, changes: Changes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gate.replica.facts_txn.MAX_JOURNAL_USERS", 3)
        file.apply({0: [changes("ban-imposed", b"u%d" % i, until_ms=5) for i in range(4)]}, 1)
        with file.read() as txn:
            assert bytes(txn.get(journal_key(txn.id()), b"?")) == JOURNAL_EVERYTHING

    def test_old_journals_are_let_go(self, file: FactsFile, changes: Changes) -> None:
        for _ in range(JOURNAL_COMMITS + 20):
            file.apply({0: [changes("ban-lifted", b"u")]}, 1)
        with file.read() as txn:
            journals = [key for key, _ in txn.cursor() if key[:1] == b"J"]
        assert len(journals) == JOURNAL_COMMITS

    def test_no_room_aborts_the_whole_commit_and_the_file_goes_on(self, tmp_path: Path, changes: Changes) -> None:
        file = new_file(tmp_path, map_bytes=128 << 10)
        try:
            file.apply({0: [changes.app_set()]}, 1)
            before = facts_in(file)
            too_much = changes("blocked", b"u", [b"%064d" % i for i in range(5_000)], until_ms=FOREVER_MS)
            with pytest.raises(ReplicaFull):
                file.apply({0: [too_much]}, 1)
            assert facts_in(file) == before
            assert file.positions[0].seq == 1
            changes.log.pop()
            file.apply({0: [changes("ban-imposed", b"u", until_ms=5)]}, 1)
            assert file.positions[0].seq == 2
        finally:
            file.close()

    def test_the_successor_is_named(self, file: FactsFile) -> None:
        file.name_successor("facts-2.mdb")
        with file.read() as txn:
            assert txn.get(META_SUCCESSOR) == b"facts-2.mdb"


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(ops, max_size=40), cuts=st.sets(st.integers(0, 40)))
def test_any_history_in_any_batches_ends_as_the_model_says(
    tmp_path_factory: pytest.TempPathFactory, history: list[Op], cuts: set[int]
) -> None:
    redis = ScriptedRedis()
    removed: set[str] = set()
    file = FactsFile.create(tmp_path_factory.mktemp("facts") / "facts-1.mdb", 2)
    try:
        file.finish([Position(log.epoch, 0, "") for log in redis.logs], 1)
        for index, op in enumerate(history):
            if op.kind == "app-set" and op.app in removed:
                continue  # only a fresh snapshot can follow that
            if op.kind == "app-removed":
                removed.add(op.app)
            if op.kind not in ("app-set", "app-removed") and op.app in removed:
                continue  # the store refuses it
            op.write_to(redis)
            if index in cuts:
                _apply_all(redis, file)
        _apply_all(redis, file)
        assert facts_in(file) == redis.model.facts()
    finally:
        file.close()


def _apply_all(redis: ScriptedRedis, file: FactsFile) -> None:
    pairs = enumerate(zip(redis.logs, file.positions, strict=True))
    file.apply({p: [c for c in log.log if c.seq > position.seq] for p, (log, position) in pairs}, 1)
