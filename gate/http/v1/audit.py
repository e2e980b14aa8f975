"""`GET /v1/audit?user=&from=&to=&count=&cursor=`: who did what to whom, when, until when and why, the latest first.

`from` counts, `to` no longer does; both are Unix milliseconds. A page of one User may be short and still have a `next`.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.changes import Kind
from gate.core.model import FOREVER_MS
from gate.core.scopes import ADMIN
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import CURSOR_TEXT, IdJson, json_id, until_json
from gate.http.forms import Query
from gate.store.audit import MAX_AUDIT_PAGE, NOTED, AuditEntry, DeploymentEntry, DeploymentKind, Noted
from gate.store.writer import OriginKind

# A page for a person; a program that reads all asks for `MAX_AUDIT_PAGE`.
DEFAULT_PAGE = 100
_CURSOR = r"^([1-9][0-9]{0,15}-[0-9]{1,16}-[0-9]{1,4})?$"

FromMs = Annotated[int, Meta(ge=0, le=FOREVER_MS, description="A moment, Unix ms, that counts.")]
ToMs = Annotated[int, Meta(ge=0, le=FOREVER_MS, description="A moment, Unix ms, that no longer counts.")]
Count = Annotated[int, Meta(ge=1, le=MAX_AUDIT_PAGE)]
Cursor = Annotated[str, Meta(description=CURSOR_TEXT, extra_json_schema={"pattern": _CURSOR})]


class AuditQuery(Query, frozen=True):
    """Which entries."""

    user: Annotated[bytes, Meta(description="Only what was done to this User.")] | None = None
    count: Count = DEFAULT_PAGE
    from_ms: FromMs = msgspec.field(default=0, name="from")
    to_ms: ToMs = msgspec.field(default=FOREVER_MS, name="to")
    cursor: Cursor | None = None


class DeploymentAuditQuery(Query, frozen=True):
    """Which entries."""

    count: Count = DEFAULT_PAGE
    from_ms: FromMs = msgspec.field(default=0, name="from")
    to_ms: ToMs = msgspec.field(default=FOREVER_MS, name="to")
    cursor: Cursor | None = None


class AuditBy(Struct, kw_only=True):
    """Who did it, as Gate found out itself; `kind` is `unknown` in entries of versions before 0.7."""

    kind: OriginKind
    name: str


class AuditLine(Struct, kw_only=True):
    """Who (`by`; `on_behalf_of` in its own words) did what to whom (`user`, with its `members`), when, until when and why."""

    at: int
    what: Kind | Noted
    # Absent and not null: an entry has the members of its kind, and no others.
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
    letters: int | UnsetType = UNSET
    webhook: str | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    actor: str
    reason: str
    by: AuditBy
    on_behalf_of: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    address: str | UnsetType = UNSET


class AuditPage(Struct, kw_only=True):
    """The latest first; `next` is the cursor of the following page."""

    entries: list[AuditLine]
    next: str | None


class DeploymentAuditLine(Struct, kw_only=True):
    """Who (`by`) did what to which App or operator (`about`), when and why."""

    at: int
    what: DeploymentKind
    about: str
    changed: dict[str, Any]
    actor: str
    reason: str
    by: AuditBy
    on_behalf_of: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    address: str | UnsetType = UNSET


class DeploymentAuditPage(Struct, kw_only=True):
    """The latest first; `next` is the cursor of the following page."""

    entries: list[DeploymentAuditLine]
    next: str | None


async def page(call: AppRequest, query: AuditQuery) -> AuditPage:
    """`next` is the cursor of the following page, or null."""
    entries, following = await call.deps.store.audit.page(
        call.app_key,
        query.count,
        user=query.user,
        from_ms=query.from_ms,
        to_ms=query.to_ms,
        cursor=query.cursor,
    )
    return AuditPage(entries=[audit_line(entry) for entry in entries], next=following)


def audit_line(entry: AuditEntry) -> AuditLine:
    """Without the members that an entry of its kind does not have."""
    # Not checked: an entry that a newer version wrote is shown under its own word.
    what = cast("Kind | Noted", entry.kind)
    line = AuditLine(at=entry.at_ms, what=what, actor=entry.by, reason=entry.why, **_origin(entry))
    if entry.user:
        line.user = json_id(entry.user)
    if entry.members:
        line.members = [json_id(member) for member in entry.members]
    if entry.until_ms:
        # 0 is no end at all, which only some kinds have; null is an end that never comes.
        line.until = until_json(entry.until_ms)
    if entry.kind == "app-set":
        # Written without secrets (`store.apps.changed`), so all of it may be shown.
        line.settings = orjson.loads(entry.value)
    elif entry.kind == "whitelist-switched":
        line.on = entry.value == b"1"
    elif entry.kind == "tokens-revoked":
        line.before = int(entry.value)
    elif entry.kind in NOTED:
        for name, value in orjson.loads(entry.value).items():
            # The names are Gate's own: no caller chooses what is written in an entry of these kinds.
            setattr(line, name, value)
    return line


def deployment_audit_line(entry: DeploymentEntry) -> DeploymentAuditLine:
    """`about` is an App key or an operator's name; `changed` holds what the write changed, never a secret."""
    return DeploymentAuditLine(
        at=entry.at_ms,
        # Likewise not checked.
        what=cast("DeploymentKind", entry.kind),
        about=entry.about,
        changed=orjson.loads(entry.value),
        actor=entry.by,
        reason=entry.why,
        **_origin(entry),
    )


def _origin(entry: AuditEntry | DeploymentEntry) -> dict[str, Any]:
    kind, name, request_id, address = entry.origin
    # Of the other kinds the actor is Gate's own word: an operator's name, a node's, or that a User did it.
    on_behalf_of = entry.by if kind in ("app", "key", "cli", "unknown") else ""
    known = {"on_behalf_of": on_behalf_of, "request_id": request_id, "address": address}
    return {"by": AuditBy(kind=kind, name=name), **{member: text for member, text in known.items() if text}}


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/audit", "GET"): Endpoint("Who did what to whom", page, scopes=ADMIN)
}
