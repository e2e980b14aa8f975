"""`POST /v1/bulk`."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import orjson
import pytest

from gate.core.model import ListKind
from gate.errors import StoreUnavailable
from gate.http import room
from gate.http.v1.bulk import Numbered, Operation, operation_of, runs, task_of
from gate.store.operations import BY_NAME, OPERATIONS
from harness.seeds import seed
from tests.http.test_client_blacklist import client
from tests.http.world import Reply, World, now_ms

SEED = seed(20_261_122)

OK = {"ok": True}


async def bulk(world: World, *operations: Any) -> Reply:
    return await world.v1("POST", "bulk", {"operations": operations})


async def results(world: World, *operations: Any) -> list[Any]:
    reply = await bulk(world, *operations)
    assert reply.status == 200, reply
    found: list[Any] = reply.body["results"]
    assert len(found) == len(operations)
    return found


async def test_one_of_every_kind(world: World) -> None:
    until_ms = now_ms() + 60_000
    reply = await bulk(
        world,
        {"op": "register", "user": "ann", "name": "Ann"},
        {"op": "mint", "user": "bob"},
        {"op": "ban", "user": "spam", "until": until_ms, "reason": "r", "actor": "a"},
        {"op": "mute", "user": "loud", "permanent": True},
        {"op": "block", "owner": "ann", "member": "x"},
        {"op": "admit", "owner": "bob", "member": "y", "seconds": 60},
        {"op": "whitelist-switch", "user": "bob", "on": True},
        {"op": "revoke", "user": "old"},
        {"op": "delete", "user": "gone"},
    )
    assert (reply.status, reply.body["applied"]) == (200, "all")
    assert all(one["ok"] for one in reply.body["results"])
    assert reply.body["results"][0] == {"ok": True, "created": True}
    assert (await client(world, "GET", shown=reply.body["results"][1]["token"])).status == 200
    words = [("spam", "x"), ("loud", "x"), ("x", "ann"), ("y", "bob"), ("z", "bob")]
    assert [await world.word(*pair) for pair in words] == [
        "sender-banned", "sender-muted", "blacklisted", "allowed", "not-whitelisted",
    ]  # fmt: skip
    (ban,) = (await world.v1("GET", "bans")).body["bans"]
    assert ban == {"user": "spam", "until": until_ms, "reason": "r", "actor": "a"}
    undone = await results(
        world,
        {"op": "unban", "user": "spam"},
        {"op": "unmute", "user": "loud"},
        {"op": "unblock", "owner": "ann", "member": "x"},
        {"op": "unadmit", "owner": "bob", "member": "y"},
    )
    assert undone == [OK] * 4
    assert [await world.word(*pair) for pair in words[:4]] == ["allowed"] * 3 + ["not-whitelisted"]


@pytest.mark.slow
async def test_a_thousand_of_each(world: World) -> None:
    many = range(1_000)
    assert await results(world, *({"op": "ban", "user": f"u{n}", "seconds": 60, "reason": f"r{n}"} for n in many)) == (
        [OK] * 1_000
    )
    assert [await world.word(f"u{n}", "x") for n in (0, 500, 999)] == ["sender-banned"] * 3
    await world.set_app(msgspec.structs.replace(world.app, environment="production"))
    minted = await results(world, *({"op": "mint", "user": f"v{n}", "name": f"n{n}"} for n in many))
    assert len({one["token"] for one in minted}) == 1_000
    assert await results(world, *({"op": "block", "owner": f"u{n}", "member": f"v{n}"} for n in many)) == [OK] * 1_000
    assert [await world.word(f"v{n}", f"u{n}") for n in (0, 500, 999)] == ["blacklisted"] * 3
    reply = await bulk(world, *({"op": "unban", "user": "a"} for _ in range(1_001)))
    assert (reply.status, reply.body["parameter"]) == (400, "operations")


async def test_each_has_its_own_result_and_keeps_no_other_from_being_done(world: World) -> None:
    await world.store.deactivation.deactivate(world.app.key, [b"gone1", b"gone2"], now_ms())
    await world.set_app(msgspec.structs.replace(world.app, list_ceiling=2, user_limit=1))
    found = await results(
        world,
        {"op": "ban", "user": "a", "seconds": 60},
        {"op": "ban", "user": "gone1", "seconds": 60},
        {"op": "ban", "user": "", "seconds": 60},
        {"op": "ban", "user": "b", "seconds": 60},
        {"op": "ban", "user": "gone2", "seconds": 60},
        {"op": "ban", "user": "c"},
        {"op": "block", "owner": "full", "member": "1"},
        {"op": "block", "owner": "full", "member": "2"},
        {"op": "block", "owner": "full", "member": "3"},
        {"op": "block", "owner": "other", "member": "1"},
        {"op": "register", "user": "first"},
        {"op": "register", "user": "second"},
        {"op": "register", "user": "not this"},
        {"op": "dance", "user": "a"},
        {"user": "a"},
        5,
        {"op": "unban", "user": "a", "seconds": 5},
        {"op": "whitelist-switch", "user": "a"},
    )
    words = [one.get("error", "ok") for one in found]
    assert words[:6] == ["ok", "refused", "invalid", "ok", "refused", "invalid"]
    assert words[6:10] == ["list-full"] * 3 + ["ok"]
    assert sorted(words[10:12]) == ["ok", "user-limit"]
    assert words[12:] == ["invalid"] * 6
    assert [one.get("parameter") for one in found[12:]] == ["user", "op", "op", "body", "seconds", "on"]
    assert "gone1" in found[1]["message"] and "gone2" not in found[1]["message"]
    assert [await world.word(user, "x") for user in "abc"] == ["sender-banned", "sender-banned", "allowed"]


async def test_operations_take_effect_in_their_order(world: World) -> None:
    assert await results(
        world,
        {"op": "ban", "user": "a", "seconds": 60},
        {"op": "unban", "user": "a"},
        {"op": "unban", "user": "b"},
        {"op": "ban", "user": "b", "seconds": 60},
        {"op": "mute", "user": "c", "seconds": 60},
        {"op": "mute", "user": "c", "seconds": 600},
    ) == [OK] * 6  # fmt: skip
    assert [await world.word(user, "x") for user in "abc"] == ["allowed", "sender-banned", "sender-muted"]
    (mute,) = (await world.v1("GET", "mutes")).body["mutes"]
    assert mute["until"] > now_ms() + 500_000


async def test_it_ends_as_single_calls_would(world: World) -> None:
    """Many at random, against a model that does them one after the other."""
    dice = random.Random(SEED)
    banned: set[str] = set()
    blocked: set[tuple[str, str]] = set()
    operations: list[dict[str, Any]] = []
    for _ in range(600):
        a, b = dice.choice("abcdef"), dice.choice("uvwx")
        kind = dice.choice(["ban", "unban", "block", "unblock"])
        if kind == "ban":
            banned.add(a)
            operations.append({"op": kind, "user": a, "seconds": dice.choice([60, 600])})
        elif kind == "unban":
            banned.discard(a)
            operations.append({"op": kind, "user": a, "reason": dice.choice(["", "r"])})
        else:
            (blocked.add if kind == "block" else blocked.discard)((a, b))
            operations.append({"op": kind, "owner": a, "member": b})
    assert await results(world, *operations) == [OK] * 600
    for a in "abcdef":
        assert await world.word(a, "stranger") == ("sender-banned" if a in banned else "allowed")
        for b in "uvwx":
            assert await world.word(b, a) == ("blacklisted" if (a, b) in blocked else "allowed")


async def test_odd_ids(world: World) -> None:
    odd = {"b64": "/wAN"}
    assert await results(world, {"op": "block", "owner": odd, "member": odd}) == [OK]
    assert await world.word(b"\xff\0\r", b"\xff\0\r") == "blacklisted"
    assert (await world.store.lists.contains(world.app.key, ListKind.BLACKLIST, b"\xff\0\r", [b"\xff\0\r"], 0)) == [
        True
    ]


async def test_production_deletes_no_user(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, environment="production"))
    found = await results(world, {"op": "register", "user": "a"}, {"op": "delete", "user": "a"})
    assert [one["ok"] for one in found] == [True, False]
    assert found[1]["error"] == "refused"


@pytest.mark.parametrize("body", [b"", b"[]", {}, {"operations": []}, {"operations": {}}, {"operations": [], "x": 1}])
async def test_a_body_that_is_none(world: World, body: Any) -> None:
    reply = await world.v1("POST", "bulk", body)
    assert (reply.status, reply.body["error"]) == (400, "invalid")


async def test_redis_away_from_the_start_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise StoreUnavailable("away", "unknown")

    monkeypatch.setattr(world.store.writer, "write", away)
    reply = await bulk(world, {"op": "ban", "user": "a", "seconds": 60}, {"op": "unban", "user": ""})
    assert (reply.status, reply.body["outcome"], reply.headers["Retry-After"]) == (503, "unknown", "1")


async def test_redis_away_on_the_way_says_what_was_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise StoreUnavailable("away", "unknown")

    monkeypatch.setattr(world.store.lists, "remove", away)
    found = await results(
        world,
        {"op": "ban", "user": "a", "seconds": 60},
        {"op": "unblock", "owner": "a", "member": "b"},
        {"op": "ban", "user": "b", "seconds": 60},
    )
    assert [one.get("error") for one in found] == [None, "unavailable", "unavailable"]
    assert [one.get("outcome") for one in found] == [None, "unknown", None]
    assert [await world.word(user, "x") for user in "ab"] == ["sender-banned", "allowed"]


def test_every_shape_names_its_kind() -> None:
    kinds = [kind.__struct_config__.tag for kind in Operation.__args__]
    assert len(set(kinds)) == len(kinds) == 13


def test_every_shape_has_the_fields_of_its_row() -> None:
    shapes = {kind.__struct_config__.tag: set(kind.__struct_fields__) for kind in Operation.__args__}
    assert shapes.keys() == BY_NAME.keys()
    for row in OPERATIONS:
        assert shapes[row.op] >= set(row.subject)
        assert ("seconds" in shapes[row.op], "permanent" in shapes[row.op]) == (row.ends != "never", row.ends == "must")


MIXED = ("ban", "block", "mute", "admit", "unban", "unblock", "whitelist-switch", "unmute", "unadmit", "revoke")


def mixed(number: int, users: int) -> dict[str, Any]:
    """One of every kind in turn, on a few Users, so that many operations meet."""
    kind, user = MIXED[number % len(MIXED)], f"user-{number * 7 % users}"
    fields = {"owner": user, "member": f"user-{number * 3 % users}"} if kind in ON_ENTRIES else {"user": user}
    more = {"seconds": 600 + number} if kind in ("ban", "mute", "block", "admit") else {}
    return {"op": kind, **fields, **more, **({"on": number % 3 == 0} if kind == "whitelist-switch" else {})}


ON_ENTRIES = ("block", "admit", "unblock", "unadmit")


@pytest.mark.parametrize("users", [2, 7, 500])
def test_waves_keep_the_order_of_what_names_a_user_in_common(users: int) -> None:
    operations = [operation_of(orjson.dumps(mixed(n, users)), 1_000) for n in range(1_000)]
    tasks = [Numbered(n, task_of(one, 1_000)) for n, one in enumerate(operations)]
    waves = list(runs(tasks))
    assert sorted(one.number for run in waves for one in run) == list(range(1_000))
    done: dict[bytes, list[tuple[int, int]]] = {}
    for place, run in enumerate(waves):
        subjects = [one.task.subject for one in run]
        assert len(set(subjects)) == len(subjects)
        for one in run:
            for user in set(one.task.subject):
                done.setdefault(user, []).append((place, one.number))
    for at_user in done.values():
        for place, number in at_user:
            assert all(other <= number or other_place >= place for other_place, other in at_user)
    if users == 500:
        assert len(waves) < 200, "a thousand mixed operations are not a thousand exchanges"


@pytest.mark.slow
async def test_sixteen_at_once_are_answered_and_others_meanwhile(world: World) -> None:
    async def one_bulk(seed: int) -> list[dict[str, Any]]:
        return await results(world, *(mixed(seed + number, 2_000) for number in range(200)))

    waits: list[float] = []

    async def check() -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began_s = clock()
            await world.word("somebody", "else")
            waits.append(clock() - began_s)
            await asyncio.sleep(0.01)

    checking = asyncio.create_task(check())
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(one_bulk(seed) for seed in range(16)))
    checking.cancel()
    assert all(one["ok"] for answer in answers for one in answer)
    assert len(waits) > 10 and sorted(waits)[int(len(waits) * 0.9)] < 0.5


async def test_more_than_there_is_room_for_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_OF_AN_APP", 2)
    sent = {"operations": [{"op": "ban", "user": f"u{number}", "seconds": 60} for number in range(200)]}
    replies = await asyncio.gather(*(world.v1("POST", "bulk", sent) for _ in range(6)))
    assert {reply.status for reply in replies} == {200, 503}
    refused = next(reply for reply in replies if reply.status == 503)
    assert (refused.body["error"], refused.headers["Retry-After"]) == ("unavailable", "1")
    assert (await world.v1("POST", "bulk", sent)).status == 200
