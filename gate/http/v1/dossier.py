"""`GET /v1/users/{user}/dossier`: everything that is kept about one User, as a person may ask to be told.

Profile, facts, both of its lists, and what was done to it. Not here, because they are other people's: the lists of others
that name this User, and what was done to those. A list or an audit that is longer than one answer should hold ends in a
cursor, with which `/v1/blacklist`, `/v1/whitelist` and `/v1/audit` go on.
"""

from __future__ import annotations

from gate.core.model import FOREVER_MS, ListKind
from gate.http.context import AppRequest
from gate.http.fields import id_json
from gate.http.paging import page_token
from gate.http.v1.audit import entry_json
from gate.http.v1.endpoint import Endpoint
from gate.http.v1.users import known_of

PAGE = 1_000
MAX_PAGES = 10
"""Of each list and of the audit: 10,000 entries are some 700 kB, and more than twice the default ceiling of a list."""


async def dossier(call: AppRequest) -> dict[str, object]:
    """`next` of a part is null where that part is whole."""
    user = call.path_user()
    known, audit = await known_of(call, user), await _audit(call, user)
    return {
        "app": call.app_key,
        "made_at": call.now_ms,
        # Of one who left, or whose last fact was lifted, the audit may be all there is.
        **(known.shown if audit["entries"] else known.fields),
        "blacklist": await _list(call, ListKind.BLACKLIST, user),
        "whitelist": await _list(call, ListKind.WHITELIST, user),
        "audit": audit,
    }


async def _list(call: AppRequest, kind: ListKind, owner: bytes) -> dict[str, object]:
    members: list[object] = []
    before = None
    for _ in range(MAX_PAGES):
        page, before = await call.deps.store.lists.page(call.app_key, kind, owner, call.now_ms, before, PAGE)
        members += [
            {"user": id_json(entry.member), "until": entry.until_ms if entry.until_ms < FOREVER_MS else None}
            for entry in page
        ]
        if before is None:
            break
    return {"members": members, "next": None if before is None else page_token(before)}


async def _audit(call: AppRequest, user: bytes) -> dict[str, object]:
    entries: list[object] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page, cursor = await call.deps.store.audit.page(call.app_key, PAGE, user=user, cursor=cursor)
        entries += map(entry_json, page)
        if cursor is None:
            break
    return {"entries": entries, "next": cursor}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {("/v1/users/{user}/dossier", "GET"): dossier}
