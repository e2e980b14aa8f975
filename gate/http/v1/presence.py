"""`/v1/presence`, `/v1/gateways` and a User's Sessions: who is online, on what, through which Gateway; and putting it out.

    POST /v1/presence                  up to 10,000 Users, also as one of them may see them (`as`)
    GET  /v1/presence/counts           how many are online, by platform and Gateway; no Session is looked at
    GET  /v1/presence/history          how many were, a sample every 15 s for an hour
    GET  /v1/presence/online           who is online, page by page
    GET  /v1/gateways                  leases, their age, and how many Sessions each holds
    GET  /v1/users/{user}/sessions     a User's live Sessions
    POST /v1/users/{user}/kick         closes them, wherever they are held

Answered from Redis: with Redis away each is a 503. What changes is told by `changes.py` and `events.py`.
"""

from __future__ import annotations

import msgspec

from gate.core.presence import SAMPLE_EVERY_MS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.fields import IdJson, check_reason, id_bytes, id_json, ids_bytes
from gate.http.paging import page_cursor, page_token
from gate.http.v1.endpoint import Endpoint, read_as, refuse_if_any
from gate.http.v1.presence_json import platforms_json, presence_json, seen_presences
from gate.presence.kick_command import kick_user
from gate.store.writer import Attribution

MAX_USERS = 10_000
"""Of one call: some 150 ms where all are online, a thousand at a time, so that nobody else waits for the whole."""
MAX_MINUTES = 60
"""What is kept for sure; a little more is."""
MAX_PAGE = 1_000
DEFAULT_PAGE = 100


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"viewer": "as"}):
    """Whose Presence, and as which User may see it; without one, all of it."""

    users: list[IdJson]
    viewer: IdJson | None = None


class Kicking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which Sessions: this one, those of a platform, or all; why and by whom."""

    session: str | None = None
    platform: str | None = None
    reason: str = ""
    actor: str = ""


async def presences(call: AppRequest) -> dict[str, object]:
    """→ presence, in the order of the Users; repeated ones once. With `as`, where the App has `hide_presence` on, Users whose
    lists refuse that User are shown as offline and never seen."""
    body = await read_as(call, Asking, is_batch=True)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    viewer = None
    if body.viewer is not None:
        try:
            viewer = id_bytes(body.viewer, "as")
        except InvalidInput as problem:
            problems.append(problem)
    refuse_if_any(problems)
    return {"presence": await seen_presences(call, users, viewer)}


async def counts(call: AppRequest) -> dict[str, object]:
    """→ users, sessions, by_platform, by_gateway; `sweeping` leases have ended whose Users still count in `users`."""
    found = await call.deps.presence.counts(call.app_key)
    return {**found.document(), "sweeping": found.sweeping}


async def history(call: AppRequest) -> dict[str, object]:
    """`?minutes=` → every_ms, samples, the oldest first; gaps where no node could sample. Small shares are summed under the
    Gateway "", where there are very many."""
    minutes = call.query().whole("minutes", 1, MAX_MINUTES, default=MAX_MINUTES)
    samples = await call.deps.presence.history(call.app_key, call.now_ms - minutes * 60_000)
    return {"every_ms": SAMPLE_EVERY_MS, "samples": [{"at_ms": one.at_ms, **one.document()} for one in samples]}


async def online(call: AppRequest) -> dict[str, object]:
    """`?size=&pageToken=` → users, next. A page holds about `size`; who is online throughout all pages is found, and may be
    found twice while many come and go."""
    query = call.query()
    size = query.whole("size", 1, MAX_PAGE, default=DEFAULT_PAGE)
    token = query.text("pageToken")
    found, following = await call.deps.presence.page(call.app_key, 0 if token is None else page_cursor(token), size)
    users = [{"user": id_json(user), "platforms": platforms_json(sessions)} for user, sessions in found]
    return {"users": users, "next": page_token(following) if following else None}


async def gateways(call: AppRequest) -> dict[str, object]:
    """→ gateways, by name. `age_ms` is how long ago the lease was taken or renewed, or ended if it does not hold."""
    presence = call.deps.presence
    (leases,) = await presence.leases([call.app_key])
    sessions = (await presence.counts(call.app_key)).by_gateway()
    return {
        "gateways": [
            {
                "gateway": one.gateway.decode(),
                "epoch": one.epoch,
                "holds": one.holds,
                "age_ms": max(0, call.now_ms - one.renewed_at_ms),
                "sessions": sessions.get(one.gateway, 0),
            }
            for one in leases
        ]
    }


async def sessions(call: AppRequest) -> dict[str, object]:
    """What POST /v1/presence says of one User, and each of its Sessions, the oldest first."""
    user = call.path_user()
    (presence,) = await call.deps.presence.presences(call.app_key, [user])
    return {
        **presence_json(user, presence),
        "sessions": [
            {
                "session": one.id,
                "platform": one.platform,
                "gateway": one.gateway.decode(),
                "since_ms": one.since_ms,
                "active_ms": one.active_ms or None,
                "ip": one.ip,
            }
            for one in presence.sessions
        ],
    }


async def kick(call: AppRequest) -> dict[str, object]:
    """→ closed: how many Sessions. Their Gateways are told by the feed, with the reason `kicked`. The User may connect again: a
    Ban is what keeps it out. It is in the audit first: a kick that can't be there is refused."""
    user = call.path_user()
    body = await read_as(call, Kicking)
    problems: list[InvalidInput] = []
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    deps, because = call.deps, Attribution(body.actor, body.reason)
    closed = await kick_user(
        deps.store.audit, deps.presence, call.app_key, user, because, session=body.session, platform=body.platform
    )
    return {"closed": closed}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("/v1/presence", "POST"): presences,
    ("/v1/presence/counts", "GET"): counts,
    ("/v1/presence/history", "GET"): history,
    ("/v1/presence/online", "GET"): online,
    ("/v1/gateways", "GET"): gateways,
    ("/v1/users/{user}/sessions", "GET"): sessions,
    ("/v1/users/{user}/kick", "POST"): kick,
}
