"""What good answers hold, as types, except those of `/user/*`: the one place where they are told apart from what makes them.

Endpoints return plain dictionaries, which cost nothing to make; these say the same to whoever reads the document. The tests
hold every answer of a tour against them, and no member may be there that is not told here. A member that may be missing is
`| UnsetType`; null always means something, such as "without end".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gate.core.changes import Kind
from gate.core.model import AppFacts, Environment
from gate.core.verdict import Word
from gate.http.endpoint import Effective, EffectiveIfAny
from gate.http.fields import IdJson
from gate.http.v1.penalties import Penalty
from gate.store.acks import Applied
from gate.store.audit import DeploymentKind, Noted


class Problem(Struct, kw_only=True):
    """What is wrong: a stable word for programs, a text for people."""

    error: str
    message: str
    parameter: str | UnsetType = UNSET
    outcome: Literal["unknown"] | UnsetType = UNSET


class TokenProblem(Problem, kw_only=True):
    """As `Problem`; `until` with `user-banned`, null for a Ban without end."""

    until: int | UnsetType | None = UNSET


class VerdictAnswer(Struct, kw_only=True):
    """`until` is when the Verdict may change by itself; `stale_ms` the age of the facts, 0 while fresh."""

    allowed: bool
    verdict: Word
    until: int | None
    revision: str | None
    stale_ms: int


class VerdictsAnswer(Struct, kw_only=True):
    """In the order asked, all from the same facts."""

    verdicts: list[Word]
    revision: str | None
    stale_ms: int


class RuleExplained(Struct, kw_only=True):
    """One rule, with the facts that it looked at."""

    rule: Word
    denies: bool
    until: int | None
    facts: dict[str, bool | int | str | None]


class Explanation(Struct, kw_only=True, rename={"sender": "from", "recipient": "to"}):
    """Every rule in order, those after the first that denies as well."""

    verdict: Word
    allowed: bool
    until: int | None
    now: int
    app: str
    sender: str
    recipient: str
    exempt: bool
    rules: list[RuleExplained]
    revisions: list[str]
    revision: str | None
    stale_ms: int


class Listed(Struct, kw_only=True):
    """One entry. `until` null: for good."""

    user: IdJson
    until: int | None


class MembersPage(Struct, kw_only=True):
    """Newest first; `next` is the token of the following page."""

    members: list[Listed]
    next: str | None


class ListedOrNot(Struct, kw_only=True):
    """Whether one User is on the caller's Blacklist. `until` null: for good, or not at all."""

    user: IdJson
    listed: bool
    until: int | None


class RegisteredUser(Struct, kw_only=True):
    """`registered_at` is null for a User that has facts and was never registered."""

    user: IdJson
    registered_at: int | None
    name: str
    portrait: str


class UsersPage(Struct, kw_only=True):
    """One page; `total` counts all registered Users. `next` where more follow."""

    total: int
    users: list[RegisteredUser]
    next: str | UnsetType = UNSET


class KnownUser(RegisteredUser, kw_only=True):
    """A User's profile and facts. Null is what is not so."""

    deactivated: bool
    ban: Penalty | None
    mute: Penalty | None
    whitelist_on: bool
    blacklist_size: int
    whitelist_size: int
    tokens_valid_from: int | None
    online: bool


class Registration(EffectiveIfAny, kw_only=True):
    """`created` is false for a User that was registered already and is called the same."""

    user: IdJson
    created: bool


class Minting(Registration, kw_only=True):
    """`expires` null: never."""

    token: str
    expires: int | None


class BulkResult(Struct, kw_only=True):
    """What became of one operation; if it is not `ok`, the other members are those of `Problem`."""

    ok: bool
    created: bool | UnsetType = UNSET
    token: str | UnsetType = UNSET
    expires: int | UnsetType | None = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET
    outcome: Literal["unknown"] | UnsetType = UNSET


class BulkDone(EffectiveIfAny, kw_only=True):
    """In the order of the operations."""

    results: list[BulkResult]


class AuditLine(Struct, kw_only=True):
    """Who (`actor`) did what to whom (`user`, with its `members`), when, until when and why."""

    at: int
    what: Kind | Noted
    user: IdJson | UnsetType = UNSET
    members: list[IdJson] | UnsetType = UNSET
    until: int | UnsetType | None = UNSET
    settings: dict[str, Any] | UnsetType = UNSET
    on: bool | UnsetType = UNSET
    before: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    platform: str | UnsetType = UNSET
    closed: int | UnsetType = UNSET
    lost: int | UnsetType = UNSET
    actor: str
    reason: str


class AuditPage(Struct, kw_only=True):
    """The latest first; `next` is the cursor of the following page."""

    entries: list[AuditLine]
    next: str | None


class DeploymentAuditLine(Struct, kw_only=True):
    """Who (`actor`) did what to which App or operator (`about`), when and why."""

    at: int
    what: DeploymentKind
    about: str
    changed: dict[str, Any]
    actor: str
    reason: str


class DeploymentAuditPage(Struct, kw_only=True):
    """The latest first; `next` is the cursor of the following page."""

    entries: list[DeploymentAuditLine]
    next: str | None


class Dossier(KnownUser, kw_only=True):
    """Everything that is kept about one User. `next` of a part is null where that part is whole."""

    app: str
    made_at: int
    blacklist: MembersPage
    whitelist: MembersPage
    audit: AuditPage


class SecretMade(Effective, kw_only=True):
    """The new secret, shown this once."""

    app_key: str
    app_secret: str
    secret_count: int


class SecretDropped(Effective, kw_only=True):
    """How many secrets sign, and how many dropped ones' Tokens live on."""

    app_key: str
    secret_count: int
    token_key_count: int


class AppMade(Effective, kw_only=True):
    """The new App, its secret shown this once."""

    app_key: str
    app_secret: str
    name: str
    environment: Environment


_SHOWN_SETTINGS: list[tuple[str, Any]] = [
    *((one.name, one.type) for one in msgspec.structs.fields(AppFacts) if one.name not in ("secrets", "token_keys")),
    ("secret_count", int),
    ("token_key_count", int),
]
AppSettings = msgspec.defstruct(
    "AppSettings",
    _SHOWN_SETTINGS,
    kw_only=True,
    namespace={"__doc__": "An App. Of its secrets only how many there are."},
)
AppChanged = msgspec.defstruct(
    "AppChanged",
    [*_SHOWN_SETTINGS, ("revision", str), ("applied", Applied), ("pending_reason", str | UnsetType, UNSET)],
    kw_only=True,
    namespace={"__doc__": "The App as it is then, and how far the write got."},
)


class AppsPage(Struct, kw_only=True):
    """All Apps, by key."""

    apps: list[AppSettings]  # type: ignore[valid-type]


class Alive(Struct, kw_only=True):
    """The process answers."""

    status: Literal["ok"]


class Ready(Struct, kw_only=True):
    """This node may get traffic."""

    ready: Literal[True]
    stale_ms: int | None
    warnings: list[str] | UnsetType = UNSET


class NotReady(Struct, kw_only=True):
    """What this node waits for."""

    ready: Literal[False]
    missing: list[str]
