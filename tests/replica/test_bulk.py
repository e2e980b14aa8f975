from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.revision import NOWHERE
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.replica.bulk import SnapshotBuild
from gate.replica.sorter import Run, Sorter
from gate.replica.writer import FactsFile
from harness.seeds import examples, seed
from tests.replica.model import Changes, facts_in
from tests.replica.ops import IDS

SEED = seed(7)

APP = AppPart(AppFacts(key="app", secrets=("s",)))
BLACK, WHITE = ListKind.BLACKLIST, ListKind.WHITELIST


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FactsFile]:
    opened = FactsFile.create(tmp_path / "facts-1.mdb", 1)
    yield opened
    opened.close()


def build(file: FactsFile, parts: list[Part], batch_keys: int = 100_000, parts_a_batch: int = 3) -> None:
    made = SnapshotBuild(file, file.path.with_suffix(".loading"), batch_keys)
    try:
        for start in range(0, len(parts), parts_a_batch):
            made.add(parts[start : start + parts_a_batch])
        for _ in made.steps():
            pass
    finally:
        made.close()
    file.finish([NOWHERE], 1)


class TestSorter:
    def runs(self, count: int) -> list[Run]:
        shuffled = [(b"%06d" % (i // 2), b"v%d" % i, (b"m",)) for i in range(count)]
        random.Random(SEED).shuffle(shuffled)
        return list(shuffled)

    @pytest.mark.parametrize("batch_keys", [1, 7, 100, 10_000])
    def test_all_come_out_in_order_and_one_prefix_in_one_batch(self, tmp_path: Path, batch_keys: int) -> None:
        runs = self.runs(2_000)
        sorter = Sorter(tmp_path / "scratch", batch_keys)
        for run in runs:
            sorter.add([run], 1)
        batches = list(sorter.batches())
        assert [run[0] for batch in batches for run in batch] == sorted(run[0] for run in runs)
        prefixes = [{run[0] for run in batch} for batch in batches]
        assert sum(map(len, prefixes)) == len(set().union(*prefixes))
        assert sorted((p, v, tuple(m)) for batch in batches for p, v, m in batch) == sorted(runs)
        sorter.close()
        assert not (tmp_path / "scratch").exists()

    def test_what_fits_into_one_batch_never_touches_the_disk(self, tmp_path: Path) -> None:
        sorter = Sorter(tmp_path / "scratch", 10_000)
        sorter.add(self.runs(100), 100)
        assert len(list(sorter.batches())) == 1
        assert not (tmp_path / "scratch").exists()

    def test_nothing_at_all(self, tmp_path: Path) -> None:
        assert list(Sorter(tmp_path / "scratch").batches()) == [[]]


class TestOneSnapshot:
    def test_users_lists_and_sizes(self, file: FactsFile) -> None:
        build(
            file,
            [
                ListPart("app", BLACK, b"o", [b"b", b"a"], FOREVER_MS),
                UserPart("app", b"o", UserFacts(banned_until_ms=5)),
                APP,
                ListPart("app", WHITE, b"o", [b"c"], FOREVER_MS),
                UserPart("app", b"plain", UserFacts()),
                ListPart("app", BLACK, b"p", [b"a"], FOREVER_MS),
            ],
        )
        facts = facts_in(file)
        assert facts.users == {
            ("app", b"o"): UserFacts(banned_until_ms=5, blacklist_size=2, whitelist_size=1),
            ("app", b"p"): UserFacts(blacklist_size=1),
        }
        assert len(facts.entries) == 4

    @pytest.mark.parametrize("end_first", [True, False])
    def test_an_entry_shown_with_and_without_its_end_ends_and_counts_once(
        self, file: FactsFile, end_first: bool
    ) -> None:
        parts: list[Part] = [
            ListPart("app", BLACK, b"o", [b"a", b"b"], FOREVER_MS),
            ListPart("app", BLACK, b"o", [b"a"], 9),
        ]
        build(file, [APP, *(reversed(parts) if end_first else parts)])
        facts = facts_in(file)
        assert facts.entries == {("app", BLACK, b"o", b"a"): 9, ("app", BLACK, b"o", b"b"): FOREVER_MS}
        assert facts.users["app", b"o"].blacklist_size == 2

    def test_a_list_that_the_scan_shows_twice_counts_once(self, file: FactsFile) -> None:
        shown = ListPart("app", BLACK, b"o", [b"a", b"b"], FOREVER_MS)
        build(file, [APP, shown, UserPart("app", b"u", UserFacts(registered=True)), shown], batch_keys=1)
        assert facts_in(file).users["app", b"o"].blacklist_size == 2

    def test_the_facts_of_an_app_without_record_stay_hidden_for_ever(self, file: FactsFile) -> None:
        build(file, [APP, ListPart("gone", BLACK, b"o", [b"a"], FOREVER_MS)])
        assert set(facts_in(file).apps) == {"app"}
        late = Changes("", app="gone")
        file.apply({0: [late("ban-imposed", b"o", until_ms=5)]}, 1)
        while file.purge(100):
            pass
        with file.read() as txn:
            assert not [key for key, _ in txn.cursor() if bytes(key[:1]) in b"UL"]

    def test_changes_go_on_from_there(self, file: FactsFile) -> None:
        build(file, [APP, ListPart("app", BLACK, b"o", [b"a", b"b"], FOREVER_MS)])
        changes = Changes("")
        file.apply({0: [changes("unblocked", b"o", [b"a"]), changes("ban-imposed", b"new", until_ms=3)]}, 1)
        file.apply({0: [changes.app_set("second"), changes("ban-imposed", b"x", until_ms=3, app="second")]}, 1)
        facts = facts_in(file)
        assert facts.users == {
            ("app", b"o"): UserFacts(blacklist_size=1),
            ("app", b"new"): UserFacts(banned_until_ms=3),
            ("second", b"x"): UserFacts(banned_until_ms=3),
        }

    def test_an_empty_redis(self, file: FactsFile) -> None:
        build(file, [])
        assert facts_in(file).apps == {}
        file.apply({0: [Changes("").app_set()]}, 1)
        assert set(facts_in(file).apps) == {"app"}


_ids = st.sampled_from(IDS)
_parts = st.one_of(
    st.builds(
        ListPart,
        st.sampled_from(("app", "other")),
        st.sampled_from(ListKind),
        _ids,
        st.lists(_ids, min_size=1, max_size=3),
        st.sampled_from((FOREVER_MS, 9)),
    ),
    st.builds(UserPart, st.just("app"), _ids, st.builds(UserFacts, banned_until_ms=st.just(5))),
)


@settings(max_examples=examples(60), deadline=None)
@given(parts=st.lists(_parts, max_size=30), batch_keys=st.sampled_from((1, 5, 1_000)))
def test_any_parts_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, parts: list[ListPart | UserPart], batch_keys: int
) -> None:
    file = FactsFile.create(tmp_path_factory.mktemp("facts") / "facts-1.mdb", 1)
    try:
        build(file, [APP, AppPart(AppFacts(key="other", secrets=("s",))), *parts], batch_keys)
        facts = facts_in(file)
        expected: dict[tuple[str, ListKind, bytes, bytes], int] = {}
        for part in parts:
            if isinstance(part, ListPart):
                for member in part.members:
                    key = (part.app, part.kind, part.owner, member)
                    expected[key] = min(expected.get(key, FOREVER_MS), part.until_ms)
        assert facts.entries == expected
        for (app, user), own in facts.users.items():
            sizes = [sum(e[:3] == (app, kind, user) for e in expected) for kind in ListKind]
            assert [own.blacklist_size, own.whitelist_size] == sizes
        banned = {part.user for part in parts if isinstance(part, UserPart)}
        assert {user for (_, user), own in facts.users.items() if own.banned_until_ms} == banned
    finally:
        file.close()
