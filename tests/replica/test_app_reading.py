"""One App's answers from a facts file: entries with an end, shadow mode and refused ids, by each method and on each path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gate import native
from gate.clock import wall_ms
from gate.core.model import ListKind
from gate.core.verdict import Verdict
from gate.errors import AppUnknown, InvalidInput, ReplicaForeign
from gate.replica import envs
from gate.replica.app_reading import AppReading
from gate.replica.layout import app_record_key, user_prefix
from gate.replica.reading import Reading
from tests.replica.ledger import Ledger, app_facts, app_set, said, without_core

PAST_MS, SOON_MS = 1_000, wall_ms() + 3_600_000
Ask = Callable[[AppReading, bytes, bytes], str]
ASKS: dict[str, Ask] = {
    "word": lambda app, sender, recipient: app.word(sender, recipient),
    "words": lambda app, sender, recipient: app.words([sender], [recipient])[0],
    "words_to": lambda app, sender, recipient: app.words_to(sender, [recipient])[0],
    "words_of": lambda app, sender, recipient: app.words_of([[sender.decode(), recipient.decode()]])[0][0],
    "decide": lambda app, sender, recipient: app.decide(sender, recipient, wall_ms()).word,
}


@pytest.fixture(params=["compiled", "Python"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "Python":
        without_core(monkeypatch)
    return tmp_path / "replica"


@contextmanager
def reading_of(ledger: Ledger) -> Iterator[AppReading]:
    reading = Reading(ledger.directory)
    reading.refresh()
    app = reading.app("app")
    assert app is not None
    yield app
    reading.release()
    reading.close()
    ledger.close()


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_an_entry_that_ended_counts_as_absent(directory: Path, ask: Ask) -> None:
    ledger = Ledger(directory, 1, app_facts())
    for until_ms, member in ((PAST_MS, b"ended"), (SOON_MS, b"ends")):
        ledger.commit(
            said("blocked", b"b", member, until_ms=until_ms), said("admitted", b"w", member, until_ms=until_ms)
        )
    ledger.commit(said("blocked", b"b", b"ever"), said("admitted", b"w", b"ever"))
    ledger.commit(said("whitelist-switched", b"w", value=b"1"))
    with reading_of(ledger) as app:
        asked = {
            (member, owner): ask(app, member, owner)
            for owner in (b"b", b"w")
            for member in (b"ended", b"ends", b"ever")
        }
    assert asked == {
        (b"ended", b"b"): "allowed",
        (b"ends", b"b"): "blacklisted",
        (b"ever", b"b"): "blacklisted",
        (b"ended", b"w"): "not-whitelisted",
        (b"ends", b"w"): "allowed",
        (b"ever", b"w"): "allowed",
    }


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_shadow_mode_answers_allowed_and_counts_the_denial(directory: Path, ask: Ask) -> None:
    ledger = Ledger(directory, 1, app_facts("app", shadow=True))
    ledger.commit(said("blocked", b"owner", b"eve"))
    with reading_of(ledger) as app:
        assert (ask(app, b"eve", b"owner"), ask(app, b"ann", b"owner")) == ("allowed", "allowed")
        assert app.shadow is not None
        app.take_counts()
        counts = app.shadow.take()
    assert (counts.reasons, counts.pairs) == ({"blacklisted": 1}, {(b"eve", b"owner"): 1})
    assert counts.checks == 2


def test_a_verdict_in_shadow_mode_does_not_change_by_itself(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts("app", shadow=True))
    ledger.commit(said("blocked", b"owner", b"eve", until_ms=SOON_MS))
    ledger.commit(said("whitelist-switched", b"private", value=b"1"))
    ledger.commit(said("admitted", b"private", b"friend", until_ms=SOON_MS))
    with reading_of(ledger) as app:
        assert app.decide(b"eve", b"owner", wall_ms()) == Verdict("allowed", None)
        assert app.decide(b"eve", b"owner", SOON_MS) == Verdict("allowed", None)
        assert app.decide(b"friend", b"private", wall_ms()) == Verdict("allowed", SOON_MS), "as without shadow mode"
        assert app.words_of([["eve", "owner"], ["ann", "owner"]]) == (["allowed", "allowed"], {"allowed": 2})
        assert app.words_of([]) == ([], {})


def test_an_id_that_can_not_be_is_named_by_its_length(directory: Path) -> None:
    with reading_of(Ledger(directory, 1, app_facts())) as app:
        refused: list[Callable[[], object]] = [
            lambda: app.words_of([["a", "x" * 65]]),
            lambda: app.words_of([["x" * 65, "b"], ["a", "b"]]),
        ]
        if app.checks is not None:  # in Python, callers of `decide` check ids
            refused += [lambda: app.decide(b"x" * 65, b"b", 0), lambda: app.decide(b"a", b"x" * 65, 0)]
        for ask in refused:
            with pytest.raises(InvalidInput, match="must be 1 to 64 bytes, 65 were sent"):
                ask()
        for pairs in ([["a"]], [["a", "b", "c"]], [["a", "b"], "ab"], [("a", "b")]):
            with pytest.raises(TypeError):
                app.words_of(list(pairs))


def test_columns_of_unequal_lengths_are_refused(directory: Path) -> None:
    with reading_of(Ledger(directory, 1, app_facts())) as app:
        for senders, recipients in (([b"a"], [b"b", b"c"]), ([b"a", b"b"], [b"c"])):
            with pytest.raises(ValueError, match="zip"):
                app.words(senders, recipients)


@pytest.mark.parametrize("pair", [(b"a", b"b"), (b"b", b"a")], ids=["sender", "recipient"])
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_facts_that_can_not_be_read_are_an_error_that_says_why(
    directory: Path, ask: Ask, pair: tuple[bytes, bytes]
) -> None:
    ledger = Ledger(directory, 1, app_facts())
    with ledger.file.write() as txn:
        txn.put(user_prefix(0) + b"a", b"\x40\0\0\0\1")
        txn.change_user(0, b"b", registered=True)
    with reading_of(ledger) as app, pytest.raises(ReplicaForeign, match=r"facts-1\.mdb can't be read: (?!None)\S"):
        ask(app, *pair)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_no_list_binds_an_exempt_sender(directory: Path, ask: Ask) -> None:
    ledger = Ledger(directory, 1, app_facts(exempt=frozenset(["star"])))
    ledger.commit(said("blocked", b"b", b"star", b"eve"), said("whitelist-switched", b"w", value=b"1"))
    ledger.commit(said("admitted", b"w", b"ann"))
    with reading_of(ledger) as app:
        asked = {(sender, owner): ask(app, sender, owner) for sender in (b"star", b"eve") for owner in (b"b", b"w")}
    assert asked == {
        (b"star", b"b"): "allowed",
        (b"star", b"w"): "allowed",
        (b"eve", b"b"): "blacklisted",
        (b"eve", b"w"): "not-whitelisted",
    }


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_whitelists_that_are_on_for_all_bind_users_without_facts(directory: Path, ask: Ask) -> None:
    ledger = Ledger(directory, 1, app_facts(whitelists="on"))
    ledger.commit(said("admitted", b"w", b"friend"))
    with reading_of(ledger) as app:
        asked = [ask(app, *pair) for pair in ((b"a", b"b"), (b"b", b"a"), (b"friend", b"w"), (b"a", b"w"))]
    assert asked == ["not-whitelisted", "not-whitelisted", "allowed", "not-whitelisted"]


def test_an_absent_entry_ends_at_0(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("blocked", b"b", b"eve", until_ms=SOON_MS))
    with reading_of(ledger) as app:
        ends = [app.entry_until_ms(ListKind.BLACKLIST, owner, b"eve") for owner in (b"b", b"absent")]
        assert (*ends, app.entry_until_ms(ListKind.BLACKLIST, b"b", b"ann")) == (SOON_MS, 0, 0)


def test_no_word_under_settings_other_than_those_of_the_caller(directory: Path) -> None:
    """The caller found its secret among them: under others it may be dropped."""
    ledger = Ledger(directory, 1, app_facts(shadow=True))
    ledger.commit(said("blocked", b"b", b"eve"))
    reading = Reading(directory)
    with reading:
        app = reading.app("app")
    assert app is not None and app.shadow is not None
    known, shadow = app.app, app.shadow
    assert app.word_now(b"eve", b"b", known) == app.word_now(b"eve", b"b") == "allowed"
    assert shadow.take().checks == 2
    ledger.commit(app_set(app_facts(secrets=("another",), shadow=True)))
    assert app.word_now(b"eve", b"b", known) is None
    assert shadow.take().checks == 0, "it was not answered, so it is not counted"
    assert app.word_now(b"eve", b"b", app.app) == "allowed"
    ledger.commit(said("app-removed"))
    with pytest.raises(AppUnknown, match="the App 'app' was removed"):
        app.word_now(b"eve", b"b")
    reading.close()
    ledger.close()


@pytest.mark.skipif(native.core is None, reason=native.why_not)
def test_the_compiled_core_answers_where_it_can(tmp_path: Path) -> None:
    with reading_of(Ledger(tmp_path / "replica", 1, app_facts())) as app:
        assert app.checks is not None and app.checks.is_set


def test_a_file_that_the_core_can_not_map_is_answered_from(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "trusted_core", lambda: None)
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("blocked", b"b", b"eve"))
    with reading_of(ledger) as app:
        assert app.words_to(b"eve", [b"b", b"a"]) == ["blacklisted", "allowed"]


def keys_read(app: AppReading, reading: Reading, ask: Ask, sender: bytes, recipient: bytes) -> int:
    """How many look-ups in the file the check took."""
    keys: list[bytes] = []
    get = reading.get

    def counted(key: bytes) -> bytes | None:
        keys.append(key)
        return get(key)

    reading.get = counted
    ask(app, sender, recipient)
    reading.get = get
    return len(keys)


CACHED_ASKS = {name: ask for name, ask in ASKS.items() if name != "decide"}
PAIRS = {
    (b"ann", b"bob"): 0,
    (b"both", b"bob"): 0,
    (b"private", b"bob"): 0,
    (b"owner", b"private"): 1,
    (b"ann", b"owner"): 1,
    (b"ann", b"private"): 1,
    (b"friend", b"private"): 1,
    (b"eve", b"owner"): 1,
    (b"timed", b"owner"): 5,
    (b"banned", b"bob"): 2,
    (b"ann", b"both"): 4,
}
"""After both were asked about before. The last three are left to the table, which reads each fact that it needs."""
PAIRS_OF_AN_APP_WITH_EXEMPT_SENDERS = {
    **PAIRS,
    (b"owner", b"private"): 5,
    (b"ann", b"private"): 5,
    (b"eve", b"owner"): 5,
}
"""A list entry that would deny says nothing of an exempt sender, so the table decides."""


@pytest.mark.parametrize(
    ("exempt", "pairs"), [((), PAIRS), (("star",), PAIRS_OF_AN_APP_WITH_EXEMPT_SENDERS)], ids=["all alike", "exempt"]
)
@pytest.mark.parametrize("ask", CACHED_ASKS.values(), ids=CACHED_ASKS)
def test_a_check_of_cached_users_reads_one_entry_at_most(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    exempt: tuple[str, ...],
    pairs: dict[tuple[bytes, bytes], int],
) -> None:
    without_core(monkeypatch)
    ledger = Ledger(tmp_path / "replica", 1, app_facts(list_policy="both", exempt=frozenset(exempt)))
    ledger.commit(said("ban-imposed", b"banned"), said("blocked", b"owner", b"eve"))
    ledger.commit(said("blocked", b"owner", b"timed", until_ms=SOON_MS), said("blocked", b"both", b"eve"))
    ledger.commit(said("whitelist-switched", b"private", value=b"1"), said("admitted", b"private", b"friend"))
    ledger.commit(said("whitelist-switched", b"both", value=b"1"))
    with Reading(ledger.directory) as reading:
        app = reading.app("app")
        assert app is not None
        for pair in pairs:
            ask(app, *pair)
        assert {pair: keys_read(app, reading, ask, *pair) for pair in pairs} == pairs
    reading.close()
    ledger.close()


def test_each_user_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_core(monkeypatch)
    fan_out: Ask = lambda app, sender, _: app.words_to(sender, [b"a", b"b", b"c"])[0]  # noqa: E731
    columns: Ask = lambda app, sender, _: app.words([sender] * 3, [b"x", b"y", b"z"])[0]  # noqa: E731
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    with Reading(ledger.directory) as reading:
        app = reading.app("app")
        assert app is not None
        for ask, sender in ((fan_out, b"s"), (columns, b"t")):
            assert [keys_read(app, reading, ask, sender, b"") for _ in range(2)] == [4, 0]
    reading.close()
    ledger.close()


def test_a_full_cache_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_core(monkeypatch)
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    with Reading(ledger.directory, cached_users=2) as reading:
        app = reading.app("app")
        assert app is not None
        pairs = [(b"a", b"b"), (b"a", b"b"), (b"c", b"a"), (b"c", b"c"), (b"a", b"b")]
        assert [keys_read(app, reading, ASKS["word"], *pair) for pair in pairs] == [2, 0, 1, 0, 2]
    reading.close()
    ledger.close()


def test_the_record_of_the_app_is_read_once_a_commit(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(directory, 1, app_facts())
    reading = Reading(directory)
    with reading:
        app = reading.app("app")
    assert app is not None
    read, keys = Reading.read, []

    def counted(self: Reading, key: bytes) -> bytes | None:
        keys.append(key)
        return read(self, key)

    monkeypatch.setattr(Reading, "read", counted)
    record = app_record_key("app")
    for times in (0, 1, 1):
        app.word_now(b"a", b"b")
        assert keys.count(record) == times
        if not times:
            ledger.commit(said("ban-imposed", b"x"))
    reading.close()
    ledger.close()
