"""`GET /v1/audit?user=&from=&to=&count=&cursor=`: who did what to whom, when, until when and why, the latest first.

`from` counts, `to` no longer does; both are Unix milliseconds. A page of one User may be short and still have a `next`.
"""

from __future__ import annotations

import orjson

from gate.core.model import FOREVER_MS
from gate.http.context import AppRequest
from gate.http.fields import id_json
from gate.http.v1.endpoint import Endpoint
from gate.store.audit import MAX_PAGE, NOTED, AuditEntry, DeploymentEntry

DEFAULT_PAGE = 100


async def page(call: AppRequest) -> dict[str, object]:
    """`next` is the cursor of the following page, or null."""
    query = call.query()
    user = None if query.one("user") is None else query.raw_user("user")
    entries, following = await call.deps.store.audit.page(
        call.app_key,
        query.whole("count", 1, MAX_PAGE, default=DEFAULT_PAGE),
        user=user,
        from_ms=query.whole("from", 0, FOREVER_MS, default=0),
        to_ms=query.whole("to", 0, FOREVER_MS, default=FOREVER_MS),
        cursor=query.text("cursor"),
    )
    return {"entries": [entry_json(entry) for entry in entries], "next": following}


def entry_json(entry: AuditEntry) -> dict[str, object]:
    """Without the members that an entry of its kind does not have."""
    shown: dict[str, object] = {"at": entry.at_ms, "what": entry.kind}
    if entry.user:
        shown["user"] = id_json(entry.user)
    if entry.members:
        shown["members"] = [id_json(member) for member in entry.members]
    if entry.until_ms:
        shown["until"] = entry.until_ms if entry.until_ms < FOREVER_MS else None
    if entry.kind == "app-set":
        shown["settings"] = orjson.loads(entry.value)
    elif entry.kind == "whitelist-switched":
        shown["on"] = entry.value == b"1"
    elif entry.kind == "tokens-revoked":
        shown["before"] = int(entry.value)
    elif entry.kind in NOTED:
        shown |= orjson.loads(entry.value)
    return shown | {"actor": entry.by, "reason": entry.why}


def deployment_json(entry: DeploymentEntry) -> dict[str, object]:
    """`about` is an App key or an operator's name; `changed` holds what the write changed, never a secret."""
    return {
        "at": entry.at_ms,
        "what": entry.kind,
        "about": entry.about,
        "changed": orjson.loads(entry.value),
        "actor": entry.by,
        "reason": entry.why,
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {("/v1/audit", "GET"): page}
