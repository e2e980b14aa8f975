"""Bans, Mutes, lists and the whitelist switch as RongCloud has them.

    /user/block.json, unblock.json, block/query.json     RongCloud's "block" is Gate's Ban
    /user/chat/fb/set.json, querylist.json               its single-chat mute is Gate's Mute, without an end
    /user/blacklist/*.json, /user/whitelist/*.json       add, remove, query; alike but for the name of the member's field
    /user/whitesetting/set.json, query.json              the User's own whitelist switch

`/v1/mutes` has Mutes that end, `/v1/bans` Bans that do not.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.ids import shown
from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import PageToken, page_cursor, page_token, up_to
from gate.http.forms import FormBody, shown_value
from gate.http.rongcloud.endpoint import LAST_PAGE, MAX_IDS, Success, UserIds, Users, UsersForm, time_text

# 30 days. There is no permanent Ban in this API; `/v1/bans` has one.
MAX_MINUTES = 43_200
MINUTE_MS = 60_000
# Without a page, the first thousand are answered.
UNPAGED_BANS = 1_000
DEFAULT_PAGE_BANS = 50
MAX_PAGE_BANS = 1_000


class BlockForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whom, and for how long."""

    users: Users
    minute: Annotated[int, Meta(ge=1, le=MAX_MINUTES, examples=[60])]


class BansForm(FormBody, frozen=True):
    """Which page."""

    page: Annotated[
        int,
        Meta(
            ge=0,
            le=LAST_PAGE,
            description="0: the first 1,000, whatever `size` is; pages reach 100,000 Bans deep.",
        ),
    ] = 0
    size: Annotated[int, Meta(ge=1, le=MAX_PAGE_BANS)] = DEFAULT_PAGE_BANS


class BannedUser(Struct, kw_only=True):
    """One Ban. `blockEndTime` is in the App's time zone."""

    userId: str
    blockEndTime: str


class BannedUsers(Success, kw_only=True):
    """The latest expiry first."""

    users: list[BannedUser]


async def block(call: AppRequest, form: BlockForm) -> Success:
    """Ban 1 to 20 Users for some minutes; a later Ban replaces the earlier. Deactivated Users are skipped."""
    # From when the request came, not from when it is effective.
    until_ms = call.now_ms + form.minute * MINUTE_MS
    imposed = await call.writes().impose("ban", form.users, until_ms)
    call.effect = await call.effective(imposed.written)
    return Success()


async def unblock(call: AppRequest, form: UsersForm) -> Success:
    """Lift the Bans of 1 to 20 Users, banned or not."""
    written = await call.writes().lift("ban", form.users)
    call.effect = await call.effective(written)
    return Success()


async def query_bans(call: AppRequest, form: BansForm) -> BannedUsers:
    """The Bans in force, the latest expiry first; in pages if a page is given."""
    offset, count = ((form.page - 1) * form.size, form.size) if form.page else (0, UNPAGED_BANS)
    bans = await call.deps.store.bans.page(call.app_key, call.now_ms, offset, count)
    offset_minutes = call.facts.utc_offset_minutes
    return BannedUsers(
        users=[BannedUser(userId=shown(ban.user), blockEndTime=time_text(ban.until_ms, offset_minutes)) for ban in bans]
    )


MAX_MUTED = 1_000
DEFAULT_ROWS = 100
MAX_ROWS = 200
# The store pages to a depth of 100,000.
MAX_OFFSET = 99_000
CHAT_TYPE = "PERSON"


def _check_chat_type(sent: str) -> None:
    if sent.upper() != CHAT_TYPE:
        value = shown_value(sent.encode())
        raise InvalidInput("type", f"must be {CHAT_TYPE}: groups and rooms are not Gate's, {value} was sent")


ChatType = Annotated[
    str,
    Meta(
        description="Single chats only.",
        extra_json_schema={"enum": [CHAT_TYPE]},
        extra={"check": _check_chat_type},
    ),
]


class MuteForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whom to mute or not, and in which chats."""

    users: Annotated[list[bytes], up_to(MAX_MUTED, "alice")]
    state: Annotated[Literal[0, 1], Meta(description="1 mutes, 0 lets them speak.")]
    type: ChatType = CHAT_TYPE


class MutesForm(FormBody, frozen=True):
    """Which page, and of which chats."""

    num: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = DEFAULT_ROWS
    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    type: ChatType = CHAT_TYPE


class CountedUserIds(Success, kw_only=True):
    """Ids of one page; `total` counts all."""

    total: int
    users: list[str]


async def set_mute(call: AppRequest, form: MuteForm) -> Success:
    """Mute 1 to 1,000 Users, or let them speak again. Deactivated Users are not muted."""
    if form.state:
        written = (await call.writes().impose("mute", form.users, FOREVER_MS)).written
    else:
        written = await call.writes().lift("mute", form.users)
    call.effect = await call.effective(written)
    return Success()


async def query_mutes(call: AppRequest, form: MutesForm) -> CountedUserIds:
    """The muted Users, those without an expiry first."""
    mutes = call.deps.store.mutes
    page = await mutes.page(call.app_key, call.now_ms, form.offset, form.num)
    # Of another moment than the page: it may count a Mute more or less.
    total = await mutes.count(call.app_key, call.now_ms)
    return CountedUserIds(total=total, users=[shown(mute.user) for mute in page])


# Lists

# Also what a query without a size answers.
MAX_PAGE_ENTRIES = 1_000

Owner = Annotated[bytes, Meta(description="Whose list.")]
Members = Annotated[list[bytes], up_to(MAX_IDS, "mallory")]


class EntriesForm(FormBody, frozen=True, rename={"owner": "userId"}):
    """Whose list, and which entries."""

    owner: Owner
    members: Members


# Its own class only for the field's name, which differs by list in RongCloud's API.
class BlacklistForm(EntriesForm, frozen=True):
    """Of a Blacklist."""

    members: Members = msgspec.field(name="blackUserId")


class WhitelistForm(EntriesForm, frozen=True):
    """Of a Whitelist."""

    members: Members = msgspec.field(name="whiteUserId")


class ListForm(FormBody, frozen=True, rename={"owner": "userId", "token": "pageToken"}):
    """Which page of whose list."""

    owner: Owner
    token: PageToken | None = None
    size: Annotated[int, Meta(ge=1, le=MAX_PAGE_ENTRIES)] = MAX_PAGE_ENTRIES


class ListPage(UserIds, kw_only=True):
    """Newest first; `next` is there where more follows, and goes into `pageToken`."""

    next: str | UnsetType = UNSET


async def add(call: AppRequest, form: EntriesForm, kind: ListKind) -> Success:
    """Put 1 to 20 Users on the owner's list; past the ceiling, none of them."""
    written = await call.writes().add(kind, form.owner, form.members)
    call.effect = await call.effective(written)
    return Success()


async def remove(call: AppRequest, form: EntriesForm, kind: ListKind) -> Success:
    """Take 1 to 20 Users off the owner's list, on it or not."""
    written = await call.writes().remove(kind, form.owner, form.members)
    call.effect = await call.effective(written)
    return Success()


async def query(call: AppRequest, form: ListForm, kind: ListKind) -> ListPage:
    """The owner's list, newest first; `next` only if more follows."""
    before = None if form.token is None else page_cursor(form.token)
    entries, next_before = await call.deps.store.lists.page(
        call.app_key, kind, form.owner, call.now_ms, before, form.size
    )
    users = [shown(entry.member) for entry in entries]
    return ListPage(users=users, next=UNSET if next_before is None else page_token(next_before))


def _family(word: str, kind: ListKind, takes: type[EntriesForm], title: str) -> dict[str, Endpoint[AppRequest]]:
    return {
        f"/user/{word}/add.json": Endpoint(f"Put Users on a {title}", partial(add, kind=kind), takes=takes),
        f"/user/{word}/remove.json": Endpoint(f"Take Users off a {title}", partial(remove, kind=kind), takes=takes),
        f"/user/{word}/query.json": Endpoint(f"Page through a {title}", partial(query, kind=kind)),
    }


class SwitchForm(FormBody, frozen=True, rename={"users": "userId", "on": "whiteSetting"}):
    """Whose Whitelist, on or off."""

    users: Users
    on: Annotated[Literal[0, 1], Meta(description="1 on, 0 off.")]


class WhitelistSetting(Struct, kw_only=True):
    """One User's own switch, as a string, as RongCloud has it."""

    userId: str
    whiteSetting: Literal["0", "1"]


class WhitelistSettings(Success, kw_only=True):
    """In the order of the Users in the request."""

    users: list[WhitelistSetting]


async def set_switch(call: AppRequest, form: SwitchForm) -> Success:
    """Switch the whitelists of 1 to 20 Users: 1 on, 0 off."""
    written = await call.writes().switch(form.users, form.on == 1)
    call.effect = await call.effective(written)
    return Success()


async def switches(call: AppRequest, form: UsersForm) -> WhitelistSettings:
    """Each User's own switch, as a string, in the order of the request; an App-wide switch does not show here."""
    found = await call.deps.store.lists.switches(call.app_key, form.users)
    return WhitelistSettings(
        users=[
            WhitelistSetting(userId=shown(user), whiteSetting="1" if on else "0")
            for user, on in zip(form.users, found, strict=True)
        ]
    )


ENDPOINTS: dict[str, Endpoint[AppRequest]] = {
    "/user/block.json": Endpoint("Ban Users", block),
    "/user/unblock.json": Endpoint("Lift Bans", unblock),
    "/user/block/query.json": Endpoint("Page through the Bans", query_bans),
    "/user/chat/fb/set.json": Endpoint("Mute Users, or let them speak again", set_mute),
    "/user/chat/fb/querylist.json": Endpoint("Page through the Mutes", query_mutes),
    **_family("blacklist", ListKind.BLACKLIST, BlacklistForm, "Blacklist"),
    # RongCloud's English page on adding prints this name.
    **_family("blocklist", ListKind.BLACKLIST, BlacklistForm, "Blacklist, by another name"),
    **_family("whitelist", ListKind.WHITELIST, WhitelistForm, "Whitelist"),
    "/user/whitesetting/set.json": Endpoint("Switch Whitelists on or off", set_switch),
    "/user/whitesetting/query.json": Endpoint("Whether Whitelists are on", switches),
}
