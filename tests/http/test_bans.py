"""`/user/block.json`, `unblock`, `block/query`."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.revision import parse_revisions
from gate.http.rongcloud.endpoint import time_text
from tests.http.world import Field, World, now_ms

TWENTY: list[Field] = [("userId", f"u{number}") for number in range(20)]


async def test_a_blocked_user_may_not_send_from_the_answer_on(world: World) -> None:
    assert await world.word("u1", "u2") == "allowed"
    reply = await world.user("block.json", [("userId", "u1"), ("minute", "10")])
    assert (reply.status, reply.body) == (200, {"code": 200})
    assert reply.headers["X-Gate-Applied"] == "all"
    assert len(parse_revisions(reply.headers["X-Gate-Revision"])) == 1
    assert await world.word("u1", "u2") == "sender-banned"
    assert await world.word("u2", "u1") == "allowed"


async def test_an_unblocked_user_may_send_from_the_answer_on(world: World) -> None:
    await world.user("block.json", [("userId", "u1"), ("userId", "u2"), ("minute", "10")])
    reply = await world.user("unblock.json", [("userId", "u1")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert await world.word("u1", "u2") == "allowed"
    assert await world.word("u2", "u1") == "sender-banned"


async def test_unblocking_who_is_not_blocked_is_no_error(world: World) -> None:
    reply = await world.user("unblock.json", [("userId", "stranger")])
    assert (reply.status, reply.body) == (200, {"code": 200})


@pytest.mark.slow
async def test_no_check_is_older_than_an_answered_write(world: World) -> None:
    for _ in range(150):
        await world.user("block.json", [("userId", "u1"), ("minute", "1")])
        assert await world.word("u1", "u2") == "sender-banned"
        await world.user("unblock.json", [("userId", "u1")])
        assert await world.word("u1", "u2") == "allowed"


async def test_twenty_users_at_once_over_all_partitions(world: World) -> None:
    reply = await world.user("block.json", [*TWENTY, ("minute", "1")])
    assert reply.status == 200
    assert len(parse_revisions(reply.headers["X-Gate-Revision"])) == world.store.partitions
    assert [await world.word(f"u{number}", "x") for number in range(20)] == ["sender-banned"] * 20


@pytest.mark.parametrize("odd", ["a,b", "a b", "a:b", "{a}", "a\r\nb", "\0", "😀", "%", "x" * 64, "a+b|c=-_"])
async def test_any_utf8_id_is_one_user(world: World, odd: str) -> None:
    await world.user("block.json", [("userId", odd), ("minute", "10")])
    assert await world.word(odd, "x") == "sender-banned"
    assert await world.word("a", "x") == "allowed"
    listed = await world.user("block/query.json")
    assert [user["userId"] for user in listed.body["users"]] == [odd]


async def test_a_later_ban_replaces_the_earlier_longer_or_shorter(world: World) -> None:
    for minutes in ("43200", "1", "600"):
        before_ms = now_ms()
        await world.user("block.json", [("userId", "u1"), ("minute", minutes)])
        (user,) = (await world.user("block/query.json")).body["users"]
        ends = {time_text(at_ms + int(minutes) * 60_000, 480) for at_ms in (before_ms, now_ms())}
        assert user["userId"] == "u1"
        assert user["blockEndTime"] in ends


@pytest.mark.parametrize("body", [b"", None])
async def test_a_query_needs_no_body(world: World, body: bytes | None) -> None:
    reply = await world.user("block/query.json", b"" if body is None else body)
    assert (reply.status, reply.body) == (200, {"code": 200, "users": []})


async def test_a_query_orders_by_end_and_pages(world: World) -> None:
    for minutes in (3, 5, 1, 4, 2):
        await world.user("block.json", [("userId", f"u{minutes}"), ("minute", str(minutes))])

    async def ids(*fields: Field) -> list[str]:
        return [user["userId"] for user in (await world.user("block/query.json", fields)).body["users"]]

    everybody = ["u5", "u4", "u3", "u2", "u1"]
    assert await ids() == everybody
    assert await ids(("page", "0")) == everybody
    assert await ids(("page", "0"), ("size", "2")) == everybody
    assert await ids(("page", "1")) == everybody
    assert await ids(("size", "2"), ("page", "1")) == ["u5", "u4"]
    assert await ids(("size", "2"), ("page", "2")) == ["u3", "u2"]
    assert await ids(("size", "2"), ("page", "3")) == ["u1"]
    assert await ids(("size", "2"), ("page", "4")) == []


async def test_the_end_is_printed_in_the_apps_time_zone(world: World) -> None:
    until_ms = now_ms() + 600_000
    await world.v1("POST", "bans", {"users": ["u1"], "until": until_ms})
    for offset in (480, 0, -210):
        await world.set_app(msgspec.structs.replace(world.app, utc_offset_minutes=offset))
        (user,) = (await world.user("block/query.json")).body["users"]
        assert user == {"userId": "u1", "blockEndTime": time_text(until_ms, offset)}


async def test_deactivated_users_are_skipped_and_the_others_blocked(world: World) -> None:
    await world.store.deactivation.deactivate(world.app.key, [b"gone", b"u3"], now_ms())
    reply = await world.user("block.json", [("userId", "gone"), *TWENTY[:19], ("minute", "1")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    blocked = {user["userId"] for user in (await world.user("block/query.json")).body["users"]}
    assert blocked == {f"u{number}" for number in range(19)} - {"u3"}
    assert await world.word("gone", "x") == "sender-deactivated"


async def test_deactivated_users_alone_are_refused_by_name(world: World) -> None:
    await world.store.deactivation.deactivate(world.app.key, [b"gone", b"lost"], now_ms())
    reply = await world.user("block.json", [("userId", "lost"), ("userId", "gone"), ("minute", "1")])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert reply.body["errorMessage"] == "deactivated: lost, gone"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ([("minute", "1")], 1002, "The parameter userId is required."),
        ([("userId", ""), ("minute", "1")], 1002, "The parameter userId is required."),
        ([("userId", "u")], 1002, "The parameter minute is required."),
        ([("userId", "u"), ("minute", "")], 1002, "The parameter minute is required."),
        ([("userId", "u"), ("minute", "0")], 1002,
         "The parameter minute must be a whole number from 1 to 43200, '0' was sent."),
        ([("userId", "u"), ("minute", "43201")], 1002,
         "The parameter minute must be a whole number from 1 to 43200, '43201' was sent."),
        ([("userId", "u"), ("minute", "soon")], 1002,
         "The parameter minute must be a whole number from 1 to 43200, 'soon' was sent."),
        ([("userId", "u"), ("minute", "1"), ("minute", "2")], 1002,
         "The parameter minute must be given once, 2 were sent."),
        ([("userId", "x" * 65), ("minute", "1")], 1005,
         "The parameter userId must be 1 to 64 bytes, 65 were sent."),
        ([*TWENTY, ("userId", "u20"), ("minute", "1")], 1002,
         "The parameter userId must be given 1 to 20 times, 21 were sent."),
        ([("userId", b"\xff"), ("minute", "1")], 1002, "The parameter userId must be UTF-8, byte 0 is not."),
    ],
)  # fmt: skip
async def test_each_mistake_has_its_code_and_changes_nothing(
    world: World, fields: list[Field], code: int, message: str
) -> None:
    reply = await world.user("block.json", fields)
    assert reply.status == 400
    assert reply.body == {"code": code, "errorMessage": message, "url": "/user/block.json"}
    assert (await world.user("block/query.json")).body["users"] == []


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ([("page", "-1")], "page"),
        ([("page", "one")], "page"),
        ([("page", "9999999")], "page"),
        ([("page", "1"), ("size", "0")], "size"),
        ([("page", "1"), ("size", "1001")], "size"),
        ([("page", "900000"), ("size", "1000")], "page"),
    ],
)
async def test_a_wrong_page_is_named(world: World, fields: list[Field], parameter: str) -> None:
    reply = await world.user("block/query.json", fields)
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert f"The parameter {parameter} must be" in reply.body["errorMessage"]
