"""`/user/deactivate.json`, its query and `/user/reactivate.json`: the erasure itself is tested with the store."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.http.world import World, now_ms


async def finish_jobs(world: World) -> None:
    later_ms = now_ms() + 1_000
    for job in await world.store.jobs.claim(later_ms):
        await world.store.jobs.run(job, later_ms)


async def allow_reactivation(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, reactivate_after_s=0))


@pytest.mark.parametrize("body", [b"userId=a,b&userId=c", b"userId=a%2Cb%2Cc", b"userId=a&userId=b&userId=c"])
async def test_denied_from_the_answer_on(world: World, body: bytes) -> None:
    reply = await world.user("deactivate.json", body)
    assert (reply.status, reply.body["code"], reply.headers["X-Gate-Applied"]) == (200, 200, "all")
    assert re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}", reply.body["operateId"])
    assert [await world.word(user, "x") for user in "abc"] == ["sender-deactivated"] * 3
    assert await world.word("x", "a") == "recipient-deactivated"
    query = await world.user("deactivate/query.json")
    assert sorted(query.body["users"]) == ["a", "b", "c"], "those that are being erased show too"


async def test_again_is_no_error_and_another_operation(world: World) -> None:
    first = await world.user("deactivate.json", b"userId=a")
    again = await world.user("deactivate.json", b"userId=a")
    assert again.body["code"] == 200
    assert first.body["operateId"] != again.body["operateId"]


@pytest.mark.parametrize("path", ["getToken.json", "refresh.json", "block.json"])
async def test_what_a_deactivated_user_is_refused(world: World, path: str) -> None:
    await world.user("deactivate.json", b"userId=a")
    reply = await world.user(path, b"userId=a&name=A&minute=1")
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert "deactivated" in reply.body["errorMessage"]


async def test_pages(world: World) -> None:
    for user in "abcde":
        await world.user("deactivate.json", f"userId={user}".encode())
    first = await world.user("deactivate/query.json", b"pageNo=1&pageSize=2")
    third = await world.user("deactivate/query.json", b"pageNo=3&pageSize=2")
    assert (first.body["users"], third.body["users"]) == (["e", "d"], ["a"])
    assert (await world.user("deactivate/query.json", b"pageNo=9")).body["users"] == []


@pytest.mark.parametrize("path", ["reactivate.json", "activate.json"])
async def test_the_id_comes_back_without_its_token(world: World, path: str) -> None:
    await allow_reactivation(world)
    await world.user("getToken.json", b"userId=a&name=Ann")
    await world.user("deactivate.json", b"userId=a")
    await finish_jobs(world)
    reply = await world.user(path, b"userId=a")
    assert (reply.status, reply.headers["X-Gate-Applied"]) == (200, "all")
    assert len(reply.body["operateId"]) == 19
    assert await world.word("a", "x") == "allowed"
    assert (await world.user("deactivate/query.json")).body["users"] == []
    assert (await world.user("info.json", b"userId=a")).body["errorMessage"] == "userId<a> is not exist."
    assert (await world.user("getToken.json", b"userId=a&name=Ann")).status == 200


async def results(world: World, operation: str) -> dict[bytes, str]:
    """What the callbacks of an operation say of each User."""
    hooks = await world.store.webhooks.take("test", 100, [0])
    return {hook.user: hook.code for hook in hooks if hook.operation == operation}


async def test_too_early_is_said_of_each_id_by_callback(world: World) -> None:
    await world.user("deactivate.json", b"userId=a")
    await finish_jobs(world)
    reply = await world.user("reactivate.json", b"userId=x,a")
    assert (reply.status, reply.body["code"], len(reply.body["operateId"])) == (200, 200, 19)
    assert await world.word("a", "x") == "sender-deactivated"
    assert await results(world, reply.body["operateId"]) == {b"x": "0", b"a": "1"}


async def test_reactivation_waits_for_the_erasure(world: World) -> None:
    await allow_reactivation(world)
    await world.user("deactivate.json", b"userId=a")
    reply = await world.user("reactivate.json", b"userId=a")
    assert (reply.status, await results(world, reply.body["operateId"])) == (200, {b"a": "1"})
    assert await world.word("a", "x") == "sender-deactivated"
    await finish_jobs(world)
    reply = await world.user("reactivate.json", b"userId=a")
    assert (reply.status, (await results(world, reply.body["operateId"]))[b"a"]) == (200, "0")
    assert await world.word("a", "x") == "allowed"


MANY = ",".join(f"u{number}" for number in range(101)).encode()


@pytest.mark.parametrize(
    ("path", "body", "code", "problem"),
    [
        ("deactivate.json", b"", 1002, "The parameter userId is required."),
        ("deactivate.json", b"userId=", 1002, "The parameter userId is required."),
        ("deactivate.json", b"userId=" + MANY, 1002, "userId"),
        ("deactivate.json", b"userId=a," + b"x" * 65, 1005, "userId"),
        ("deactivate.json", b"userId=%ff", 1002, "userId must be UTF-8"),
        ("reactivate.json", b"", 1002, "The parameter userId is required."),
        ("reactivate.json", b"userId=" + MANY, 1002, "userId"),
        ("deactivate/query.json", b"pageNo=0", 1002, "pageNo"),
        ("deactivate/query.json", b"pageSize=51", 1002, "pageSize"),
        ("deactivate/query.json", b"pageSize=0", 1002, "pageSize"),
        ("deactivate/query.json", b"pageNo=x", 1002, "pageNo"),
    ],
)
async def test_each_mistake_is_named_and_changes_nothing(
    world: World, path: str, body: bytes, code: int, problem: str
) -> None:
    reply = await world.user(path, body)
    assert (reply.status, reply.body["code"]) == (400, code), reply
    assert problem in reply.body["errorMessage"]
    assert (await world.user("deactivate/query.json")).body["users"] == []


async def test_a_hundred_at_once(world: World) -> None:
    users = MANY.split(b",")[:100]
    assert (await world.user("deactivate.json", b"userId=" + b",".join(users))).status == 200
    pages = [await world.user("deactivate/query.json", f"pageNo={number}".encode()) for number in (1, 2, 3)]
    assert sorted(user for page in pages for user in page.body["users"]) == sorted(user.decode() for user in users)
