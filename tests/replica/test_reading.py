"""A reader's caches are exact: after any Changes, its answers equal those of a new reader without a cache.

Each test runs with the compiled core, where it could be built, and with Python alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, ReplicaError, ReplicaForeign, ReplicaMissing
from gate.replica import envs
from gate.replica.app_reading import AppReading
from gate.replica.files import DAMAGED_FILE, delete_facts, forget_current, make_current
from gate.replica.layout import BOARD_FILE, user_prefix
from gate.replica.reading import JOURNAL_REACH, PARTITION_NUMBERS, Reading
from gate.replica.status_page import StatusPage
from harness.seeds import examples
from tests.replica.ledger import Ledger, app_facts, app_set, said, without_core

USERS = [b"a", b"b", b"\x00", b"\r\n", "🙂".encode(), b"x" * 64]
MANY_MS = 86_400_000


class CachesAreExact(RuleBasedStateMachine):
    """Two Apps; one Reading lives through it all, with a cache so small that it also starts over."""

    compiled = True

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        if not self.compiled:
            without_core(self.patch)
        self.directory = Path(tempfile.mkdtemp())
        self.ledger = Ledger(self.directory, 1, app_facts("app"), app_facts("other"))
        self.outgoing: list[Ledger] = []
        self.generation = 1
        self.removed: set[str] = set()
        self.reading = Reading(self.directory, cached_users=4)

    def teardown(self) -> None:
        self.reading.close()
        for ledger in [*self.outgoing, self.ledger]:
            ledger.close()
        assert envs.open_count(self.directory) == 0
        shutil.rmtree(self.directory)
        self.patch.undo()

    apps = st.sampled_from(["app", "other"])
    users = st.sampled_from(USERS)
    ends = st.sampled_from([1, FOREVER_MS, wall_ms() + MANY_MS])

    @rule(
        app=apps,
        user=users,
        members=st.lists(users, min_size=1, max_size=4),
        until_ms=ends,
        kind=st.sampled_from(["blocked", "unblocked", "admitted", "unadmitted"]),
    )
    def lists(self, app: str, user: bytes, members: list[bytes], until_ms: int, kind: str) -> None:
        self.ledger.commit(said(kind, user, *members, app=app, until_ms=until_ms))

    @rule(
        app=apps,
        user=users,
        until_ms=ends,
        kind=st.sampled_from(
            [
                "ban-imposed",
                "ban-lifted",
                "mute-imposed",
                "mute-lifted",
                "user-registered",
                "user-deactivated",
                "user-reactivated",
                "user-erased",
                "whitelist-switched",
            ]
        ),
        on=st.booleans(),
    )
    def users_own(self, app: str, user: bytes, until_ms: int, kind: str, on: bool) -> None:
        value = (b"1" if on else b"0") if kind == "whitelist-switched" else b""
        self.ledger.commit(said(kind, user, app=app, until_ms=until_ms, value=value))

    @rule(
        app=apps,
        registered=st.booleans(),
        whitelists=st.sampled_from(["per-user", "on", "off"]),
        policy=st.sampled_from(["whitelist-replaces-blacklist", "both"]),
        exempt=st.sampled_from([(), ("a",), ("b", "🙂")]),
    )
    def settings_change(
        self, app: str, registered: bool, whitelists: str, policy: str, exempt: tuple[str, ...]
    ) -> None:
        if app not in self.removed:
            changed = app_facts(
                app,
                require_registered=registered,
                whitelists=whitelists,
                list_policy=policy,
                exempt=frozenset(exempt),
            )
            self.ledger.commit(app_set(changed))

    @precondition(lambda self: not self.removed)
    @rule()
    def an_app_is_removed(self) -> None:
        self.removed.add("other")
        self.ledger.commit(said("app-removed", app="other"))

    @rule(user=users, commits=st.sampled_from([2, JOURNAL_REACH, JOURNAL_REACH + 1]))
    def many_commits(self, user: bytes, commits: int) -> None:
        for number in range(commits):
            self.ledger.commit(
                said("ban-imposed" if number % 2 else "ban-lifted", user, until_ms=FOREVER_MS * (number % 2))
            )

    @rule(turned=st.booleans(), user=users)
    def another_file(self, turned: bool, user: bytes) -> None:
        """A snapshot that knows less, and may have given the Apps each other's numbers."""
        self.generation += 1
        keys = ["other", "app"] if turned else ["app", "other"]
        fresh = Ledger(self.directory, self.generation, *(app_facts(key) for key in keys), current=False)
        fresh.commit(said("blocked", user, *USERS))
        self.removed.clear()
        self.ledger.replace(fresh)
        self.outgoing.append(self.ledger)
        self.ledger = fresh

    @rule(app=apps)
    def one_app_is_looked_at(self, app: str) -> None:
        self.agree([app])

    @invariant()
    def sometimes_all(self) -> None:
        if self.ledger.revision.seq % 3 == 0:
            self.agree(["app", "other"])

    def agree(self, keys: list[str]) -> None:
        fresh = Reading(self.directory, cached_users=1)
        for reading in (fresh, self.reading):
            reading.refresh()
        for key in keys:
            plain, cached = fresh.app(key), self.reading.app(key)
            assert (plain is None) == (cached is None) == (key in self.removed)
            if plain is not None and cached is not None:
                _same_words(plain, cached)
        for reading in (fresh, self.reading):
            reading.release()
        fresh.close()


def _same_words(plain: AppReading, cached: AppReading) -> None:
    now_ms = wall_ms()
    for sender in USERS:
        wanted = [plain.decide(sender, recipient, now_ms).word for recipient in USERS]
        assert cached.words([sender] * len(USERS), USERS) == wanted
        assert cached.words_to(sender, USERS) == wanted
        assert [cached.word(sender, recipient) for recipient in USERS] == wanted
        assert [cached.decide(sender, recipient, now_ms).word for recipient in USERS] == wanted


class CachesAreExactInPython(CachesAreExact):
    """The same without the compiled core."""

    compiled = False


TestCachesAreExact = CachesAreExact.TestCase
TestCachesAreExactInPython = CachesAreExactInPython.TestCase
TestCachesAreExact.settings = TestCachesAreExactInPython.settings = settings(
    max_examples=examples(25), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(params=["compiled", "Python"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "Python":
        without_core(monkeypatch)
    return tmp_path / "replica"


def _word(reading: Reading, sender: bytes, recipient: bytes, key: str = "app") -> str:
    reading.refresh()
    try:
        app = reading.app(key)
        return "no app" if app is None else app.word(sender, recipient)
    finally:
        reading.release()


@pytest.mark.parametrize("key", ["", "x" * 33, "x" * 600, "a\0b", "é", "\udcff", "app\n"])
def test_what_no_app_can_be_called_is_unknown_and_no_damage(directory: Path, key: str) -> None:
    ledger = Ledger(directory, 1, app_facts("app"))
    reading = Reading(directory)
    assert _word(reading, b"a", b"b", key) == "no app"
    assert reading.apps == {}
    assert not (directory / DAMAGED_FILE).exists()
    assert _word(reading, b"a", b"b", "app") == "allowed"
    _close(reading, ledger)


def test_an_apps_old_number_does_not_hide_what_happens_to_another(directory: Path) -> None:
    old = Ledger(directory, 1, app_facts("app"), app_facts("other"))
    reading = Reading(directory)
    for key in ("other", "app"):
        assert _word(reading, b"a", b"b", key) == "allowed"
    new = Ledger(directory, 2, app_facts("other"), app_facts("app"), current=False)
    old.replace(new)
    assert _word(reading, b"a", b"b", "other") == "allowed"
    new.commit(said("ban-imposed", b"a", app="other"))
    assert _word(reading, b"a", b"b", "other") == "sender-banned"
    _close(reading, old, new)


def test_a_file_made_again_under_its_old_name_is_noticed(directory: Path) -> None:
    first = Ledger(directory, 1, app_facts())
    status_page = StatusPage(directory / BOARD_FILE, write=True)
    status_page.put(generation=1)
    reading = Reading(directory)
    assert _word(reading, b"b", b"a") == "allowed"
    forget_current(directory)
    delete_facts(first.file.path)
    assert _word(reading, b"b", b"a") == "allowed", "old facts are served while there are no others"
    second = Ledger(directory, 1, app_facts())
    second.commit(said("blocked", b"a", b"b"))
    status_page.put(generation=1)
    assert _word(reading, b"b", b"a") == "blacklisted"
    _close(reading, first, second)
    status_page.close()


def test_a_restarted_replicator_on_the_same_file_changes_nothing(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    StatusPage(directory / BOARD_FILE, write=True).put(generation=1)
    reading = Reading(directory)
    again = StatusPage(directory / BOARD_FILE, write=True)
    assert _word(reading, b"b", b"a") == "allowed"
    moves = reading.moves
    again.put(generation=1)
    assert _word(reading, b"b", b"a") == "allowed"
    assert reading.moves == moves
    again.close()
    _close(reading, ledger)


def test_a_successor_that_cannot_be_opened_is_tried_again(directory: Path) -> None:
    old = Ledger(directory, 1, app_facts())
    reading = Reading(directory)
    (directory / "facts-2.mdb").write_bytes(b"no facts" * 1_000)
    make_current(directory / "facts-2.mdb")
    old.file.name_successor("facts-2.mdb")
    for _ in range(2):
        assert _word(reading, b"b", b"a") == "allowed"
    old.commit(said("ban-imposed", b"b"))
    assert _word(reading, b"b", b"a") == "sender-banned"
    new = Ledger(directory, 3, app_facts())
    assert _word(reading, b"b", b"a") == "allowed"
    _close(reading, old, new)


@pytest.mark.parametrize("packed", [b"", b"\xff", b"\x08\x00", b"\x00too long", b"\x40\0\0\0\1"])
def test_facts_of_another_form_are_refused(directory: Path, packed: bytes) -> None:
    ledger = Ledger(directory, 1, app_facts())
    with ledger.file.write() as txn:
        txn.put(user_prefix(0) + b"a", packed)
        txn.change_user(0, b"b", registered=True)
    reading = Reading(directory)
    with pytest.raises(ReplicaForeign):
        _word(reading, b"a", b"b")
    with pytest.raises(ReplicaForeign):
        _word(reading, b"b", b"a")
    assert _word(reading, b"b", b"c") == "allowed"
    _close(reading, ledger)


def test_settings_of_another_form_are_refused(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    reading = Reading(directory)
    assert _word(reading, b"a", b"b") == "allowed"
    with ledger.file.write() as txn:
        txn.put(b"Aapp", b"\x00\x00\x00\x01{")
    for _ in range(2):
        with pytest.raises(ReplicaForeign, match=r"can't be read: (?!None)\S"):
            _word(reading, b"a", b"b")
    ledger.commit(app_set(app_facts()))
    assert _word(reading, b"a", b"b") == "allowed"
    _close(reading, ledger)


def test_lmdbs_own_errors_come_out_as_this_projects(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("blocked", b"a", b"x"), said("ban-imposed", b"z"))
    reading = Reading(directory)
    reading.refresh()
    app = reading.app("app")
    assert app is not None and app.word(b"b", b"a") == "allowed"
    reading.release()
    asked: list[Callable[[], object]] = [
        lambda: app.word(b"b", b"a"),
        lambda: app.words([b"b"], [b"a"]),
        lambda: app.words_to(b"b", [b"a"]),
        lambda: app.words_to(b"new", [b"a"]),
        lambda: app.decide(b"b", b"a", 0),
        lambda: reading.position(0),
        lambda: reading.partitions,
    ]
    for ask in asked:
        with pytest.raises(ReplicaForeign, match=r"^(?!.*: None$)"):
            ask()
    _close(reading, ledger)


def test_ids_of_another_length_are_refused_with_any_sender(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("ban-imposed", b"z"))
    reading = Reading(directory)
    reading.refresh()
    app = reading.app("app")
    assert app is not None
    for bad in (b"", b"x" * 65, b"x" * 600):
        for sender in (b"a", b"z"):
            with pytest.raises(InvalidInput):
                app.words_to(sender, [b"b", bad])
            with pytest.raises(InvalidInput):
                app.words([sender], [bad])
            with pytest.raises(InvalidInput):
                app.word(bad, sender)
    _close(reading, ledger)


def test_a_partition_that_cannot_be_has_no_position(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    reading = Reading(directory)
    reading.refresh()
    assert reading.position(0) is not None
    assert reading.position(1) is reading.position(PARTITION_NUMBERS) is None
    _close(reading, ledger)


def test_a_closed_reading_says_so(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    reading = Reading(directory)
    reading.close()
    reading.close()
    with pytest.raises(ReplicaError, match="closed"):
        reading.refresh()
    ledger.close()
    assert envs.open_count(directory) == 0


def test_what_cannot_be_opened_leaks_nothing(directory: Path) -> None:
    with pytest.raises(ReplicaMissing):
        Reading(directory)
    directory.mkdir()
    (directory / "facts-1.mdb").write_bytes(b"")
    (directory / "facts-2.mdb").write_bytes(b"\xff" * 100_000)
    lmdb.open(str(directory / "facts-3.mdb"), subdir=False).close()
    for name in ("facts-1.mdb", "facts-2.mdb", "facts-3.mdb"):
        make_current(directory / name)
        with pytest.raises(ReplicaForeign):
            Reading(directory)
    make_current(directory / "facts-4.mdb")
    with pytest.raises(ReplicaMissing):
        Reading(directory)
    assert envs.open_count(directory) == 0


def _close(reading: Reading, *ledgers: Ledger) -> None:
    reading.close()
    for ledger in ledgers:
        ledger.close()
    assert envs.open_count(ledgers[0].directory) == 0
