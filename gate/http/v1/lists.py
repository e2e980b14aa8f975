"""`/v1/blacklist`, `/v1/whitelist` and `/v1/whitelist-switch`: the lists with ends, and in pages with those ends."""

from __future__ import annotations

from functools import partial

import msgspec

from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.fields import IdJson, check_reason, end_ms, id_bytes, id_json, ids_bytes
from gate.http.paging import page_cursor, page_token
from gate.http.v1.endpoint import Endpoint, read_as, refuse_if_any
from gate.store.writer import WriteReceipt

MAX_MEMBERS = 1_000
"""Entries, or Users, that one call may name."""


class Adding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose list, who goes on it, and until when: without an end, for good."""

    owner: IdJson
    members: list[IdJson]
    until: int | None = None
    seconds: int | None = None
    reason: str = ""
    actor: str = ""


class Removing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose list, and who comes off it."""

    owner: IdJson
    members: list[IdJson]
    reason: str = ""
    actor: str = ""


class Switching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose whitelists, on or off."""

    users: list[IdJson]
    on: bool
    reason: str = ""
    actor: str = ""


async def add(call: AppRequest, kind: ListKind) -> WriteReceipt:
    """All or, past the App's ceiling, none. Adding again sets the new end."""
    body = await read_as(call, Adding)
    problems: list[InvalidInput] = []
    owner = _owner(body.owner, problems)
    members = ids_bytes(body.members, "members", MAX_MEMBERS, problems)
    until_ms = end_ms(body.until, body.seconds, False, call.now_ms, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    end = until_ms or FOREVER_MS
    ceiling, why, by = call.facts.list_ceiling, body.reason, body.actor
    return await call.deps.store.lists.add(call.app_key, kind, owner, members, end, call.now_ms, ceiling, why, by)


async def remove(call: AppRequest, kind: ListKind) -> WriteReceipt:
    """Removing who was never listed is no error."""
    body = await read_as(call, Removing)
    problems: list[InvalidInput] = []
    owner = _owner(body.owner, problems)
    members = ids_bytes(body.members, "members", MAX_MEMBERS, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    return await call.deps.store.lists.remove(call.app_key, kind, owner, members, call.now_ms, body.reason, body.actor)


async def page(call: AppRequest, kind: ListKind) -> dict[str, object]:
    """`?owner=&count=&token=`: entries newest first; `next` is the token of the following page, or null."""
    query = call.query()
    owner = query.raw_user("owner")
    count = query.whole("count", 1, MAX_MEMBERS, default=MAX_MEMBERS)
    token = query.text("token")
    before = None if token is None else page_cursor(token, "token")
    entries, next_before = await call.deps.store.lists.page(call.app_key, kind, owner, call.now_ms, before, count)
    members = [
        {"user": id_json(entry.member), "until": entry.until_ms if entry.until_ms < FOREVER_MS else None}
        for entry in entries
    ]
    return {"members": members, "next": None if next_before is None else page_token(next_before)}


async def switch(call: AppRequest) -> WriteReceipt:
    """The Users' own switch; an App-wide one wins over it."""
    body = await read_as(call, Switching)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_MEMBERS, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    return await call.deps.store.lists.switch(call.app_key, users, body.on, call.now_ms, body.reason, body.actor)


def _owner(value: IdJson, problems: list[InvalidInput]) -> bytes:
    try:
        return id_bytes(value, "owner")
    except InvalidInput as problem:
        problems.append(problem)
        return b""


def _endpoints(name: str, kind: ListKind) -> dict[tuple[str, str], Endpoint]:
    return {
        (f"/v1/{name}", "POST"): partial(add, kind=kind),
        (f"/v1/{name}", "DELETE"): partial(remove, kind=kind),
        (f"/v1/{name}", "GET"): partial(page, kind=kind),
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    **_endpoints("blacklist", ListKind.BLACKLIST),
    **_endpoints("whitelist", ListKind.WHITELIST),
    ("/v1/whitelist-switch", "PUT"): switch,
}
