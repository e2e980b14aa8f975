"""`/v1/bans`, `/v1/mutes`, `/v1/blacklist`, `/v1/whitelist`, `/v1/whitelist-switch`."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import parse_revisions
from tests.http.world import World, now_ms

WORDS = {"bans": "sender-banned", "mutes": "sender-muted"}


@pytest.mark.parametrize("family", list(WORDS))
async def test_imposed_and_lifted_from_the_answers_on(world: World, family: str) -> None:
    reply = await world.v1("POST", family, {"users": ["a", "b"], "seconds": 60})
    assert reply.status == 200
    assert set(reply.body) == {"revision", "applied"}
    assert reply.body["applied"] == reply.headers["X-Gate-Applied"] == "all"
    assert reply.body["revision"] == reply.headers["X-Gate-Revision"]
    assert parse_revisions(reply.body["revision"])
    assert [await world.word(user, "x") for user in ("a", "b")] == [WORDS[family]] * 2
    reply = await world.v1("DELETE", family, {"users": ["a", "stranger"]})
    assert (reply.status, reply.body["applied"]) == (200, "all")
    assert [await world.word(user, "x") for user in ("a", "b")] == ["allowed", WORDS[family]]


@pytest.mark.parametrize("family", list(WORDS))
async def test_ends_reasons_and_actors_show(world: World, family: str) -> None:
    until_ms = now_ms() + 90_000
    await world.v1("POST", family, {"users": ["a"], "until": until_ms, "reason": "垃圾", "actor": "op@x"})
    await world.v1("POST", family, {"users": ["b"], "permanent": True})
    odd = {"b64": base64.b64encode(b"\xff\0").decode()}
    await world.v1("POST", family, {"users": [odd], "until": until_ms - 1})
    reply = await world.v1("GET", family)
    assert reply.body == {
        family: [
            {"user": "b", "until": None, "reason": "", "actor": ""},
            {"user": "a", "until": until_ms, "reason": "垃圾", "actor": "op@x"},
            {"user": odd, "until": until_ms - 1, "reason": "", "actor": ""},
        ]
    }
    reply = await world.v1("GET", f"{family}?offset=1&count=1")
    assert [one["user"] for one in reply.body[family]] == ["a"]


async def test_seconds_count_from_now(world: World) -> None:
    before_ms = now_ms()
    await world.v1("POST", "bans", {"users": ["a"], "seconds": 3})
    (ban,) = (await world.v1("GET", "bans")).body["bans"]
    assert before_ms + 3_000 <= ban["until"] <= now_ms() + 3_000


async def test_a_permanent_ban_never_ends_and_rongclouds_query_prints_it(world: World) -> None:
    await world.v1("POST", "bans", {"users": ["a"], "permanent": True})
    check = await world.v1("GET", "check?from=a&to=b")
    assert (check.body["verdict"], check.body["until"]) == ("sender-banned", None)
    (user,) = (await world.user("block/query.json")).body["users"]
    assert user == {"userId": "a", "blockEndTime": "9999-12-31 23:59:59"}


@pytest.mark.parametrize(("kind", "word"), [("blacklist", "blacklisted"), ("whitelist", "allowed")])
async def test_a_list_with_ends(world: World, kind: str, word: str) -> None:
    if kind == "whitelist":
        reply = await world.v1("PUT", "whitelist-switch", {"users": ["b"], "on": True})
        assert (reply.status, reply.body["applied"]) == (200, "all")
    without = "allowed" if kind == "blacklist" else "not-whitelisted"
    assert await world.word("a", "b") == without
    until_ms = now_ms() + 60_000
    assert (await world.v1("POST", kind, {"owner": "b", "members": ["a"], "until": until_ms})).status == 200
    assert await world.word("a", "b") == word
    assert (await world.v1("GET", "check?from=a&to=b")).body["until"] == until_ms
    await world.v1("POST", kind, {"owner": "b", "members": ["c"]})
    page = await world.v1("GET", f"{kind}?owner=b")
    assert page.body == {"members": [{"user": "c", "until": None}, {"user": "a", "until": until_ms}], "next": None}
    await world.v1("DELETE", kind, {"owner": "b", "members": ["a"]})
    assert await world.word("a", "b") == without


async def test_pages_of_a_list(world: World) -> None:
    for number in range(5):
        await world.v1("POST", "blacklist", {"owner": "b", "members": [f"m{number}"]})
    first = await world.v1("GET", "blacklist?owner=b&count=2")
    second = await world.v1("GET", f"blacklist?owner=b&count=3&token={first.body['next']}")
    found = [one["user"] for one in first.body["members"] + second.body["members"]]
    assert found == ["m4", "m3", "m2", "m1", "m0"]
    assert second.body["next"] is None


async def test_the_ceiling_is_409_and_nothing_is_added(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, list_ceiling=2))
    reply = await world.v1("POST", "blacklist", {"owner": "b", "members": ["a", "c", "d"]})
    assert (reply.status, reply.body["error"]) == (409, "list-full")
    assert (await world.v1("GET", "blacklist?owner=b")).body["members"] == []


@pytest.mark.parametrize("noun", ["bans", "mutes"])
async def test_the_deactivated_of_a_call_are_named_and_skipped(world: World, noun: str) -> None:
    gone = [b"u7", b"\xff", b"u900"]
    await world.store.deactivation.deactivate(world.app.key, gone, now_ms())
    users = [f"u{number}" for number in range(999)]
    reply = await world.v1("POST", noun, {"users": [*users, {"b64": "/w=="}], "seconds": 600})
    assert (reply.status, reply.body["applied"]) == (200, "all")
    assert reply.body["skipped"] == ["u7", "u900", {"b64": "/w=="}]
    listed = {row["user"] for row in (await world.v1("GET", noun)).body[noun]}
    assert listed == set(users) - {"u7", "u900"}
    again = await world.v1("POST", noun, {"users": ["u1"], "seconds": 600})
    assert again.body.keys() == {"revision", "applied"}


async def test_a_deactivated_user_can_not_be_banned(world: World) -> None:
    await world.store.deactivation.deactivate(world.app.key, [b"gone"], now_ms())
    reply = await world.v1("POST", "bans", {"users": ["gone"], "seconds": 1})
    assert (reply.status, reply.body["error"]) == (409, "refused")


MANY = [f"u{number}" for number in range(1_001)]


@pytest.mark.parametrize(
    ("method", "path", "body", "parameter", "problem"),
    [
        ("POST", "bans", b"", "body", "must be a JSON object, an empty one was sent"),
        ("POST", "bans", b"{", "body", "must be JSON"),
        ("POST", "bans", b'{"users": ["\xff"], "seconds": 1}', "body", "must be JSON"),
        ("POST", "bans", b"[]", "body", "expected `object`, got `array`"),
        ("POST", "bans", {"seconds": 1}, "users", "missing required field"),
        ("POST", "bans", {"users": "a", "seconds": 1}, "users", "expected `array`, got `str`"),
        ("POST", "bans", {"users": [], "seconds": 1}, "users", "must hold 1 to 1000 ids, 0 were sent"),
        ("POST", "bans", {"users": MANY, "seconds": 1}, "users", "must hold 1 to 1000 ids, 1001 were sent"),
        ("POST", "bans", {"users": [1], "seconds": 1}, "users[0]", "got `int`"),
        ("POST", "bans", {"users": ["a", "x" * 65], "seconds": 1}, "users[1]", "must be 1 to 64 bytes, 65 were sent"),
        ("POST", "bans", {"users": [""], "seconds": 1}, "users[0]", "must be 1 to 64 bytes, 0 were sent"),
        ("POST", "bans", {"users": [{"b64": "?"}], "seconds": 1}, "users[0].b64", "invalid base64"),
        ("POST", "bans", {"users": ["a"]}, "until", "is required, or seconds, or permanent"),
        ("POST", "bans", {"users": ["a"], "seconds": 0}, "seconds", "must be 1 to 3162240000, 0 was sent"),
        ("POST", "bans", {"users": ["a"], "seconds": 3_162_240_001}, "seconds", "3162240001 was sent"),
        ("POST", "bans", {"users": ["a"], "until": 1_700_000_000}, "until", "must be Unix time in milliseconds"),
        ("POST", "bans", {"users": ["a"], "until": FOREVER_MS + 1}, "until", "must be Unix time in milliseconds"),
        ("POST", "bans", {"users": ["a"], "until": 1.5}, "until", "expected `int | null`, got `float`"),
        (
            "POST",
            "bans",
            b'{"users": ["a"], "until": 1180591620717411303424}',
            "until",
            "must be Unix time in milliseconds",
        ),
        ("POST", "bans", {"users": ["a"], "seconds": 1, "permanent": True}, "permanent", "must not come together"),
        ("POST", "bans", {"users": ["a"], "minutes": 1}, "minutes", "unknown field"),
        ("POST", "bans", {"users": ["a"], "seconds": 1, "reason": "x" * 513}, "reason", "at most 512 characters"),
        ("POST", "bans", {"users": ["a"], "seconds": 1, "actor": "x" * 129}, "actor", "at most 128 characters"),
        ("DELETE", "bans", {"users": []}, "users", "must hold 1 to 1000 ids"),
        ("POST", "blacklist", {"members": ["a"]}, "owner", "missing required field"),
        ("POST", "blacklist", {"owner": "", "members": ["a"]}, "owner", "must be 1 to 64 bytes, 0 were sent"),
        ("POST", "blacklist", {"owner": "b", "members": ["a"], "permanent": True}, "permanent", "unknown field"),
        ("POST", "blacklist", {"owner": "b", "members": MANY}, "members", "must hold 1 to 1000 ids"),
        ("DELETE", "whitelist", {"owner": "b", "members": []}, "members", "must hold 1 to 1000 ids"),
        ("PUT", "whitelist-switch", {"users": ["a"]}, "on", "missing required field"),
        ("PUT", "whitelist-switch", {"users": ["a"], "on": 1}, "on", "expected `bool`, got `int`"),
        ("GET", "bans?count=0", None, "count", "must be a whole number from 1 to 1000"),
        ("GET", "bans?offset=-1", None, "offset", "must be a whole number from 0"),
        ("GET", "bans?offset=99001", None, "offset", "must be a whole number from 0 to 99000"),
        ("GET", "blacklist", None, "owner", "is required"),
        ("GET", "blacklist?owner=b&token=zzz", None, "token", "must be the `next`"),
    ],
)
async def test_each_mistake_is_named(
    world: World, method: str, path: str, body: Any, parameter: str, problem: str
) -> None:
    reply = await world.v1(method, path, body)
    assert (reply.status, reply.body["error"]) == (400, "invalid"), reply
    assert reply.body["parameter"] == parameter
    assert problem in reply.body["message"]
    assert (await world.v1("GET", "bans")).body["bans"] == []


async def test_all_mistakes_of_one_request_are_named_at_once(world: World) -> None:
    body = {"users": ["", "x" * 65], "until": 5, "seconds": 0, "reason": "x" * 600}
    reply = await world.v1("POST", "bans", body)
    assert (reply.status, reply.body["parameter"]) == (400, "body")
    for part in ("users[0]:", "users[1]:", "seconds: must not come together", "until:", "seconds: must be", "reason:"):
        assert part in reply.body["message"]


@pytest.mark.parametrize("path", ["bans", "mutes", "blacklist", "whitelist", "whitelist-switch", "check", "explain"])
async def test_other_methods_are_405(world: World, path: str) -> None:
    reply = await world.v1("PATCH", path, {})
    assert (reply.status, reply.body["error"]) == (405, "method-not-allowed")
    assert set(reply.headers["Allow"].split(", ")) <= {"GET", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize("family", WORDS)
async def test_lifting_page_by_page_leaves_none(world: World, family: str) -> None:
    await world.v1("POST", family, {"users": [f"u{number}" for number in range(150)], "permanent": True})
    token, lifted = "", 0
    while True:
        page = (await world.v1("GET", f"{family}?count=50&token={token}")).body
        users = [one["user"] for one in page[family]]
        await world.v1("DELETE", family, {"users": users})
        lifted += len(users)
        token = page.get("next", "")
        if not token:
            break
    assert lifted == 150
    assert (await world.v1("GET", family)).body == {family: []}
    for wrong in ("x", "AAAA", "!", "gAAAAAAAAAAAYQ"):
        reply = await world.v1("GET", f"{family}?token={wrong}")
        assert (reply.status, reply.body["parameter"]) == (400, "token")


async def test_the_roll_by_tokens(world: World) -> None:
    for number in range(5):
        await world.store.users.register(world.app.key, [b"u%d" % number], 1_700_000_000_000)
    seen, token = [], ""
    while True:
        page = (await world.v1("GET", f"users?count=2&order=newest&token={token}")).body
        seen += [one["user"] for one in page["users"]]
        token = page.get("next", "")
        if not token:
            break
    assert seen == ["u4", "u3", "u2", "u1", "u0"]
