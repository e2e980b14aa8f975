"""`/user/blacklist/*.json` and `/user/whitelist/*.json`: add, remove, query; alike but for the name of the member's field.

`/user/whitesetting/set.json` and `query.json`: the User's own whitelist switch.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.ids import shown
from gate.core.model import ListKind
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import up_to
from gate.http.forms import FormBody
from gate.http.paging import PageToken, page_cursor, page_token
from gate.http.rongcloud.endpoint import MAX_IDS, Success, UserIds, Users, UsersForm

MAX_PAGE_ENTRIES = 1_000
"""Also what a query without a size answers."""

Owner = Annotated[bytes, Meta(description="Whose list.")]
Members = Annotated[list[bytes], up_to(MAX_IDS, "mallory")]


class EntriesForm(FormBody, frozen=True, rename={"owner": "userId"}):
    """Whose list, and which entries."""

    owner: Owner
    members: Members


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
    **_family("blacklist", ListKind.BLACKLIST, BlacklistForm, "Blacklist"),
    # RongCloud's English page on adding prints this name.
    **_family("blocklist", ListKind.BLACKLIST, BlacklistForm, "Blacklist, by another name"),
    **_family("whitelist", ListKind.WHITELIST, WhitelistForm, "Whitelist"),
    "/user/whitesetting/set.json": Endpoint("Switch Whitelists on or off", set_switch),
    "/user/whitesetting/query.json": Endpoint("Whether Whitelists are on", switches),
}
