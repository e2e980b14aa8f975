"""`/user/blacklist/*.json`, `/user/whitelist/*.json` and `/user/whitesetting/*.json`."""

from __future__ import annotations

import msgspec
import pytest

from tests.http.world import Field, World, now_ms

FAMILIES = [("blacklist", "blackUserId"), ("blocklist", "blackUserId"), ("whitelist", "whiteUserId")]


@pytest.fixture(params=FAMILIES, ids=lambda family: family[0])
def family(request: pytest.FixtureRequest) -> tuple[str, str]:
    chosen: tuple[str, str] = request.param
    return chosen


async def listed(world: World, word: str, owner: str, *fields: Field) -> list[str]:
    reply = await world.user(f"{word}/query.json", [("userId", owner), *fields])
    assert reply.status == 200, reply
    users: list[str] = reply.body["users"]
    return users


async def test_a_blacklist_refuses_from_the_answer_on_and_one_way(world: World) -> None:
    reply = await world.user("blacklist/add.json", [("userId", "b"), ("blackUserId", "a")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert await world.word("a", "b") == "blacklisted"
    assert await world.word("b", "a") == "allowed"
    reply = await world.user("blacklist/remove.json", [("userId", "b"), ("blackUserId", "a")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert await world.word("a", "b") == "allowed"


async def test_a_whitelist_rules_while_it_is_switched_on(world: World) -> None:
    await world.user("blacklist/add.json", [("userId", "b"), ("blackUserId", "a")])
    await world.user("whitelist/add.json", [("userId", "b"), ("whiteUserId", "a")])
    assert await world.word("a", "b") == "blacklisted"
    reply = await world.user("whitesetting/set.json", [("userId", "b"), ("whiteSetting", "1")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert await world.word("a", "b") == "allowed"
    assert await world.word("c", "b") == "not-whitelisted"
    await world.user("whitelist/remove.json", [("userId", "b"), ("whiteUserId", "a")])
    assert await world.word("a", "b") == "not-whitelisted"
    await world.user("whitesetting/set.json", [("userId", "b"), ("whiteSetting", "0")])
    assert await world.word("a", "b") == "blacklisted"


async def test_the_switches_are_strings_in_the_order_asked(world: World) -> None:
    await world.user("whitesetting/set.json", [("userId", "b"), ("userId", "c"), ("whiteSetting", "1")])
    reply = await world.user("whitesetting/query.json", [("userId", "c"), ("userId", "a"), ("userId", "b")])
    assert reply.body == {
        "code": 200,
        "users": [
            {"userId": "c", "whiteSetting": "1"},
            {"userId": "a", "whiteSetting": "0"},
            {"userId": "b", "whiteSetting": "1"},
        ],
    }


async def test_unknown_owners_and_unlisted_members_are_no_error(world: World, family: tuple[str, str]) -> None:
    word, member = family
    reply = await world.user(f"{word}/remove.json", [("userId", "stranger"), (member, "stranger-else")])
    assert (reply.status, reply.body) == (200, {"code": 200})
    reply = await world.user(f"{word}/query.json", [("userId", "stranger")])
    assert (reply.status, reply.body) == (200, {"code": 200, "users": []})


async def test_oneself_and_the_same_twice(world: World, family: tuple[str, str]) -> None:
    word, member = family
    for _ in range(2):
        reply = await world.user(f"{word}/add.json", [("userId", "b"), (member, "b"), (member, "a"), (member, "a")])
        assert reply.status == 200
    assert sorted(await listed(world, word, "b")) == ["a", "b"]


async def test_pages_come_newest_first_and_next_ends(world: World, family: tuple[str, str]) -> None:
    word, member = family
    for number in range(7):
        await world.user(f"{word}/add.json", [("userId", "b"), (member, f"m{number}")])
    assert await listed(world, word, "b") == [f"m{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    pages, token, sizes = [], "", []
    while True:
        fields: list[Field] = [("userId", "b"), ("size", "3"), ("pageToken", token)]
        reply = await world.user(f"{word}/query.json", fields)
        assert set(reply.body) <= {"code", "users", "next"}
        pages += reply.body["users"]
        sizes.append(len(reply.body["users"]))
        if "next" not in reply.body:
            break
        assert isinstance(reply.body["next"], str)
        token = reply.body["next"]
    assert pages == [f"m{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    assert sizes == [3, 3, 1]


async def test_an_entry_added_between_pages_does_not_shift_them(world: World) -> None:
    for number in range(4):
        await world.user("blacklist/add.json", [("userId", "b"), ("blackUserId", f"m{number}")])
    first = await world.user("blacklist/query.json", [("userId", "b"), ("size", "2")])
    await world.user("blacklist/add.json", [("userId", "b"), ("blackUserId", "late")])
    fields: list[Field] = [("userId", "b"), ("size", "2"), ("pageToken", first.body["next"])]
    assert (await world.user("blacklist/query.json", fields)).body["users"] == ["m1", "m0"]


async def test_the_alias_is_the_same_list(world: World) -> None:
    await world.user("blocklist/add.json", [("userId", "b"), ("blackUserId", "a")])
    assert await listed(world, "blacklist", "b") == ["a"]


async def test_past_the_ceiling_nothing_of_the_call_is_added(world: World, family: tuple[str, str]) -> None:
    word, member = family
    await world.set_app(msgspec.structs.replace(world.app, list_ceiling=3))
    await world.user(f"{word}/add.json", [("userId", "b"), (member, "m1"), (member, "m2")])
    reply = await world.user(f"{word}/add.json", [("userId", "b"), (member, "m3"), (member, "m4")])
    assert (reply.status, reply.body["code"], reply.body["url"]) == (400, 1002, f"/user/{word}/add.json")
    assert "ceiling of 3" in reply.body["errorMessage"]
    assert sorted(await listed(world, word, "b")) == ["m1", "m2"]
    assert (await world.user(f"{word}/add.json", [("userId", "b"), (member, "m3"), (member, "m1")])).status == 200


async def test_ended_entries_do_not_show(world: World) -> None:
    at_ms = now_ms()
    await world.v1("POST", "blacklist", {"owner": "b", "members": ["ended"], "until": at_ms + 1})
    await world.v1("POST", "blacklist", {"owner": "b", "members": ["stays"], "until": at_ms + 600_000})
    assert await listed(world, "blacklist", "b") == ["stays"]


@pytest.mark.parametrize("action", ["add", "remove"])
async def test_each_mistake_of_a_change_is_named(world: World, family: tuple[str, str], action: str) -> None:
    word, member = family
    mistakes: list[tuple[list[Field], int, str]] = [
        ([(member, "a")], 1002, "The parameter userId is required."),
        ([("userId", "b")], 1002, f"The parameter {member} is required."),
        ([("userId", "b"), (member, "")], 1002, f"The parameter {member} is required."),
        ([("userId", "b"), ("userId", "c"), (member, "a")], 1002,
         "The parameter userId must be given once, 2 were sent."),
        ([("userId", "b"), *[(member, f"m{n}") for n in range(21)]], 1002,
         f"The parameter {member} must be given 1 to 20 times, 21 were sent."),
        ([("userId", "b"), (member, "x" * 65)], 1005, f"The parameter {member} must be 1 to 64 bytes, 65 were sent."),
        ([("userId", "x" * 65), (member, "a")], 1005, "The parameter userId must be 1 to 64 bytes, 65 were sent."),
        ([("userId", "b"), (member, b"a\xff")], 1002, f"The parameter {member} must be UTF-8, byte 1 is not."),
    ]  # fmt: skip
    for fields, code, message in mistakes:
        reply = await world.user(f"{word}/{action}.json", fields)
        assert reply.status == 400
        assert reply.body == {"code": code, "errorMessage": message, "url": f"/user/{word}/{action}.json"}
    assert await listed(world, word, "b") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "The parameter userId is required."),
        ([("userId", "b"), ("size", "0")], "The parameter size must be a whole number from 1 to 1000, '0' was sent."),
        ([("userId", "b"), ("size", "1001")],
         "The parameter size must be a whole number from 1 to 1000, '1001' was sent."),
        ([("userId", "b"), ("pageToken", "zzz")], "The parameter pageToken must be the `next` of an earlier answer."),
        ([("userId", "b"), ("pageToken", b"\xff")], "The parameter pageToken must be UTF-8, byte 0 is not."),
    ],
)  # fmt: skip
async def test_each_mistake_of_a_query_is_named(
    world: World, family: tuple[str, str], fields: list[Field], message: str
) -> None:
    reply = await world.user(f"{family[0]}/query.json", fields)
    assert (reply.status, reply.body["code"], reply.body["errorMessage"]) == (400, 1002, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([("whiteSetting", "1")], "The parameter userId is required."),
        ([("userId", "b")], "The parameter whiteSetting is required."),
        ([("userId", "b"), ("whiteSetting", "2")],
         "The parameter whiteSetting must be a whole number from 0 to 1, '2' was sent."),
        ([("userId", "b"), ("whiteSetting", "on")],
         "The parameter whiteSetting must be a whole number from 0 to 1, 'on' was sent."),
    ],
)  # fmt: skip
async def test_each_mistake_of_the_switch_is_named(world: World, fields: list[Field], message: str) -> None:
    reply = await world.user("whitesetting/set.json", fields)
    assert (reply.status, reply.body["code"], reply.body["errorMessage"]) == (400, 1002, message)
