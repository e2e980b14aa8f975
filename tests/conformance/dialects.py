"""The names that each SDK has for the common operations, and how it returns their outcome to its caller.

A dialect is a table: for each verb of the contract, the SDK's call and the form of its arguments. The SDK does not offer a verb
that is missing from its table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conformance.sdks import Raised, Sdk

Arrange = Callable[..., list[Any]]
Table = dict[str, tuple[str, Arrange]]


class Outcome(NamedTuple):
    """The code and the body that an SDK's caller can learn. Some give a code of their own for what Gate answered."""

    code: int
    body: dict[str, Any]


class Dialect(NamedTuple):
    """How one SDK is spoken."""

    sdk: str
    table: Table
    wrong_secret: int
    """The code that its caller sees for Gate's 1004."""
    tags: Table = {}  # noqa: RUF012  # never written to
    """What it offers of RongCloud's push tags, which are no part of Gate."""

    def say(self, sdk: Sdk, verb: str, *arguments: Any) -> Outcome:
        """Calls the SDK for this verb; a refusal is an outcome like any other."""
        call, arrange = (self.table | self.tags)[verb]
        try:
            body = _body(sdk(call, *arrange(*arguments)))
        except Raised as raised:
            body = _refusal(raised.fault)
        return Outcome(int(body["code"]), body)

    def does(self, sdk: Sdk, verb: str, *arguments: Any) -> dict[str, Any]:
        """As `say`, and it must succeed."""
        outcome = self.say(sdk, verb, *arguments)
        assert outcome.code == 200, outcome
        return outcome.body


def _body(returned: Any) -> dict[str, Any]:
    if isinstance(returned, str):
        returned = json.loads(returned)
    body: dict[str, Any] = returned["result"] if "ok" in returned else returned
    return body


def _refusal(fault: Any) -> dict[str, Any]:
    text = fault["text"] if isinstance(fault, dict) else fault[1]
    body: dict[str, Any] = json.loads(text[text.index("{") :])
    return body


def _listed(*arguments: Any) -> list[Any]:
    return list(arguments)


def _user(user: str, name: str | None = None, portrait: str | None = None) -> list[Any]:
    fields = {"id": user, "name": name, "portrait": portrait}
    return [{field: value for field, value in fields.items() if value is not None}]


RC_SERVER_SDK = Dialect(
    "rc-server-sdk-3.2.0",
    {
        "mint": ("user.register", _listed),
        "refresh": ("user.update", _listed),
        "look up": ("user.query", _listed),
        "see online": ("user.check_online", _listed),
        "ban": ("block.add", _listed),
        "lift": ("block.remove", _listed),
        "bans": ("block.query", _listed),
        "block": ("blacklist.add", _listed),
        "unblock": ("blacklist.remove", _listed),
        "blacklist": ("blacklist.query", _listed),
        "admit": ("whitelist.add", _listed),
        "unadmit": ("whitelist.remove", _listed),
        "whitelist": ("whitelist.query", _listed),
    },
    wrong_secret=1004,
    tags={
        "tag": ("tag.set", lambda user: [user, ["a", "b"]]),
        "tag many": ("tag.set", lambda user: [[user, f"{user}-2"], ["a", "b"]]),
        "tags": ("tag.get", lambda user: [[user]]),
    },
)

RONGCLOUD = Dialect(
    "rongcloud-2.0.1",
    {
        "mint": ("user.getToken", _listed),
        "refresh": ("user.refresh", _listed),
        "see online": ("user.checkOnline", _listed),
        "ban": ("user.block", _listed),
        "lift": ("user.unBlock", _listed),
        "bans": ("user.queryBlock", _listed),
        "block": ("user.addBlacklist", _listed),
        "unblock": ("user.removeBlacklist", _listed),
        "blacklist": ("user.queryBlacklist", _listed),
    },
    wrong_secret=1004,
)

RONGCLOUD_SERVER_SDK_PYTHON = Dialect(
    "rongcloud-server-sdk-python-0.0.2",
    {
        "mint": ("user_get_token", _listed),
        "refresh": ("user_refresh", _listed),
        "see online": ("user_check_online", _listed),
        "ban": ("user_block", _listed),
        "lift": ("user_unblock", _listed),
        "bans": ("user_block_query", _listed),
        "block": ("user_blocklist_add", _listed),
        "unblock": ("user_blocklist_remove", _listed),
        "blacklist": ("user_blocklist_query", _listed),
    },
    wrong_secret=1004,
)

NODE_3 = Dialect(
    "rongcloud-sdk",
    {
        "mint": ("User.register", _user),
        "refresh": ("User.update", _user),
        "see online": ("User.OnlineStatus.get", _user),
        "ban": ("User.Block.add", lambda user, minute: [{"id": user, "minute": minute}]),
        "lift": ("User.Block.remove", _user),
        "bans": ("User.Block.getList", _listed),
        "block": ("User.Blacklist.add", lambda owner, member: [{"id": owner, "blacklist": [{"id": member}]}]),
        "unblock": ("User.Blacklist.remove", lambda owner, member: [{"id": owner, "blacklist": [{"id": member}]}]),
        "blacklist": ("User.Blacklist.getList", _user),
    },
    wrong_secret=20000,
    tags={
        "tag": ("User.Tag.set", lambda user: [{"id": user, "tags": ["a"]}]),
        "untag": ("User.Tag.remove", _user),
        "tag many": ("User.Tag.batchSet", lambda user: [{"users": [{"id": user}], "tags": ["a"]}]),
        "untag many": ("User.Tag.batchRemove", lambda user: [{"users": [{"id": user}]}]),
        "tags": ("User.Tag.getList", lambda user: [[{"id": user}]]),
    },
)

NODE_1 = Dialect(
    "rongcloud-sdk-1",
    {
        "mint": ("user.getToken", lambda *arguments: [*arguments, "json"]),
        "refresh": ("user.refresh", lambda *arguments: [*arguments, "json"]),
        "see online": ("user.checkOnline", lambda *arguments: [*arguments, "json"]),
        "ban": ("user.block", lambda *arguments: [*arguments, "json"]),
        "lift": ("user.unblock", lambda *arguments: [*arguments, "json"]),
        "bans": ("user.block.query", lambda: ["json"]),
        "block": ("user.blacklist.add", lambda *arguments: [*arguments, "json"]),
        "unblock": ("user.blacklist.remove", lambda *arguments: [*arguments, "json"]),
        "blacklist": ("user.blacklist.query", lambda *arguments: [*arguments, "json"]),
    },
    wrong_secret=1004,
)

DIALECTS = (RC_SERVER_SDK, RONGCLOUD, RONGCLOUD_SERVER_SDK_PYTHON, NODE_3, NODE_1)
