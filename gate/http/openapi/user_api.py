"""`/user/*.json` in the document: the fields of each form, with the bounds that its endpoint enforces."""

from __future__ import annotations

from collections.abc import Mapping

from gate.http.openapi import user_shapes as shapes
from gate.http.openapi.bounds import PORTRAIT, PROFILE_NAME, REGISTRABLE_ID
from gate.http.openapi.described import CURSOR_TEXT, Described, Field, ids, joined_ids, one_id, text_field, whole
from gate.http.rongcloud import deactivation, lists, penalties, users
from gate.http.rongcloud.endpoint import MAX_IDS

_USER = one_id("userId")
_NAME = text_field("name", "Empty or absent: stays as it is.", **PROFILE_NAME)
_PORTRAIT = text_field("portraitUri", "Likewise; at most 1,024 bytes.", **PORTRAIT)
_CHAT = text_field("type", "Single chats only.", enum=[penalties.CHAT_TYPE], default=penalties.CHAT_TYPE)


def _switch(name: str, text: str) -> Field:
    return Field(name, {"type": "integer", "enum": [0, 1]}, text, True)


def _list_family(word: str, title: str, member: str) -> dict[str, Described]:
    form = (one_id("userId", "Whose list."), ids(member, MAX_IDS, example="mallory"))
    page = (
        one_id("userId", "Whose list."),
        whole("size", 1, lists.MAX_PAGE_ENTRIES, lists.MAX_PAGE_ENTRIES),
        text_field("pageToken", CURSOR_TEXT, format="page-token"),
    )
    return {
        f"/user/{word}/add.json": Described(f"Put Users on a {title}", shapes.Success, form=form),
        f"/user/{word}/remove.json": Described(f"Take Users off a {title}", shapes.Success, form=form),
        f"/user/{word}/query.json": Described(f"Page through a {title}", shapes.ListPage, form=page),
    }


_GONE = (joined_ids("userId", deactivation.MAX_DEACTIVATED),)
_GONE_PAGE = Described(
    "Page through the deactivated Users",
    shapes.UserIds,
    form=(
        whole("pageNo", 1, deactivation.MAX_PAGE, 1),
        whole("pageSize", 1, deactivation.MAX_PAGE_USERS, deactivation.MAX_PAGE_USERS),
    ),
)

DESCRIBED: Mapping[str, Described] = {
    "/user/getToken.json": Described(
        "Register a User and mint a Token",
        shapes.TokenMinted,
        form=(one_id("userId", schema=REGISTRABLE_ID), _NAME, _PORTRAIT),
        faults=(2007,),
    ),
    "/user/refresh.json": Described("Change a User's name or portrait", shapes.Success, form=(_USER, _NAME, _PORTRAIT)),
    "/user/info.json": Described("Show a User", shapes.UserProfile, form=(_USER,)),
    "/user/checkOnline.json": Described("Whether a User is online", shapes.OnlineState, form=(_USER,)),
    "/user/query.json": Described(
        "Page through the registered Users",
        shapes.UserRoll,
        form=(
            whole("page", 1, users.MAX_PAGE, 1),
            whole("pageSize", 1, users.MAX_PAGE_USERS, users.DEFAULT_PAGE_USERS),
            whole("order", 0, 1, 0, "0 oldest first, 1 newest first."),
        ),
    ),
    "/user/delusers.json": Described("Delete Users", shapes.Success, form=(joined_ids("userId", users.MAX_DELETED),)),
    "/user/token/expire.json": Described(
        "Revoke Tokens",
        shapes.Success,
        form=(
            ids("userId", MAX_IDS),
            Field(
                "time",
                {"type": "integer", "minimum": 1, "maximum": users.MAX_DIGITS_MS, "examples": [1_700_000_000_000]},
                "A moment, Unix ms, at most a day ahead: Tokens minted before it are refused.",
                True,
            ),
        ),
    ),
    "/user/deactivate.json": Described("Deactivate Users", shapes.OperationStarted, form=_GONE),
    "/user/reactivate.json": Described("Give deactivated ids back", shapes.OperationStarted, form=_GONE),
    "/user/activate.json": Described("Another name of reactivate", shapes.OperationStarted, form=_GONE),
    "/user/abandon.json": Described("Another name of deactivate", shapes.OperationStarted, form=_GONE),
    "/user/deactivate/query.json": _GONE_PAGE,
    "/user/abandon/query.json": _GONE_PAGE,
    "/user/block.json": Described(
        "Ban Users", shapes.Success, form=(ids("userId", MAX_IDS), whole("minute", 1, penalties.MAX_MINUTES))
    ),
    "/user/unblock.json": Described("Lift Bans", shapes.Success, form=(ids("userId", MAX_IDS),)),
    "/user/block/query.json": Described(
        "Page through the Bans",
        shapes.BannedUsers,
        form=(
            whole(
                "page",
                0,
                penalties.MAX_PAGE,
                0,
                "0: the first 1,000, whatever `size` is; pages reach 100,000 Bans deep.",
            ),
            whole("size", 1, penalties.MAX_PAGE_BANS, penalties.DEFAULT_PAGE_BANS),
        ),
    ),
    "/user/chat/fb/set.json": Described(
        "Mute Users, or let them speak again",
        shapes.Success,
        form=(ids("userId", penalties.MAX_MUTED), _switch("state", "1 mutes, 0 lets them speak."), _CHAT),
    ),
    "/user/chat/fb/querylist.json": Described(
        "Page through the Mutes",
        shapes.CountedUserIds,
        form=(
            whole("num", 1, penalties.MAX_ROWS, penalties.DEFAULT_ROWS),
            whole("offset", 0, penalties.MAX_OFFSET, 0),
            _CHAT,
        ),
    ),
    **_list_family("blacklist", "Blacklist", "blackUserId"),
    **_list_family("blocklist", "Blacklist, by another name", "blackUserId"),
    **_list_family("whitelist", "Whitelist", "whiteUserId"),
    "/user/whitesetting/set.json": Described(
        "Switch Whitelists on or off",
        shapes.Success,
        form=(ids("userId", MAX_IDS), _switch("whiteSetting", "1 on, 0 off.")),
    ),
    "/user/whitesetting/query.json": Described(
        "Whether Whitelists are on", shapes.WhitelistSettings, form=(ids("userId", MAX_IDS),)
    ),
}
"""By path; the method is POST."""
