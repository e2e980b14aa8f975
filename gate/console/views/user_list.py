"""One list of one User: its entries newest first, a search among them, and forms that add and remove entries."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gate.clock import monotonic_ms
from gate.console import PREFIX
from gate.console.act_fields import NEVER, Failed, end_of, form_values, id_value, problem_text, sent_ids, typed_ids
from gate.console.acts import back_to_check, done, how_far, writes
from gate.console.id_format import asked, named, query_of
from gate.console.languages import NN_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.user_search import PAGE_MS
from gate.console.views.user_tables import ROWS, TableRow
from gate.core.model import ListKind
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.fields import page_cursor, page_token
from gate.replica.reader import app_of
from gate.store.lists import Entry

# Entries that one step of a search reads: a page may have as many rows more than `ROWS`.
SEARCHED_AT_ONCE = 250
KINDS = {"blacklist": ListKind.BLACKLIST, "whitelist": ListKind.WHITELIST}
_ADDED = {
    ListKind.BLACKLIST: NN_("%(num)s User is on the Blacklist.", "%(num)s Users are on the Blacklist."),
    ListKind.WHITELIST: NN_("%(num)s User is on the Whitelist.", "%(num)s Users are on the Whitelist."),
}
_REMOVED = {
    ListKind.BLACKLIST: NN_("%(num)s User is off the Blacklist.", "%(num)s Users are off the Blacklist."),
    ListKind.WHITELIST: NN_("%(num)s User is off the Whitelist.", "%(num)s Users are off the Whitelist."),
}


async def show(context: ConsoleContext) -> web.Response:
    """`?user=&kind=&match=&token=` → the page."""
    return await _page(context, None)


async def change(context: ConsoleContext) -> web.Response:
    """A form that adds (`users`, `ends`) or removes (`id`) entries → the page of the list, or of the check it came from."""
    form = await context.sent()
    owner, kind = _which(context)
    # The button of a row sends `id`; the form that adds has no such field.
    is_removal = form.has("id")
    try:
        members = sent_ids(context, form) if is_removal else typed_ids(context, form)
        if is_removal:
            written = await writes(context, form).remove(kind, owner, members)
        else:
            written = await writes(context, form).add(kind, owner, members, end_of(context, form))
    except (InvalidInput, Refused) as fault:
        return await _page(context, Failed.of("remove" if is_removal else "add", form, fault, context.language))
    one, many = (_REMOVED if is_removal else _ADDED)[kind]
    # Of those named, not of those that were not there yet: the entry is on the list either way.
    said = context.ngettext(one, many, len(members)) + await how_far(context, written)
    return done(context, back_to_check(context, form) or _address(context, owner, kind), said)


async def _page(context: ConsoleContext, failed: Failed | None) -> web.Response:
    query, (owner, kind) = context.query(), _which(context)
    with context.deps.replica as snapshot:
        # The size is the Replica's: known with Redis away, and a moment old.
        facts = app_of(snapshot, context.app_key).user(owner)
    values: dict[str, Any] = {"entries": None, "following": "", "looked_at": 0, "search_problem": ""}
    part = query.text("match") or ""
    try:
        before = page_cursor(query.text("token") or "", "token") if query.has("token") else None
        entries, following, looked_at = await _entries(context, kind, owner, part, before)
        values |= {
            "entries": [TableRow(named(one.member), id_value(one.member), until_ms=one.until_ms) for one in entries],
            "following": _address(context, owner, kind, match=part, token=page_token(following)) if following else "",
            "looked_at": looked_at,
        }
    except InvalidInput as fault:
        values["search_problem"] = problem_text(fault, context.language)
    except StoreUnavailable as fault:
        values["away"] = str(fault)
    is_wrong = failed is not None or bool(values["search_problem"])
    return page(
        context,
        "user_list.html",
        400 if is_wrong else 200,
        owner=named(owner),
        kind="blacklist" if kind is ListKind.BLACKLIST else "whitelist",
        size=facts.blacklist_size if kind is ListKind.BLACKLIST else facts.whitelist_size,
        part=part,
        first=_address(context, owner, kind, match=part) if query.has("token") else "",
        **form_values(context, failed, NEVER),
        **values,
    )


async def _entries(
    context: ConsoleContext, kind: ListKind, owner: bytes, part: str, before: int | None
) -> tuple[list[Entry], int | None, int]:
    """The next entries, or those of them that hold the part; where the next page begins, and how many were looked at."""
    # Ids are bytes: the case of ASCII letters alone is ignored.
    read, wanted = context.deps.store.lists.page, part.encode().lower()
    if not part:
        entries, following = await read(context.app_key, kind, owner, context.now_ms, before, ROWS)
        return entries, following, len(entries)
    found: list[Entry] = []
    # A list may have a million entries, and there is no index of parts: the page ends with its time, and leads on.
    looked_at, ends_ms = 0, monotonic_ms() + PAGE_MS
    while True:
        entries, following = await read(context.app_key, kind, owner, context.now_ms, before, SEARCHED_AT_ONCE)
        found += [one for one in entries if wanted in one.member.lower()]
        looked_at += len(entries)
        if following is None or len(found) >= ROWS or monotonic_ms() >= ends_ms:
            return found, following, looked_at
        before = following
        # A step decodes 250 entries; checks of this process get a turn in between.
        await asyncio.sleep(0)


def _which(context: ConsoleContext) -> tuple[bytes, ListKind]:
    query = context.query()
    kind = KINDS.get(query.text("kind") or "blacklist")
    if kind is None:
        raise InvalidInput("kind", "must be blacklist or whitelist")
    owner = asked(query, "user")
    if owner.raw is None:
        raise InvalidInput("user", owner.problem or "is required")
    return owner.raw, kind


def _address(context: ConsoleContext, owner: bytes, kind: ListKind, **fields: str) -> str:
    name = "blacklist" if kind is ListKind.BLACKLIST else "whitelist"
    given = {field: value for field, value in fields.items() if value}
    return f"{PREFIX}{context.app_key}/user/list?user={named(owner).query}&{query_of(kind=name, **given)}"
