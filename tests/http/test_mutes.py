"""`/user/chat/fb/set.json` and `querylist.json`."""

from __future__ import annotations

import pytest

from tests.http.world import Field, World, now_ms

SET = "chat/fb/set.json"
QUERY = "chat/fb/querylist.json"


async def test_a_muted_user_may_not_send_from_the_answer_on(world: World) -> None:
    reply = await world.user(SET, [("userId", "u1"), ("state", "1"), ("type", "PERSON")])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert await world.word("u1", "u2") == "sender-muted"
    assert await world.word("u2", "u1") == "allowed"
    await world.user(SET, [("userId", "u1"), ("state", "0"), ("type", "PERSON")])
    assert await world.word("u1", "u2") == "allowed"


async def test_the_list_pages_and_counts(world: World) -> None:
    users = [f"u{number}" for number in range(250)]
    assert (await world.user(SET, [*(("userId", user) for user in users), ("state", "1")])).status == 200
    first = (await world.user(QUERY, [("type", "PERSON")])).body
    assert (first["code"], first["total"], len(first["users"])) == (200, 250, 100)
    rest = (await world.user(QUERY, [("num", "200"), ("offset", "100")])).body["users"]
    assert sorted([*first["users"], *rest]) == sorted(users)
    assert (await world.user(QUERY, [("offset", "250")])).body == {"code": 200, "total": 250, "users": []}


async def test_a_mute_that_ends_is_listed_while_it_lasts(world: World) -> None:
    await world.store.mutes.impose(world.app.key, [b"ended"], 1_000, 1)
    await world.store.mutes.impose(world.app.key, [b"timed"], now_ms() + 60_000, now_ms())
    assert (await world.user(QUERY)).body == {"code": 200, "total": 1, "users": ["timed"]}


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        (SET, [("state", "1")], "userId"),
        (SET, [("userId", "u1")], "state"),
        (SET, [("userId", "u1"), ("state", "2")], "state"),
        (SET, [("userId", "u1"), ("state", "1"), ("type", "GROUP")], "type"),
        (SET, [*(("userId", f"u{n}") for n in range(1_001)), ("state", "1")], "userId"),
        (QUERY, [("num", "201")], "num"),
        (QUERY, [("num", "0")], "num"),
        (QUERY, [("offset", "-1")], "offset"),
        (QUERY, [("offset", "99001")], "offset"),
    ],
)
async def test_bad_fields_are_named(world: World, path: str, fields: list[Field], named: str) -> None:
    reply = await world.user(path, fields)
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert reply.body["errorMessage"].startswith(f"The parameter {named} ")
    assert (await world.user(QUERY)).body["total"] == 0
