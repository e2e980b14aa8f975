"""One User: who it is, its Ban and Mute, its lists, its Sessions, what was done to it, and a form for each act.

From Redis, all parts at once; while that is away, what this node's Replica knows. An act that is refused shows this page again
with its form as it was sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gate.console.act_fields import Failed, form_values
from gate.console.id_format import Asked, asked, named
from gate.console.labels import AUDIT_KINDS
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.views import users
from gate.core.model import NO_FACTS, ListKind, UserFacts
from gate.core.scopes import Caller
from gate.errors import StoreUnavailable
from gate.http.context import AppRequest
from gate.http.responses import json_response
from gate.http.v1.users import dossier_of
from gate.replica.reader import app_of

# Entries of each list that the page shows; the page of the list has all.
LISTED = 5
AUDITED = 8
# Entries of the audit to look through for those: some 5 ms. The page of the audit looks further.
AUDIT_LOOKED_AT = 2_000


async def show(context: ConsoleContext) -> web.Response:
    """`?user=` → the User's page; without it, the page of all Users."""
    query = context.query()
    if not query.has("user"):
        return await users.show(context)
    field = asked(query, "user")
    if field.raw is None:
        # The page of all Users, with what is wrong at its field.
        return await users.show(context, field)
    return await user_page(context, field.raw)


async def user_page(context: ConsoleContext, user: bytes, failed: Failed | None = None) -> web.Response:
    """The page of one User, with the form that failed, if one did."""
    shown = named(user)
    with context.deps.replica as snapshot:
        # Read in any case: Redis may fail after this.
        replicated = app_of(snapshot, context.app_key).user(user)
    values: dict[str, Any] = _unknown(replicated)
    try:
        # Newer than the Replica: an act that this operator just made shows, also where this node lags.
        values |= await _from_redis(context, user)
    except StoreUnavailable as fault:
        values["away"] = str(fault)
    return page(
        context,
        "user.html",
        400 if failed is not None else 200,
        user=shown,
        field=Asked(user, "", shown.field, shown.written_as),
        **form_values(context, failed),
        audit_kinds=AUDIT_KINDS,
        **values,
    )


async def dossier(context: ConsoleContext) -> web.Response:
    """`?user=` → everything that is kept about one User, as a file."""
    user = context.query().raw_user("user")
    request = AppRequest(
        # As the App itself: the role was checked, and the dossier's code asks for a caller.
        context.request,
        context.deps,
        context.app,
        context.now_ms,
        Caller("app", context.app_key, frozenset()),
    )
    response = json_response(await dossier_of(request, user))
    response.headers["Content-Disposition"] = 'attachment; filename="dossier.json"'
    # Everything about a person: no browser or proxy keeps it.
    response.headers["Cache-Control"] = "no-store"
    return response


def _unknown(replicated: UserFacts) -> dict[str, Any]:
    """What is shown while Redis is away."""
    return {
        "facts": replicated,
        "profile": None,
        "presence": None,
        "ban": ("", ""),
        "mute": ("", ""),
        "blacklist": None,
        "whitelist": None,
        "audit": None,
        "is_anything": True,
    }


async def _from_redis(context: ConsoleContext, user: bytes) -> dict[str, Any]:
    store, key, now_ms = context.deps.store, context.app_key, context.now_ms
    # Two calls of `gather`, since its type knows six results at the most; all eight run at once.
    (
        ((profile,), (facts,), (presence,), (audit, _)),
        ((ban,), (mute,), (blacklist, _), (whitelist, _)),
    ) = await asyncio.gather(
        asyncio.gather(
            store.users.profiles(key, [user]),
            store.users.facts(key, [user]),
            context.deps.presence.presences(key, [user]),
            store.audit.page(key, AUDITED, user=user, most_looked_at=AUDIT_LOOKED_AT),
        ),
        asyncio.gather(
            store.bans.reasons(key, [user]),
            store.mutes.reasons(key, [user]),
            store.lists.page(key, ListKind.BLACKLIST, user, now_ms, None, LISTED),
            store.lists.page(key, ListKind.WHITELIST, user, now_ms, None, LISTED),
        ),
    )
    # Else a mistyped id would look like a User without a history.
    is_anything = profile is not None or facts != NO_FACTS or bool(presence.sessions or presence.last_seen_ms or audit)
    return {
        "facts": facts,
        "profile": profile,
        "presence": presence,
        "ban": ban,
        "mute": mute,
        "blacklist": [(named(one.member), one.until_ms) for one in blacklist],
        "whitelist": [(named(one.member), one.until_ms) for one in whitelist],
        "audit": audit,
        "is_anything": is_anything,
    }
