"""Reads `tests/cases/*.toml` into typed cases: facts, questions, and the Verdict each question must get.

A case looks like this; every moment is in ms after `BASE_MS`, a moment that stands for "now" on live surfaces:

    [[case]]
    name = "what a person would call it"
    app = { list_policy = "both" }                                   # settings; left out: the defaults
    users = [{ id = "ana", banned_until_ms = 1000 }]                 # facts; left out: Users never heard of
    lists = [{ blacklist_of = "bob", member = "ana", until_ms = 5 }] # until_ms left out: the entry has no end
    ask = [{ from = "ana", to = "bob", at_ms = 999, verdict = "sender-banned", until_ms = 1000 }]

An id is text, or `{ b64 = "…" }` where it is no UTF-8. `until_ms = "never"` is a fact without end. A question without
`until_ms` expects a Verdict that cannot change by itself. A field that is not known here fails the load: a typing mistake must
not make a case say less than it seems to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from gate.core.model import FOREVER_MS, AppFacts, ListKind, ListPolicy, UserFacts, WhitelistSwitch
from gate.core.verdict import Verdict, Word

CASES_DIR = Path(__file__).parent
BASE_MS = 1_900_000_000_000
"""17 March 2030: any moment would do; a round one is easy to see in a failure."""

APP_KEY = "cases"
Never = Literal["never"]


class Base64Id(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An id that is no UTF-8."""

    b64: str


Id = str | Base64Id


class AppWritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An App's settings, as a case file writes them."""

    require_registered: bool = False
    list_policy: ListPolicy = "whitelist-replaces-blacklist"
    whitelists: WhitelistSwitch = "per-user"
    exempt: frozenset[str] = frozenset()


class UserWritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A User's own facts, as a case file writes them."""

    id: Id
    registered: bool = False
    deactivated: bool = False
    whitelist_on: bool = False
    banned_until_ms: int | Never | None = None
    muted_until_ms: int | Never | None = None


class EntryWritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One list entry, as a case file writes it: exactly one of the two owners is named."""

    member: Id
    blacklist_of: Id | None = None
    whitelist_of: Id | None = None
    until_ms: int | Never = "never"


class QuestionWritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its answer, as a case file writes them."""

    sender: Id = msgspec.field(name="from")
    recipient: Id = msgspec.field(name="to")
    verdict: Word
    at_ms: int = 0
    until_ms: int | None = None


class CaseWritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case, as a case file writes it."""

    name: str
    ask: list[QuestionWritten]
    app: AppWritten = AppWritten()
    users: list[UserWritten] = []
    lists: list[EntryWritten] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    case: list[CaseWritten]


class Entry(NamedTuple):
    """One list entry, its end as Unix ms."""

    kind: ListKind
    owner: bytes
    member: bytes
    until_ms: int


class Question(NamedTuple):
    """What is asked, when (Unix ms), and the Verdict expected."""

    sender: bytes
    recipient: bytes
    at_ms: int
    expected: Verdict


class Case(NamedTuple):
    """One case: the facts, then the questions."""

    name: str
    app: AppFacts
    users: dict[bytes, UserFacts]
    """Own facts only; the store that keeps the lists counts their sizes."""
    entries: list[Entry]
    questions: list[Question]


def load_cases() -> list[Case]:
    """Every case of every file, in order; a name occurs once."""
    cases = [case for path in sorted(CASES_DIR.glob("*.toml")) for case in _cases_in(path)]
    names = [case.name for case in cases]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"cases share a name: {sorted(repeated)}")
    return cases


def _cases_in(path: Path) -> Iterator[Case]:
    for written in msgspec.toml.decode(path.read_bytes(), type=_File).case:
        yield Case(
            f"{path.stem}: {written.name}",
            AppFacts(
                key=APP_KEY,
                secrets=("cases-secret",),
                require_registered=written.app.require_registered,
                list_policy=written.app.list_policy,
                whitelists=written.app.whitelists,
                exempt=written.app.exempt,
            ),
            {_raw(user.id): _user(user) for user in written.users},
            [_entry(entry) for entry in written.lists],
            [_question(question) for question in written.ask],
        )


def _user(written: UserWritten) -> UserFacts:
    return UserFacts(
        registered=written.registered,
        deactivated=written.deactivated,
        whitelist_on=written.whitelist_on,
        banned_until_ms=_end(written.banned_until_ms),
        muted_until_ms=_end(written.muted_until_ms),
    )


def _entry(written: EntryWritten) -> Entry:
    if (written.blacklist_of is None) == (written.whitelist_of is None):
        raise ValueError("an entry names one of blacklist_of and whitelist_of")
    if written.blacklist_of is not None:
        return Entry(ListKind.BLACKLIST, _raw(written.blacklist_of), _raw(written.member), _end(written.until_ms))
    assert written.whitelist_of is not None
    return Entry(ListKind.WHITELIST, _raw(written.whitelist_of), _raw(written.member), _end(written.until_ms))


def _question(written: QuestionWritten) -> Question:
    until_ms = None if written.until_ms is None else BASE_MS + written.until_ms
    return Question(
        _raw(written.sender), _raw(written.recipient), BASE_MS + written.at_ms, Verdict(written.verdict, until_ms)
    )


def _end(written: int | Never | None) -> int:
    if written is None:
        return 0
    return FOREVER_MS if written == "never" else BASE_MS + written


def _raw(written: Id) -> bytes:
    return written.encode() if isinstance(written, str) else base64.b64decode(written.b64, validate=True)
