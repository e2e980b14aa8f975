"""`GET /v1/users/{user}/dossier`: everything that is kept about one User, as a person may ask for.

Profile, facts, both of its lists, and what was done to it. Not here, because they are other people's: the lists of others
that name this User, and what was done to those. A list or an audit that is longer than one answer should hold ends in a
cursor, with which `/v1/blacklist`, `/v1/whitelist` and `/v1/audit` go on.
"""

from __future__ import annotations

import msgspec

from gate.core.model import ListKind
from gate.core.scopes import USERS
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.v1.audit import AuditLine, AuditPage, audit_line
from gate.http.v1.lists import MembersPage, members_page
from gate.http.v1.users import KnownUser, known_of
from gate.store.lists import Entry

PAGE = 1_000
MAX_PAGES = 10
"""Of each list and of the audit: 10,000 entries are some 700 kB, and more than twice the default ceiling of a list."""


class Dossier(KnownUser, kw_only=True):
    """Everything that is kept about one User. `next` of a part is null where that part is whole."""

    app: str
    made_at: int
    blacklist: MembersPage
    whitelist: MembersPage
    audit: AuditPage


async def dossier(call: AppRequest) -> Dossier:
    """`next` of a part is null where that part is whole."""
    user = call.path_user()
    known, audit = await known_of(call, user), await _audit(call, user)
    # Of one who left, or whose last fact was lifted, the audit may be all there is.
    shown = known.shown if audit.entries else known.found
    return Dossier(
        **msgspec.structs.asdict(shown),
        app=call.app_key,
        made_at=call.now_ms,
        blacklist=await _list(call, ListKind.BLACKLIST, user),
        whitelist=await _list(call, ListKind.WHITELIST, user),
        audit=audit,
    )


async def _list(call: AppRequest, kind: ListKind, owner: bytes) -> MembersPage:
    entries: list[Entry] = []
    before = None
    for _ in range(MAX_PAGES):
        page, before = await call.deps.store.lists.page(call.app_key, kind, owner, call.now_ms, before, PAGE)
        entries += page
        if before is None:
            break
    return members_page(entries, before)


async def _audit(call: AppRequest, user: bytes) -> AuditPage:
    entries: list[AuditLine] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page, cursor = await call.deps.store.audit.page(call.app_key, PAGE, user=user, cursor=cursor)
        entries += map(audit_line, page)
        if cursor is None:
            break
    return AuditPage(entries=entries, next=cursor)


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/users/{user}/dossier", "GET"): Endpoint(
        "Everything that is kept about a User", dossier, scopes=USERS, faults=("not-found",)
    )
}
