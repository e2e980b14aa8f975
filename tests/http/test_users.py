"""`/user/getToken.json`, `refresh`, `info`, `checkOnline`, `query`, `delusers`."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gate.core.model import FOREVER_MS, ListKind
from gate.core.token import verify
from gate.errors import TokenRefused
from gate.http.rongcloud.endpoint import time_text
from gate.replica.reading import Reading
from gate.store import keys
from tests.http.world import Field, Reply, World, now_ms


async def token_of(world: World, user: str, **profile: str) -> str:
    reply = await world.user("getToken.json", [("userId", user), *profile.items()])
    assert reply.status == 200, reply
    token: str = reply.body["token"]
    return token


def fault(world: World, token: str) -> str | None:
    """Why this node refuses a Token, from its Replica alone."""
    reading = Reading(world.node.directory)
    reading.refresh()
    try:
        verify(token, reading.app, now_ms())
    except TokenRefused as refused:
        return refused.fault
    finally:
        reading.release()
        reading.close()
    return None


def refused(reply: Reply, status: int, code: int, message: str, path: str) -> bool:
    return (reply.status, reply.body) == (status, {"code": code, "errorMessage": message, "url": f"/user/{path}"})


async def test_the_first_call_registers_and_every_call_gives_another_token(world: World) -> None:
    first = await world.user("getToken.json", [("userId", "u1"), ("name", "Ann"), ("portraitUri", "http://p/1")])
    assert first.status == 200
    assert first.body == {"code": 200, "userId": "u1", "token": first.body["token"]}
    assert first.headers["X-Gate-Applied"] == "all"
    again = [await token_of(world, "u1") for _ in range(3)]
    tokens = {first.body["token"], *again}
    assert len(tokens) == 4
    assert all(len(token) <= 256 for token in tokens)
    assert {fault(world, token) for token in tokens} == {None}


async def test_a_user_that_is_registered_costs_no_change_and_no_wait(world: World) -> None:
    await token_of(world, "u1", name="Ann")
    heads = await world.store.changelog.heads()
    again = await world.user("getToken.json", [("userId", "u1"), ("name", "Ann")])
    named = await world.user("getToken.json", [("userId", "u1"), ("name", "Bea")])
    assert "X-Gate-Applied" not in again.headers and "X-Gate-Applied" not in named.headers
    assert await world.store.changelog.heads() == heads


async def test_a_registered_user_is_known_to_the_gate(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, require_registered=True))
    assert await world.word("u1", "u2") == "sender-unknown"
    await token_of(world, "u1")
    assert await world.word("u1", "u2") == "recipient-unknown"
    await token_of(world, "u2")
    assert await world.word("u1", "u2") == "allowed"


async def test_info_shows_the_latest_profile(world: World) -> None:
    before_ms = now_ms()
    await token_of(world, "u1", name="Ann", portraitUri="http://p/1?a=b&c")
    times = {time_text(at_ms, 480) for at_ms in (before_ms, now_ms())}
    info = await world.user("info.json", [("userId", "u1")])
    assert info.body.pop("createTime") in times
    assert info.body == {"code": 200, "userName": "Ann", "userPortrait": "http://p/1?a=b&c"}
    await token_of(world, "u1", name="安娜")
    await world.user("refresh.json", [("userId", "u1"), ("portraitUri", "p2")])
    info = await world.user("info.json", [("userId", "u1")])
    assert (info.body["userName"], info.body["userPortrait"]) == ("安娜", "p2")
    assert info.body["createTime"] in times


async def test_a_user_without_profile_has_empty_ones(world: World) -> None:
    await token_of(world, "u1")
    info = await world.user("info.json", [("userId", "u1")])
    assert (info.body["userName"], info.body["userPortrait"]) == ("", "")
    assert (await world.user("refresh.json", [("userId", "u1")])).body == {"code": 200}


async def test_the_creation_time_is_in_the_apps_zone(world: World) -> None:
    await world.store.users.register(world.app.key, [b"u1"], 1_665_601_025_006)
    for minutes, shown in ((480, "2022-10-13 02:57:05"), (0, "2022-10-12 18:57:05"), (-210, "2022-10-12 15:27:05")):
        await world.set_app(msgspec.structs.replace(world.app, utc_offset_minutes=minutes))
        assert (await world.user("info.json", [("userId", "u1")])).body["createTime"] == shown


@pytest.mark.parametrize("path", ["info.json", "refresh.json"])
async def test_unknown_users_are_named(world: World, path: str) -> None:
    reply = await world.user(path, [("userId", "stranger"), ("name", "N")])
    assert refused(reply, 400, 1002, "userId<stranger> is not exist.", path)


@pytest.mark.parametrize("path", ["getToken.json", "refresh.json"])
async def test_deactivated_users_are_refused(world: World, path: str) -> None:
    await token_of(world, "u1", name="Ann")
    await world.store.deactivation.deactivate(world.app.key, [b"u1"], now_ms())
    reply = await world.user(path, [("userId", "u1"), ("name", "Bea")])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert "deactivated" in reply.body["errorMessage"]
    (profile,) = await world.store.users.profiles(world.app.key, [b"u1"])
    assert profile is not None and profile.name == "Ann"


@pytest.mark.parametrize("user", ["a b", "a,b", "用户", "a.b", "\0"])
async def test_registration_alone_looks_at_characters(world: World, user: str) -> None:
    reply = await world.user("getToken.json", [("userId", user)])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert await world.store.users.count(world.app.key) == 0
    assert (await world.user("checkOnline.json", [("userId", user)])).body == {"code": 200, "status": "0"}


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ([], 1002, "The parameter userId is required."),
        ([("userId", "")], 1002, "The parameter userId is required."),
        ([("userId", "a"), ("userId", "b")], 1002, "The parameter userId must be given once, 2 were sent."),
        ([("userId", "x" * 65)], 1005, "The parameter userId must be 1 to 64 bytes, 65 were sent."),
        ([("userId", b"\xff")], 1002, "The parameter userId must be UTF-8, byte 0 is not."),
        ([("userId", "u"), ("name", "n" * 129)], 1005, "The parameter name must be at most 64 characters, 129 were sent."),
        ([("userId", "u"), ("name", b"\xff")], 1002, "The parameter name must be UTF-8, byte 0 is not."),
        (
            [("userId", "u"), ("portraitUri", "p" * 1_025)],
            1005,
            "The parameter portraitUri must be at most 1024 bytes, 1025 were sent.",
        ),
    ],
)  # fmt: skip
async def test_bad_registrations_change_nothing(world: World, fields: list[Field], code: int, message: str) -> None:
    assert refused(await world.user("getToken.json", fields), 400, code, message, "getToken.json")
    assert await world.store.users.count(world.app.key) == 0
    assert await world.store.client.read(("ZCARD", keys.quota(world.app.key))) == [0]


@pytest.mark.slow
async def test_of_200_at_once_a_development_app_takes_exactly_100(world: World) -> None:
    calls = [world.user("getToken.json", [("userId", f"u{number}")]) for number in range(200)]
    replies = await asyncio.gather(*calls)
    turned_away = [reply for reply in replies if reply.status != 200]
    assert len(turned_away) == 100
    assert {(reply.status, reply.body["code"]) for reply in turned_away} == {(403, 2007)}
    assert await world.store.users.count(world.app.key) == 100
    users = (await world.user("query.json", [("pageSize", "100")])).body["users"]
    # Who is in stays in, whatever the limit.
    assert await token_of(world, users[0]["userId"], name="Ann")


async def test_deleting_frees_a_place(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, user_limit=2))
    for user in ("u1", "u2"):
        await token_of(world, user)
    assert (await world.user("getToken.json", [("userId", "u3")])).body["code"] == 2007
    assert (await world.user("delusers.json", [("userId", "u1")])).body == {"code": 200}
    await token_of(world, "u3")
    assert (await world.user("getToken.json", [("userId", "u1")])).body["code"] == 2007


async def test_production_has_no_limit(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, environment="production", user_limit=1))
    for user in ("u1", "u2", "u3"):
        await token_of(world, user)
    # Back in development, those who came meanwhile count.
    await world.set_app(msgspec.structs.replace(world.app, environment="development", user_limit=3))
    assert (await world.user("getToken.json", [("userId", "u4")])).body["code"] == 2007
    await token_of(world, "u1")
    await world.user("delusers.json", [("userId", "u1")])
    await token_of(world, "u4")


async def test_a_place_whose_registration_never_came_is_given_back(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, user_limit=2))
    quota = world.store.users.quota
    await quota.reserve(world.app, b"lost", now_ms() - 120_000)
    await quota.reserve(world.app, b"under-way", now_ms())
    await token_of(world, "u1")
    assert (await world.user("getToken.json", [("userId", "u2")])).body["code"] == 2007
    await token_of(world, "under-way")


async def test_the_roll_pages_both_ways(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, environment="production"))
    for number in range(45):
        await world.store.users.register(world.app.key, [f"u{number:02}".encode()], 1_000 * (number // 2))
    everyone = [f"u{number:02}" for number in range(45)]
    first = (await world.user("query.json")).body
    assert (first["total"], len(first["users"])) == (45, 20)
    assert set(first["users"][0]) == {"userId", "userName", "userPortrait", "regTime"}
    for order in ("0", "1"):
        rows: list[str] = []
        for page in (1, 2, 3, 4):
            fields = [("page", str(page)), ("pageSize", "15"), ("order", order)]
            rows += [row["userId"] for row in (await world.user("query.json", fields)).body["users"]]
        assert sorted(rows) == everyone
        moments = [int(user[1:]) // 2 for user in rows]
        assert moments == sorted(moments, reverse=order == "1")
    empty = await world.user("query.json", [("page", "99")])
    assert empty.body == {"code": 200, "total": 45, "users": []}


@pytest.mark.parametrize(
    "field", [("page", "0"), ("page", "x"), ("pageSize", "0"), ("pageSize", "101"), ("order", "2"), ("page", "-1")]
)
async def test_a_bad_page_is_named(world: World, field: Field) -> None:
    reply = await world.user("query.json", [field])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert f"The parameter {field[0]} must be a whole number" in reply.body["errorMessage"]


@pytest.mark.parametrize(
    "fields", [[("userId", "u1,u2")], [("userId", "u1"), ("userId", "u2")], b"userId=u1%2Cu2", b"userId=u1,,u2,"]
)
async def test_deleting_leaves_nothing_but_other_peoples_lists(world: World, fields: list[Field] | bytes) -> None:
    app, far = world.app.key, now_ms() + 600_000
    old = await token_of(world, "u1", name="Ann")
    for user in ("u2", "u3"):
        await token_of(world, user)
    await world.store.bans.impose(app, [b"u1"], far, now_ms())
    await world.store.mutes.impose(app, [b"u1"], far, now_ms())
    await world.store.lists.add(app, ListKind.BLACKLIST, b"u1", [b"u3"], far, now_ms(), None)
    await world.store.lists.add(app, ListKind.WHITELIST, b"u1", [b"u3"], FOREVER_MS, now_ms(), None)
    await world.store.lists.add(app, ListKind.BLACKLIST, b"u3", [b"u1"], FOREVER_MS, now_ms(), None)
    assert await world.word("u3", "u1") == "blacklisted"

    reply = await world.user("delusers.json", fields)
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert fault(world, old) == "revoked"
    assert await world.word("u3", "u1") == "allowed"
    assert await world.word("u1", "u3") == "blacklisted"
    assert (await world.user("info.json", [("userId", "u1")])).body["code"] == 1002
    assert [row["userId"] for row in (await world.user("query.json")).body["users"]] == ["u3"]
    assert (await world.user("block/query.json")).body["users"] == []
    partition = world.store.writer.partition_of(app, b"u1")
    assert await world.store.client.read(("HKEYS", keys.user(partition, app, b"u1"))) == [[keys.TOKENS_VALID_FROM]]

    new = await token_of(world, "u1")
    assert (fault(world, old), fault(world, new)) == ("revoked", None)
    info = await world.user("info.json", [("userId", "u1")])
    assert (info.body["userName"], info.body["userPortrait"]) == ("", "")


async def test_production_users_are_not_deleted(world: World) -> None:
    await token_of(world, "u1")
    await world.set_app(msgspec.structs.replace(world.app, environment="production"))
    reply = await world.user("delusers.json", [("userId", "u1")])
    assert (reply.status, reply.body["code"]) == (401, 1007)
    assert "development" in reply.body["errorMessage"]
    assert await world.store.users.count(world.app.key) == 1


async def test_deactivated_users_are_not_deleted(world: World) -> None:
    await token_of(world, "u1")
    await world.store.deactivation.deactivate(world.app.key, [b"u1"], now_ms())
    reply = await world.user("delusers.json", [("userId", "u1")])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    (facts,) = await world.store.users.facts(world.app.key, [b"u1"])
    assert facts.deactivated and facts.registered


@pytest.mark.parametrize(
    "body", [b"", b"userId=", b"userId=,", b"userId=" + b",".join([b"u%d" % n for n in range(101)])]
)
async def test_a_bad_deletion_is_refused(world: World, body: bytes) -> None:
    reply = await world.user("delusers.json", body)
    assert (reply.status, reply.body["code"]) == (400, 1002)


async def test_deleting_who_is_unknown_is_no_error(world: World) -> None:
    heads = await world.store.changelog.heads()
    assert (await world.user("delusers.json", [("userId", "stranger")])).body == {"code": 200}
    assert [head.seq for head in await world.store.changelog.heads()] == [head.seq for head in heads]


async def test_no_user_is_online_and_the_answer_is_text(world: World) -> None:
    await token_of(world, "u1")
    for user in ("u1", "im not here"):
        assert (await world.user("checkOnline.json", [("userId", user)])).body == {"code": 200, "status": "0"}
    missing = await world.user("checkOnline.json")
    assert refused(missing, 400, 1002, "The parameter userId is required.", "checkOnline.json")
