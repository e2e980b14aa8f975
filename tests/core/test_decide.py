"""The decision against a naive oracle, and the shortcuts of the hot path against the decision.

The oracle is written from the design's text, deliberately in another form than the table: it filters out ended facts first and
then uses plain conditions. `until` is checked by its meaning: nothing changes before that moment, and then it may.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.core.decide import Asks, decide, exempt_ids, is_exempt, lists_refuse, recipient_asks, sender_is_clear
from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, ListPolicy, UserFacts
from gate.core.verdict import Verdict
from harness.seeds import examples
from tests.cases.facts import DictFacts
from tests.cases.loading import Entry

ANA, BOB, CARL = b"ana", b"bob", b"carl"
# Few moments, close together, so that ends meet each other and the moments of asking.
LAST_MS = 8

moments = st.integers(1, LAST_MS) | st.just(FOREVER_MS)
ends = st.just(0) | moments

apps = st.builds(
    AppFacts,
    key=st.just("app"),
    secrets=st.just(("s",)),
    require_registered=st.sampled_from([False, False, True]),
    list_policy=st.sampled_from(["whitelist-replaces-blacklist", "both"]),
    whitelists=st.sampled_from(["per-user", "on", "off"]),
    exempt=st.frozensets(st.sampled_from(["ana", "bob"])),
)
users = st.builds(
    UserFacts,
    registered=st.booleans(),
    deactivated=st.booleans(),
    whitelist_on=st.booleans(),
    banned_until_ms=ends,
    muted_until_ms=ends,
)
switched_on = st.just(UserFacts(whitelist_on=True))
harmless = st.just(NO_FACTS) | st.just(UserFacts(registered=True))
nows = st.integers(0, LAST_MS + 1)

thoroughly = settings(max_examples=examples(250))
Situation = tuple[DictFacts, tuple[bytes, bytes]]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Facts of one App and a related pair: drawn independently, Users and pairs would hardly ever meet."""
    sender, recipient = draw(st.sampled_from([(ANA, BOB), (ANA, BOB), (ANA, BOB), (ANA, ANA)]))
    # One of the two is harmless more often than not, or else the first rules would hide the last ones.
    people = {sender: draw(harmless | users), recipient: draw(harmless | users | switched_on)}
    entries = [
        Entry(kind, recipient, draw(st.sampled_from([sender, sender, sender, CARL])), draw(moments))
        for kind in ListKind
        if draw(st.booleans())
    ]
    return DictFacts(draw(apps), people, entries), (sender, recipient)


def oracle(view: DictFacts, sender: bytes, recipient: bytes, now_ms: int) -> str:
    """The design's section 4, rule by rule, in the plainest words there are."""
    app, a, b = view.app, view.user(sender), view.user(recipient)

    def listed(kind: ListKind) -> bool:
        return view.entry_until_ms(kind, recipient, sender) > now_ms

    exempt = sender.decode() in app.exempt
    if app.whitelists == "on":
        whitelist_on = True
    elif app.whitelists == "off":
        whitelist_on = False
    else:
        whitelist_on = b.whitelist_on
    reasons = [
        app.require_registered and not a.registered and "sender-unknown",
        a.deactivated and "sender-deactivated",
        a.banned_until_ms > now_ms and "sender-banned",
        a.muted_until_ms > now_ms and not exempt and "sender-muted",
        app.require_registered and not b.registered and "recipient-unknown",
        b.deactivated and "recipient-deactivated",
        whitelist_on and not listed(ListKind.WHITELIST) and not exempt and "not-whitelisted",
        listed(ListKind.BLACKLIST)
        and not exempt
        and not (whitelist_on and app.list_policy == "whitelist-replaces-blacklist")
        and "blacklisted",
    ]
    return next((reason for reason in reasons if reason), "allowed")


def changes_of(view: DictFacts, pair: tuple[bytes, bytes], moments_ms: Iterable[int]) -> list[str]:
    return [oracle(view, *pair, moment_ms) for moment_ms in moments_ms]


@thoroughly
@given(situations(), nows)
def test_the_table_agrees_with_the_oracle(situation: Situation, now_ms: int) -> None:
    view, pair = situation
    assert decide(view, *pair, now_ms).word == oracle(view, *pair, now_ms)


@thoroughly
@given(situations(), nows)
def test_nothing_changes_before_until(situation: Situation, now_ms: int) -> None:
    view, pair = situation
    verdict = decide(view, *pair, now_ms)
    end_ms = LAST_MS + 3 if verdict.until_ms is None else verdict.until_ms
    assert end_ms > now_ms
    assert set(changes_of(view, pair, range(now_ms, end_ms))) == {verdict.word}


@thoroughly
@given(situations(), nows)
def test_until_is_the_moment_of_a_fact_that_was_asked(situation: Situation, now_ms: int) -> None:
    """The moment is always the end of one of the sender's penalties or of the pair's own entries."""
    view, pair = situation
    sender, recipient = pair
    until_ms = decide(view, *pair, now_ms).until_ms
    known = {view.user(sender).banned_until_ms, view.user(sender).muted_until_ms}
    known |= {view.entry_until_ms(kind, recipient, sender) for kind in ListKind}
    assert until_ms is None or (until_ms in known and now_ms < until_ms < FOREVER_MS)


@thoroughly
@given(situations(), nows)
def test_a_sender_called_clear_is_never_refused_for_its_own_sake(situation: Situation, now_ms: int) -> None:
    view, pair = situation
    if sender_is_clear(view.app, view.user(pair[0])):
        assert not decide(view, *pair, now_ms).word.startswith("sender-")


@thoroughly
@given(situations(), nows)
def test_the_shortcuts_agree_with_the_table(situation: Situation, now_ms: int) -> None:
    view, pair = situation
    sender, recipient = pair
    asks = recipient_asks(view.app, view.user(recipient))
    if not sender_is_clear(view.app, view.user(sender)):
        return
    verdict = decide(view, sender, recipient, now_ms)
    if asks is Asks.NOTHING:
        assert verdict == Verdict("allowed", None)
    elif asks is Asks.BLACKLIST:
        until_ms = view.entry_until_ms(ListKind.BLACKLIST, recipient, sender)
        assert verdict.word in ("allowed", "blacklisted")
        assert until_ms or verdict == Verdict("allowed", None)
        assert view.app.exempt or until_ms != FOREVER_MS or verdict == Verdict("blacklisted", None)
    elif asks is Asks.WHITELIST:
        until_ms = view.entry_until_ms(ListKind.WHITELIST, recipient, sender)
        assert verdict.word in ("allowed", "not-whitelisted")
        assert until_ms != FOREVER_MS or verdict == Verdict("allowed", None)
        assert view.app.exempt or until_ms or verdict == Verdict("not-whitelisted", None)


class _OnlyLists:
    """The same facts, except that all Users are registered, and none is penalized or deactivated."""

    def __init__(self, view: DictFacts) -> None:
        self.app = view.app
        self.entry_until_ms = view.entry_until_ms
        self._whitelist_on = {user: view.user(user).whitelist_on for user in (ANA, BOB)}

    def user(self, user_id: bytes) -> UserFacts:
        return UserFacts(registered=True, whitelist_on=self._whitelist_on[user_id])


@thoroughly
@given(situations(), nows)
def test_lists_refuse_agrees_with_decide_if_no_other_rule_denies(situation: Situation, now_ms: int) -> None:
    view, (viewer, owner) = situation
    denied = decide(_OnlyLists(view), viewer, owner, now_ms).word
    assert denied in ("allowed", "not-whitelisted", "blacklisted")
    assert lists_refuse(view, viewer, owner, now_ms) is (denied != "allowed" and viewer != owner)


@pytest.mark.parametrize(("is_on", "refuses"), [(True, True), (False, False)])
def test_lists_refuse_by_the_owners_own_whitelist_switch(is_on: bool, refuses: bool) -> None:
    view = DictFacts(AppFacts(key="app", secrets=("s",)), {BOB: UserFacts(whitelist_on=is_on)}, [])
    assert lists_refuse(view, ANA, BOB, 0) is refuses


@given(apps, users)
def test_what_a_recipient_asks_never_hides_a_rule_of_its_own(app: AppFacts, user: UserFacts) -> None:
    if user.deactivated or (app.require_registered and not user.registered):
        assert recipient_asks(app, user) is Asks.EVERYTHING


def test_an_exempt_sender_of_any_bytes_is_looked_up_without_failing() -> None:
    app = AppFacts(key="app", secrets=("s",), exempt=frozenset({"news"}), whitelists="on")
    assert decide(DictFacts(app, {}, []), b"\xff\x00", BOB, 0).word == "not-whitelisted"
    assert decide(DictFacts(app, {}, []), b"news", BOB, 0).word == "allowed"


def test_the_exempt_ids_are_those_whose_text_the_app_names() -> None:
    names = frozenset({"news", "\udcff", "\udcc3\udca9"})
    app = AppFacts(key="app", secrets=("s",), exempt=names)
    assert sorted(exempt_ids(app)) == [b"news", b"\xff"], "no id decodes to the other two"
    in_order = AppFacts(key="app", secrets=("s",), exempt=("\ud800", "news"))  # type: ignore[arg-type]
    assert exempt_ids(in_order) == [b"news"]
    assert [is_exempt(app, user) for user in (b"news", b"\xff", "é".encode(), b"bob")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("list_policy", "whitelist_on", "blacklist_size", "asks"),
    [
        ("whitelist-replaces-blacklist", False, 0, Asks.NOTHING),
        ("whitelist-replaces-blacklist", False, 1, Asks.BLACKLIST),
        ("whitelist-replaces-blacklist", True, 0, Asks.WHITELIST),
        ("whitelist-replaces-blacklist", True, 1, Asks.WHITELIST),
        ("both", False, 0, Asks.NOTHING),
        ("both", False, 1, Asks.BLACKLIST),
        ("both", True, 0, Asks.WHITELIST),
        ("both", True, 1, Asks.EVERYTHING),
    ],
)
def test_what_is_left_to_look_up(list_policy: ListPolicy, whitelist_on: bool, blacklist_size: int, asks: Asks) -> None:
    app = AppFacts(key="app", secrets=("s",), list_policy=list_policy)
    assert recipient_asks(app, UserFacts(whitelist_on=whitelist_on, blacklist_size=blacklist_size)) is asks
