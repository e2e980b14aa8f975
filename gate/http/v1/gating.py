"""Bans, Mutes and lists: the writes that change who may message whom, and pages of what is in force.

    /v1/bans, /v1/mutes             POST imposes, DELETE lifts, GET lists those in force, the latest expiry first
    /v1/blacklist, /v1/whitelist    POST puts Users on an owner's list, DELETE takes them off, GET lists the newest first
    /v1/whitelist-switch            PUT switches Users' whitelists on or off

Unlike RongCloud's endpoints these take an expiry to the millisecond or none at all, a reason, and who did it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.model import ListKind
from gate.core.scopes import USERS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.fields import (
    AT_MOST_ONE_EXPIRY,
    EXACTLY_ONE_EXPIRY,
    Actor,
    IdJson,
    PageToken,
    PlaceToken,
    Reason,
    Seconds,
    UntilMs,
    expiry_mistakes,
    expiry_ms,
    json_id,
    json_ids,
    page_cursor,
    page_token,
    place_of,
    place_token,
    until_json,
    up_to,
)
from gate.http.forms import Query
from gate.http.requests import Body, Schema
from gate.store.app_writes import PenaltyKind
from gate.store.lists import Entry
from gate.store.penalties import Penalties

# Users that one call may name: one script a Partition, each of some milliseconds at the most.
MAX_WRITE_USERS = 1_000
# Entries that one call may name: all of an owner's list are in one Partition, so it is one script of a millisecond or two.
MAX_MEMBERS = 1_000
MAX_PENALTIES_A_PAGE = 1_000
# With a page behind it, the depth to which the store pages.
MAX_OFFSET = 99_000

Users = Annotated[list[bytes], up_to(MAX_WRITE_USERS)]
Members = Annotated[list[bytes], up_to(MAX_MEMBERS)]


class Imposing(Body, frozen=True):
    """Whom, until when (exactly one of `until`, `seconds`, `permanent`), why and by whom."""

    SCHEMA: ClassVar[Schema] = EXACTLY_ONE_EXPIRY

    users: Users
    until: UntilMs | None = None
    seconds: Seconds | None = None
    permanent: bool = False
    reason: Reason = ""
    actor: Actor = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An expiry that is given twice, or not at all."""
        return expiry_mistakes(self.until, self.seconds, self.permanent, is_required=True)


class Lifting(Body, frozen=True):
    """Whom, why and by whom."""

    users: Users
    reason: Reason = ""
    actor: Actor = ""


class PenaltyPage(Query, frozen=True):
    """Which page."""

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    count: Annotated[int, Meta(ge=1, le=MAX_PENALTIES_A_PAGE)] = MAX_PENALTIES_A_PAGE
    token: PlaceToken | None = None


class Imposed(Effective, kw_only=True):
    """As `Effective`; `skipped` names the Users that were left out because they are deactivated, if there are any."""

    skipped: list[IdJson] | UnsetType = UNSET


class Penalty(Struct, kw_only=True):
    """A Ban or a Mute in force. `until` null: without end."""

    until: int | None
    reason: str
    actor: str


# `gc=False`: a page has a thousand of these, and none can be part of a cycle.
class PenalizedUser(Struct, gc=False):
    """A Ban or a Mute in force, and whom it restrains. `until` null: without end."""

    user: IdJson
    until: int | None
    reason: str
    actor: str


class BansPage(Struct, kw_only=True):
    """The latest expiry first. `next` where more follow."""

    bans: list[PenalizedUser]
    next: str | UnsetType = UNSET


class MutesPage(Struct, kw_only=True):
    """The latest expiry first. `next` where more follow."""

    mutes: list[PenalizedUser]
    next: str | UnsetType = UNSET


async def impose(call: AppRequest, body: Imposing, penalty: PenaltyKind) -> Imposed:
    """A later Ban or Mute replaces the earlier one, longer or shorter. Deactivated Users are named as `skipped`."""
    until_ms = expiry_ms(body.until, body.seconds, call.now_ms)
    written, skipped = await call.writes(body.reason, body.actor).impose(penalty, body.users, until_ms)
    # Absent, not empty: most answers have none.
    return await answered(call, Imposed, written, skipped=[json_id(user) for user in skipped] or UNSET)


async def lift(call: AppRequest, body: Lifting, penalty: PenaltyKind) -> Effective:
    """Lifting what was never imposed is no error."""
    written = await call.writes(body.reason, body.actor).lift(penalty, body.users)
    return await answered(call, Effective, written)


async def bans(call: AppRequest, query: PenaltyPage) -> BansPage:
    """`until` null means without end. `next` is present if more follow: it is the `token` of the following page.

    By tokens each one that stays in force is listed once, whatever is imposed and lifted meanwhile; by `offset` not.
    """
    found, following = await _page(call, query, call.deps.store.bans)
    return BansPage(bans=found, next=following)


async def mutes(call: AppRequest, query: PenaltyPage) -> MutesPage:
    """As `GET /v1/bans`."""
    found, following = await _page(call, query, call.deps.store.mutes)
    return MutesPage(mutes=found, next=following)


async def _page(
    call: AppRequest, query: PenaltyPage, penalties: Penalties
) -> tuple[list[PenalizedUser], str | UnsetType]:
    # By offset a page may miss entries while others leave, and its depth is bounded; a token has neither fault.
    if query.offset:
        found = await penalties.page(call.app_key, call.now_ms, query.offset, query.count)
    else:  # one more than a page: whether another follows
        place = place_of(query.token) if query.token else None
        found = await penalties.behind(call.app_key, call.now_ms, place, query.count + 1)
    page = found[: query.count]
    # By columns, in calls of C: one step of Python a field would be a third of the time of a long page.
    users, untils = json_ids([one.user for one in page]), [until_json(one.until_ms) for one in page]
    # By position, so the order of its fields is part of this line.
    shown = list(map(PenalizedUser, users, untils, [one.why for one in page], [one.by for one in page]))
    return shown, place_token(page[-1].place) if len(found) > query.count else UNSET


class Adding(Body, frozen=True):
    """Whose list, who goes on it, and until when: without an expiry, for good."""

    SCHEMA: ClassVar[Schema] = AT_MOST_ONE_EXPIRY

    owner: bytes
    members: Members
    until: UntilMs | None = None
    seconds: Seconds | None = None
    reason: Reason = ""
    actor: Actor = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An expiry that is given twice."""
        return expiry_mistakes(self.until, self.seconds)


class Removing(Body, frozen=True):
    """Whose list, and who comes off it."""

    owner: bytes
    members: Members
    reason: Reason = ""
    actor: Actor = ""


class Switching(Body, frozen=True):
    """Whose whitelists, on or off."""

    users: Users
    on: bool
    reason: Reason = ""
    actor: Actor = ""


class ListPage(Query, frozen=True):
    """Which page of whose list."""

    owner: Annotated[bytes, Meta(description="Whose list.")]
    count: Annotated[int, Meta(ge=1, le=MAX_MEMBERS)] = MAX_MEMBERS
    token: PageToken | None = None


# As `PenalizedUser`.
class Listed(Struct, gc=False):
    """One entry. `until` null: for good."""

    user: IdJson
    until: int | None


class MembersPage(Struct, kw_only=True):
    """Newest first; `next` is the token of the following page."""

    members: list[Listed]
    next: str | None


async def add(call: AppRequest, body: Adding, kind: ListKind) -> Effective:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    until_ms = expiry_ms(body.until, body.seconds, call.now_ms)
    written = await call.writes(body.reason, body.actor).add(kind, body.owner, body.members, until_ms)
    return await answered(call, Effective, written)


async def remove(call: AppRequest, body: Removing, kind: ListKind) -> Effective:
    """Removing a User that was never listed is no error."""
    written = await call.writes(body.reason, body.actor).remove(kind, body.owner, body.members)
    return await answered(call, Effective, written)


async def entries(call: AppRequest, query: ListPage, kind: ListKind) -> MembersPage:
    """`?owner=&count=&token=`: entries newest first; `next` is the token of the following page, or null."""
    # RongCloud's kind of token: a list has one Partition and a number for each entry, so no place is needed.
    before = None if query.token is None else page_cursor(query.token, "token")
    lists = call.deps.store.lists
    return members_page(*await lists.page(call.app_key, kind, query.owner, call.now_ms, before, query.count))


def members_page(entries: Sequence[Entry], next_before: int | None) -> MembersPage:
    """Entries as an answer has them."""
    users = json_ids([member for member, _ in entries])
    untils = [until_json(until_ms) for _, until_ms in entries]
    return MembersPage(
        # As `PenalizedUser`, by position.
        members=list(map(Listed, users, untils)),
        next=None if next_before is None else page_token(next_before),
    )


async def switch(call: AppRequest, body: Switching) -> Effective:
    """The Users' own switch; an App-wide one wins over it."""
    written = await call.writes(body.reason, body.actor).switch(body.users, body.on)
    return await answered(call, Effective, written)


def _of_list(name: str, kind: ListKind, title: str) -> dict[tuple[str, str], Endpoint[AppRequest]]:
    return {
        (f"/v1/{name}", "POST"): Endpoint(
            f"Put Users on a {title}", partial(add, kind=kind), scopes=USERS, faults=("list-full",)
        ),
        (f"/v1/{name}", "DELETE"): Endpoint(f"Take Users off a {title}", partial(remove, kind=kind), scopes=USERS),
        (f"/v1/{name}", "GET"): Endpoint(f"Page through a {title}", partial(entries, kind=kind), scopes=USERS),
    }


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/bans", "POST"): Endpoint("Impose Bans", partial(impose, penalty="ban"), scopes=USERS, faults=("refused",)),
    ("/v1/bans", "DELETE"): Endpoint("Lift Bans", partial(lift, penalty="ban"), scopes=USERS),
    ("/v1/bans", "GET"): Endpoint("Page through the Bans in force", bans, scopes=USERS),
    ("/v1/mutes", "POST"): Endpoint("Impose Mutes", partial(impose, penalty="mute"), scopes=USERS, faults=("refused",)),
    ("/v1/mutes", "DELETE"): Endpoint("Lift Mutes", partial(lift, penalty="mute"), scopes=USERS),
    ("/v1/mutes", "GET"): Endpoint("Page through the Mutes in force", mutes, scopes=USERS),
    **_of_list("blacklist", ListKind.BLACKLIST, "Blacklist"),
    **_of_list("whitelist", ListKind.WHITELIST, "Whitelist"),
    ("/v1/whitelist-switch", "PUT"): Endpoint("Switch Whitelists on or off", switch, scopes=USERS),
}
