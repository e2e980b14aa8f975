"""The compiled core against the definition of the rules, over files that LMDB wrote."""

from __future__ import annotations

from itertools import count, product
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate import native
from gate.core.decide import exempt_ids, is_exempt
from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, UserFacts
from gate.replica.layout import pack_check_settings
from gate.replica.native_core import APP_NUMBER, Entry, Facts, Question, disagreements, state, write_facts_file
from harness.seeds import examples

pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)

PEOPLE = [b"a", b"b", b"\x00\r\n", b"exactly-twenty-bytes", b"one-byte-more-than-20", b"x" * 64]
LAST_MS = 6
# LMDB's two pages that are not of the tree.
META_BYTES = 2 * 4_096
moments = st.integers(1, LAST_MS) | st.just(FOREVER_MS)
apps = st.builds(
    AppFacts,
    key=st.just("app"),
    secrets=st.just(()),
    require_registered=st.sampled_from([False, False, True]),
    list_policy=st.sampled_from(["whitelist-replaces-blacklist", "both"]),
    whitelists=st.sampled_from(["per-user", "per-user", "on", "off"]),
    exempt=st.frozensets(st.sampled_from(["a", "x" * 64, "one-byte-more-than-20", "é"]), max_size=2),
)
users = st.builds(
    UserFacts,
    registered=st.booleans(),
    deactivated=st.sampled_from([False, False, True]),
    whitelist_on=st.booleans(),
    banned_until_ms=st.sampled_from([0, 0, 3, FOREVER_MS]),
    muted_until_ms=st.sampled_from([0, 0, 4, FOREVER_MS]),
    tokens_valid_from_ms=st.sampled_from([0, 1]),
)
entries = st.lists(
    st.builds(Entry, st.sampled_from(ListKind), st.sampled_from(PEOPLE), st.sampled_from(PEOPLE), moments),
    max_size=12,
    unique_by=lambda entry: entry[:3],
)
numbers = count()


@given(apps, st.dictionaries(st.sampled_from(PEOPLE), st.just(NO_FACTS) | users), entries)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_core_and_table_agree(
    tmp_path: Path, app: AppFacts, people: dict[bytes, UserFacts], listed: list[Entry]
) -> None:
    for entry in listed:
        size = "blacklist_size" if entry.kind is ListKind.BLACKLIST else "whitelist_size"
        facts = people.get(entry.owner, NO_FACTS)
        known = {field: getattr(facts, field) for field in facts.__struct_fields__}
        people[entry.owner] = UserFacts(**{**known, size: known[size] + 1})
    path = str(tmp_path / f"{next(numbers)}.mdb")
    write_facts_file(path, people, listed)
    questions = [Question(*pair, now_ms) for pair in product(PEOPLE, PEOPLE) for now_ms in range(1, LAST_MS + 2)]
    assert native.core is not None
    assert disagreements(native.core, path, Facts.of(app, people, listed), questions) == []
    Path(path).unlink()


@pytest.mark.parametrize("policy", ["both", "whitelist-replaces-blacklist"])
def test_core_and_table_agree_where_a_user_has_both_lists(tmp_path: Path, policy: str) -> None:
    app = AppFacts(key="app", secrets=(), list_policy=policy)  # type: ignore[arg-type]
    people = {
        b"both": UserFacts(whitelist_on=True, whitelist_size=2, blacklist_size=2),
        b"white": UserFacts(whitelist_on=True, whitelist_size=1),
        b"black": UserFacts(blacklist_size=1),
        b"off": UserFacts(whitelist_size=1, blacklist_size=1),
    }
    entries = [
        Entry(ListKind.WHITELIST, b"both", b"friend", FOREVER_MS),
        Entry(ListKind.WHITELIST, b"both", b"eve", 3),
        Entry(ListKind.BLACKLIST, b"both", b"eve", FOREVER_MS),
        Entry(ListKind.BLACKLIST, b"both", b"bob", 3),
        Entry(ListKind.WHITELIST, b"white", b"friend", FOREVER_MS),
        Entry(ListKind.BLACKLIST, b"black", b"eve", FOREVER_MS),
        Entry(ListKind.WHITELIST, b"off", b"eve", FOREVER_MS),
        Entry(ListKind.BLACKLIST, b"off", b"eve", 3),
    ]
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, people, entries)
    asked = product([b"friend", b"eve", b"bob", b"ann"], people, (2, 3))
    assert native.core is not None
    facts = Facts.of(app, people, entries)
    assert disagreements(native.core, path, facts, [Question(*one) for one in asked]) == []


def test_users_that_are_cached_are_answered_without_the_file(tmp_path: Path) -> None:
    """They are decided without a read: the pages of the file are overwritten after the first answers."""
    core = native.core
    assert core is not None
    path = tmp_path / "facts.mdb"
    exempt, plain = b"official-exactly-20b", [b"a", b"exactly-twenty-bytes", b"one-byte-more-than-20", b"x" * 64]
    private = UserFacts(whitelist_on=True, blacklist_size=1)
    write_facts_file(str(path), {b"owner": UserFacts(blacklist_size=1), b"private": private}, [])
    checks = core.Checks(100, bytes(16))
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        snapshot = core.Snapshot(str(path))
        snapshot.is_open = snapshot.at(txn.id())
        app = AppFacts(key="app", secrets=(), exempt=frozenset([exempt.decode()]))
        checks.adopt(snapshot, pack_check_settings(APP_NUMBER, app))
        known = [*product(plain, plain), (exempt, b"owner"), (exempt, b"private")]
        answers = [checks.word(*pair) for pair in known]
        assert set(answers) == {"allowed"} and checks.word(b"a", b"owner") == "allowed"
        with path.open("r+b") as file:
            file.seek(META_BYTES)
            file.write(bytes(path.stat().st_size - META_BYTES))
        assert [checks.word(*pair) for pair in known] == answers
        assert checks.words_to(b"a", plain) == ["allowed"] * len(plain)
        for unknown in ((b"a", b"owner"), (b"a", b"another"), (b"another", b"a")):
            with pytest.raises(core.Damaged):
                checks.word(*unknown)
        snapshot.close()


def test_the_core_that_was_built_is_used() -> None:
    assert state() == (True, "")


@given(st.frozensets(st.text(alphabet=st.characters(), max_size=3)), st.binary(max_size=4))
def test_exempt_ids_are_the_exempt(names: frozenset[str], user: bytes) -> None:
    app = AppFacts(key="app", secrets=(), exempt=names)
    assert (user in exempt_ids(app)) == is_exempt(app, user)
    assert all(is_exempt(app, raw) for raw in exempt_ids(app))


def test_a_wrong_answer_shows(tmp_path: Path) -> None:
    """What is written is not what is asked about: the comparison must say so."""
    assert native.core is not None
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, {b"a": UserFacts(banned_until_ms=9)}, [])
    facts = Facts.of(AppFacts(key="app", secrets=()), {}, [])
    assert disagreements(native.core, path, facts, [Question(b"a", b"b", 1), Question(b"b", b"a", 1)]) == [
        (b"a", b"b", 1)
    ]
