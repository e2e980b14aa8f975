"""The decision: eight rules in one table, evaluated in order. The first that denies gives the reason.

    1 sender-unknown          only where the App requires registration
    2 sender-deactivated
    3 sender-banned           until > now
    4 sender-muted            until > now; not for exempt senders
    5 recipient-unknown       as 1
    6 recipient-deactivated
    7 not-whitelisted         the recipient's whitelist is on and the sender is not on it; not for exempt senders
    8 blacklisted             the sender is on the recipient's blacklist; not for exempt senders, and under the policy
                              `whitelist-replaces-blacklist` not while the recipient's whitelist is on

Each rule returns two things: whether it denies, and until when that answer holds by itself. A fact with an end counts as absent
from that very millisecond on (`until > now`), so no timer is involved anywhere. The Verdict's `until_ms` is the earliest such
moment among the rules that were evaluated: later rules cannot matter before an earlier one changes.

Three rules of order matter to callers: a rule is evaluated only if all rules before it passed; exemption depends on the App's
settings and the sender alone; an App-wide whitelist switch overrides the User's own.

`decide` is the only definition of the rules. A property test proves `sender_is_clear` and `recipient_asks` below equal to it.
The hot path uses them to skip the table when the facts leave at most one list entry to look up.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

from gate.core.model import FOREVER_MS, NO_FACTS, AppFacts, ListKind, UserFacts
from gate.core.verdict import Verdict, Word


class FactsView(Protocol):
    """The facts of one App at one moment, as far as a decision needs them."""

    @property
    def app(self) -> AppFacts:
        """The App's settings."""
        ...

    def user(self, user_id: bytes) -> UserFacts:
        """The User's facts; `NO_FACTS` for an unknown User."""
        ...

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        """The end of the entry (`FOREVER_MS` if it has none), or 0 if `member` is not on the list."""
        ...


class Answer(NamedTuple):
    """One rule's answer: whether it denies, and the moment at which that may change by itself (`FOREVER_MS`: never)."""

    denies: bool
    holds_until_ms: int


class Question(NamedTuple):
    """Everything a rule may look at."""

    view: FactsView
    sender: bytes
    recipient: bytes
    now_ms: int
    sender_facts: UserFacts
    recipient_facts: UserFacts
    exempt: bool


_PASSES = Answer(False, FOREVER_MS)
_DENIES = Answer(True, FOREVER_MS)


def _timed(until_ms: int, now_ms: int) -> Answer:
    return Answer(True, until_ms) if until_ms > now_ms else _PASSES


def _sender_unknown(q: Question) -> Answer:
    return _DENIES if q.view.app.require_registered and not q.sender_facts.registered else _PASSES


def _sender_deactivated(q: Question) -> Answer:
    return _DENIES if q.sender_facts.deactivated else _PASSES


def _sender_banned(q: Question) -> Answer:
    return _timed(q.sender_facts.banned_until_ms, q.now_ms)


def _sender_muted(q: Question) -> Answer:
    return _PASSES if q.exempt else _timed(q.sender_facts.muted_until_ms, q.now_ms)


def _recipient_unknown(q: Question) -> Answer:
    return _DENIES if q.view.app.require_registered and not q.recipient_facts.registered else _PASSES


def _recipient_deactivated(q: Question) -> Answer:
    return _DENIES if q.recipient_facts.deactivated else _PASSES


def whitelist_is_on(app: AppFacts, recipient: UserFacts) -> bool:
    """Return whether the recipient's whitelist applies: the App-wide switch first, then the User's own."""
    return recipient.whitelist_on if app.whitelists == "per-user" else app.whitelists == "on"


def _not_whitelisted(q: Question) -> Answer:
    if q.exempt or not whitelist_is_on(q.view.app, q.recipient_facts):
        return _PASSES
    until_ms = q.view.entry_until_ms(ListKind.WHITELIST, q.recipient, q.sender)
    # An entry that has ended denies forever: nothing will change by itself.
    return Answer(False, until_ms) if until_ms > q.now_ms else _DENIES


def _blacklisted(q: Question) -> Answer:
    app = q.view.app
    replaced = app.list_policy == "whitelist-replaces-blacklist" and whitelist_is_on(app, q.recipient_facts)
    if q.exempt or replaced:
        return _PASSES
    return _timed(q.view.entry_until_ms(ListKind.BLACKLIST, q.recipient, q.sender), q.now_ms)


RULES: tuple[tuple[Word, Callable[[Question], Answer]], ...] = (
    ("sender-unknown", _sender_unknown),
    ("sender-deactivated", _sender_deactivated),
    ("sender-banned", _sender_banned),
    ("sender-muted", _sender_muted),
    ("recipient-unknown", _recipient_unknown),
    ("recipient-deactivated", _recipient_deactivated),
    ("not-whitelisted", _not_whitelisted),
    ("blacklisted", _blacklisted),
)


def is_exempt(app: AppFacts, sender: bytes) -> bool:
    """Return whether the App names this sender as exempt from mutes and lists."""
    return bool(app.exempt) and sender.decode("utf-8", "surrogateescape") in app.exempt


def exempt_ids(app: AppFacts) -> list[bytes]:
    """Return exactly the ids for which `is_exempt` is True."""
    ids = []
    for name in app.exempt:
        try:
            raw = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            continue  # a lone surrogate that no id decodes to
        # Some names encode to bytes that decode to another name; `is_exempt` compares decoded ids.
        if raw.decode("utf-8", "surrogateescape") == name:
            ids.append(raw)
    return ids


def ask(view: FactsView, sender: bytes, recipient: bytes, now_ms: int) -> Question:
    """Gather the facts that the rules need. Also used by `explain`."""
    return Question(
        view, sender, recipient, now_ms, view.user(sender), view.user(recipient), is_exempt(view.app, sender)
    )


def decide(view: FactsView, sender: bytes, recipient: bytes, now_ms: int) -> Verdict:
    """Decide whether `sender` may message `recipient` at `now_ms`. Pure: the same facts and moment give the same Verdict."""
    question = ask(view, sender, recipient, now_ms)
    holds_until_ms = FOREVER_MS
    for word, rule in RULES:
        denies, rule_holds_until_ms = rule(question)
        if rule_holds_until_ms < holds_until_ms:
            holds_until_ms = rule_holds_until_ms
        if denies:
            return Verdict(word, holds_until_ms if holds_until_ms < FOREVER_MS else None)
    return Verdict("allowed", holds_until_ms if holds_until_ms < FOREVER_MS else None)


def lists_refuse(view: FactsView, viewer: bytes, owner: bytes, now_ms: int) -> bool:
    """Return whether rule 7 or 8 denies `viewer`, regardless of other rules. Such a viewer may not watch `owner` either.

    A User is never refused by itself, even if it is on its own Blacklist.
    """
    if viewer == owner or is_exempt(view.app, viewer):
        return False
    # Sender facts are irrelevant to rules 7 and 8, so they are not read.
    question = Question(view, viewer, owner, now_ms, NO_FACTS, view.user(owner), False)
    return _not_whitelisted(question).denies or _blacklisted(question).denies


class Asks(IntEnum):
    """What remains to be looked up for a recipient if the sender is clear."""

    NOTHING = 0
    """No rule can deny: the answer is `allowed` at any moment."""
    BLACKLIST = 1
    """Only rule 8 can deny: no entry on the blacklist means `allowed`."""
    WHITELIST = 2
    """Only rule 7 can deny: an entry without end on the whitelist means `allowed`."""
    EVERYTHING = 3
    """Evaluate the table."""


def sender_is_clear(app: AppFacts, sender: UserFacts) -> bool:
    """Return whether rules 1 to 4 can never deny this sender while these facts hold, at any time."""
    if app.require_registered and not sender.registered:
        return False
    # Ends are not compared with a clock: an expired Ban only sends the caller to the table, which is always correct.
    return not (sender.deactivated or sender.banned_until_ms or sender.muted_until_ms)


def recipient_asks(app: AppFacts, recipient: UserFacts) -> Asks:
    """Return what rules 5 to 8 leave to look up while these facts hold, at any time and for a clear sender."""
    if (app.require_registered and not recipient.registered) or recipient.deactivated:
        return Asks.EVERYTHING
    if whitelist_is_on(app, recipient):
        replaced = app.list_policy == "whitelist-replaces-blacklist" or not recipient.blacklist_size
        return Asks.WHITELIST if replaced else Asks.EVERYTHING
    return Asks.BLACKLIST if recipient.blacklist_size else Asks.NOTHING
