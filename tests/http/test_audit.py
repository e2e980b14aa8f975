"""`GET /v1/audit`: everything that was done is there, with who did it and why, in one order."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from tests.http.world import World, now_ms

ORIGIN = {"at", "by", "on_behalf_of", "request_id", "address"}
BECAUSE = {"reason": "垃圾", "actor": "op@x"}


async def entries(world: World, query: str = "") -> list[dict[str, Any]]:
    reply = await world.v1("GET", f"audit?{query}")
    assert reply.status == 200, reply
    found: list[dict[str, Any]] = reply.body["entries"]
    return found


async def test_every_kind_of_write_is_listed(world: World) -> None:
    began_ms = now_ms() - 1_000
    until = now_ms() + 60_000
    await world.v1("POST", "bans", {"users": ["a"], "until": until, **BECAUSE})
    await world.v1("DELETE", "bans", {"users": ["a"], **BECAUSE})
    await world.v1("POST", "mutes", {"users": ["a"], "permanent": True, **BECAUSE})
    await world.v1("DELETE", "mutes", {"users": ["a"], **BECAUSE})
    for kind in ("blacklist", "whitelist"):
        await world.v1("POST", kind, {"owner": "a", "members": ["x", "y"], "until": until, **BECAUSE})
        await world.v1("DELETE", kind, {"owner": "a", "members": ["x"], **BECAUSE})
    await world.v1("PUT", "whitelist-switch", {"users": ["a"], "on": True, **BECAUSE})
    listed = [
        {name: value for name, value in one.items() if name not in ORIGIN} for one in await entries(world, "user=a")
    ]
    expected: list[dict[str, Any]] = [
        {"what": "ban-imposed", "until": until},
        {"what": "ban-lifted"},
        {"what": "mute-imposed", "until": None},
        {"what": "mute-lifted"},
        {"what": "blocked", "members": ["x", "y"], "until": until},
        {"what": "unblocked", "members": ["x"]},
        {"what": "admitted", "members": ["x", "y"], "until": until},
        {"what": "unadmitted", "members": ["x"]},
        {"what": "whitelist-switched", "on": True},
    ]
    assert listed == [{"user": "a", **one, **BECAUSE} for one in reversed(expected)]
    moments = [one["at"] for one in await entries(world)]
    assert moments == sorted(moments, reverse=True)
    assert began_ms < moments[-1] <= moments[0] < now_ms() + 1_000


async def test_tokens_deletion_and_deactivation_are_listed(world: World) -> None:
    await world.user("getToken.json", b"userId=a&name=A")
    await world.user("token/expire.json", b"userId=a&time=%d" % now_ms())
    await world.user("delusers.json", b"userId=a")
    await world.user("deactivate.json", b"userId=a")
    later_ms = now_ms() + 1_000
    for job in await world.store.jobs.claim(later_ms):
        await world.store.jobs.run(job, later_ms)
    listed = [(one["what"], one["actor"], one["reason"]) for one in await entries(world, "user=a")]
    assert listed[:2] == [("user-erased", "gate", "deactivated"), ("user-deactivated", "", "")]
    assert {what for what, _, _ in listed[2:]} >= {"tokens-revoked", "user-erased"}


async def test_settings_are_listed_and_secrets_are_not(world: World) -> None:
    facts = world.app

    def changed(before: Any) -> Any:
        return msgspec.structs.replace(before, list_ceiling=7, secrets=("very-secret-2", *before.secrets))

    world.app, written = await world.store.apps.update(facts.key, changed, now_ms(), why="more", by="op")
    await world.node.acks.wait(written, 5_000)
    (listed, created) = await entries(world)
    assert listed["settings"] == {"list_ceiling": [3000, 7], "secrets": [1, 2]}
    assert (listed["what"], listed["actor"], listed["reason"]) == ("app-set", "op", "more")
    assert created["settings"]["secrets"] == 1
    assert "secret-" not in str([listed, created])


@pytest.mark.slow
async def test_pages_join_over_partitions_while_more_is_written(world: World) -> None:
    users = [f"u{number}" for number in range(40)]
    for user in users:
        await world.v1("POST", "mutes", {"users": [user], "seconds": 60})
    await world.v1("POST", "mutes", {"users": users[:20], "seconds": 60})
    whole = [(one["at"], one.get("user")) for one in await entries(world, "count=1000")]
    found, cursor = [], ""
    for _ in range(20):
        page = await world.v1("GET", f"audit?count=7{cursor}")
        found += [(one["at"], one.get("user")) for one in page.body["entries"]]
        await world.v1("POST", "mutes", {"users": users[:5], "seconds": 60})
        if page.body["next"] is None:
            break
        cursor = f"&cursor={page.body['next']}"
    assert found == whole
    assert len(whole) == 61, "the App's own creation too"


async def test_of_one_user_and_between_moments(world: World) -> None:
    odd = {"b64": base64.b64encode(b"\xff").decode()}
    await world.v1("POST", "bans", {"users": ["a", "b", odd], "seconds": 60})
    (one,) = await entries(world, "user=%ff")
    assert one["user"] == odd
    at = one["at"]
    assert await entries(world, f"user=%ff&from={at}&to={at}") == []
    assert await entries(world, f"user=%ff&from={at}&to={at + 1}") == [one]
    assert await entries(world, f"user=%ff&from={at + 1}") == []
    # Users of other Partitions were banned by scripts of their own, a millisecond earlier or later.
    earlier = [entry.get("user") for entry in await entries(world, f"to={at}")]
    assert None in earlier and odd not in earlier
    for _ in range(3):
        await world.v1("DELETE", "bans", {"users": ["a"]})
    page = await world.v1("GET", "audit?user=a&count=2")
    rest = await world.v1("GET", f"audit?user=a&count=9&cursor={page.body['next']}")
    assert [len(page.body["entries"]), len(rest.body["entries"]), rest.body["next"]] == [2, 2, None]


async def test_what_ends_by_itself_is_nobodys_act(world: World) -> None:
    await world.store.lists.add(world.app.key, 0, b"a", [b"x"], now_ms() - 5, now_ms() - 10, None)  # type: ignore[arg-type]
    await world.v1("POST", "blacklist", {"owner": "a", "members": ["y"]})
    assert [one["what"] for one in await entries(world, "user=a")] == ["blocked", "blocked"]


async def test_another_app_sees_nothing_of_it(world: World) -> None:
    await world.v1("POST", "bans", {"users": ["a"], "seconds": 60})
    await world.begin_app()
    assert await entries(world, "user=a") == []


@pytest.mark.parametrize("query", ["to=0", "to=0&user=a", "from=2&to=1", "cursor=1-0-0", "cursor=1-0-3&user=a"])
async def test_before_all_time_there_is_nothing(world: World, query: str) -> None:
    await world.v1("POST", "bans", {"users": ["a"], "seconds": 60})
    assert await entries(world, query) == []


async def test_trimming_to_the_moment(world: World) -> None:
    await world.v1("POST", "bans", {"users": ["a", "b"], "seconds": 60})
    newest = max(one["at"] for one in await entries(world))
    assert await world.store.audit.trim(world.app.key, newest, 0) >= 1
    assert {one["at"] for one in await entries(world)} == {newest}
    await world.store.audit.trim(world.app.key, newest + 1, 0)
    assert await entries(world) == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("count=0", "count"),
        ("count=1001", "count"),
        ("from=-1", "from"),
        ("to=x", "to"),
        ("cursor=1", "cursor"),
        ("cursor=1-2-3-4", "cursor"),
        ("cursor=0-0-0", "cursor"),
        ("user=" + "x" * 65, "user"),
        ("user=a&user=b", "user"),
    ],
)
async def test_each_mistake_is_named(world: World, query: str, parameter: str) -> None:
    reply = await world.v1("GET", f"audit?{query}")
    assert reply.status in (400, 413)
    assert reply.body["parameter"] == parameter
