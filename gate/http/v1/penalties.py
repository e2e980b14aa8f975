"""`/v1/bans` and `/v1/mutes`: POST imposes, DELETE lifts, GET lists those in force, the latest end first.

Unlike `/user/block.json` these take an end to the millisecond or none at all, a reason, and who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.dependencies import Store
from gate.http.paging import place_of, place_token
from gate.http.v1.endpoint import Done, Endpoint, read_as, refuse_if_any
from gate.http.v1.fields import IdJson, check_reason, end_ms, id_json, ids_bytes
from gate.store.restraints import Restraints
from gate.store.writing import Written

MAX_USERS = 1_000
"""Users that one call may name: one script a Partition, each of some milliseconds at the most."""
MAX_PAGE = 1_000
MAX_OFFSET = 99_000
"""With a page behind it, the depth to which the store pages: every Partition is asked for that many."""

Family = Callable[[Store], Restraints]


class Imposing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom, until when (exactly one of `until`, `seconds`, `permanent`), why and by whom."""

    users: list[IdJson]
    until: int | None = None
    seconds: int | None = None
    permanent: bool = False
    reason: str = ""
    actor: str = ""


class Lifting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom, why and by whom."""

    users: list[IdJson]
    reason: str = ""
    actor: str = ""


async def impose(call: AppRequest, family: Family) -> Done:
    """A later Ban or Mute replaces the earlier one, longer or shorter. Deactivated Users are named as `skipped`."""
    body = await read_as(call, Imposing)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    until_ms = end_ms(body.until, body.seconds, body.permanent, call.now_ms, problems)
    if until_ms is None:
        problems.append(InvalidInput("until", "is required, or seconds, or permanent"))
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    written, skipped = await family(call.deps.store).impose_on_active(
        call.app_key, users, until_ms or 0, call.now_ms, body.reason, body.actor
    )
    return Done({"skipped": [id_json(user) for user in skipped]} if skipped else {}, written)


async def lift(call: AppRequest, family: Family) -> Written:
    """Lifting what was never imposed is no error."""
    body = await read_as(call, Lifting)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    check_reason(body.reason, body.actor, problems)
    refuse_if_any(problems)
    return await family(call.deps.store).lift(call.app_key, users, call.now_ms, body.reason, body.actor)


async def page(call: AppRequest, family: Family, name: str) -> dict[str, object]:
    """`until` null means without end. `next` is there where more follow: the `token` of the following page.

    By tokens each one that stays in force is listed once, whatever is imposed and lifted meanwhile; by `offset` not.
    """
    query = call.query()
    offset = query.whole("offset", 0, MAX_OFFSET, default=0)
    count = query.whole("count", 1, MAX_PAGE, default=MAX_PAGE)
    token = query.text("token")
    penalties = family(call.deps.store)
    if offset:
        found = await penalties.page(call.app_key, call.now_ms, offset, count)
    else:  # one more than a page: whether another follows
        place = place_of(token) if token else None
        found = await penalties.behind(call.app_key, call.now_ms, place, count + 1)
    following = {"next": place_token(found[count - 1].place)} if len(found) > count else {}
    return {
        name: [
            {
                "user": id_json(one.user),
                "until": one.until_ms if one.until_ms < FOREVER_MS else None,
                "reason": one.why,
                "actor": one.by,
            }
            for one in found[:count]
        ],
        **following,
    }


def _endpoints(name: str, family: Family) -> dict[tuple[str, str], Endpoint]:
    return {
        (f"/v1/{name}", "POST"): partial(impose, family=family),
        (f"/v1/{name}", "DELETE"): partial(lift, family=family),
        (f"/v1/{name}", "GET"): partial(page, family=family, name=name),
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    **_endpoints("bans", lambda store: store.bans),
    **_endpoints("mutes", lambda store: store.mutes),
}
