"""Who is online, as `/v1`, `/user/checkOnline.json` and `/client/v1/presence` tell it; hiding from whom lists refuse; kicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.http.test_client_blacklist import token_of
from tests.http.world import Reply, World, now_ms, running_world
from tests.presence.played import Gateway

ODD = b"\xff\n/ odd"
OFFLINE = {"online": False, "platforms": [], "last_seen_ms": None, "last_active_ms": None}


async def gateway_of(world: World, name: bytes = b"edge-1") -> Gateway:
    return await Gateway(world.presence, world.app, name).lease()


async def ask(world: World, users: list[Any], viewer: Any = None) -> list[Any]:
    body = {"users": users} if viewer is None else {"users": users, "as": viewer}
    reply = await world.v1("POST", "presence", body)
    assert reply.status == 200, reply
    shown: list[Any] = reply.body["presence"]
    return shown


async def ask_as_client(world: World, user: bytes, *others: bytes) -> Reply:
    query = "&".join(f"user={quote(one, safe='')}" for one in others)
    headers = {"Authorization": f"Bearer {token_of(world.app, user)}"}
    return await world.send("GET", f"/client/v1/presence?{query}", headers=headers)


async def block(world: World, owner: bytes, member: bytes) -> None:
    written = await world.store.lists.add(world.app.key, ListKind.BLACKLIST, owner, [member], FOREVER_MS, now_ms(), 100)
    assert await world.node.acks.wait(written, 5_000) == "all"


async def hide_presence(world: World, **settings: Any) -> None:
    await world.set_app(msgspec.structs.replace(world.app, hide_presence=True, **settings))


async def test_check_online_is_true(world: World) -> None:
    gateway = await gateway_of(world)
    session = await gateway.open(b"alice")
    statuses = {}
    for user in ("alice", "bob"):
        statuses[user] = (await world.user("checkOnline.json", [("userId", user)])).body["status"]
    assert statuses == {"alice": "1", "bob": "0"}
    assert (await world.v1("POST", "users", {"user": "alice"})).status == 200
    assert (await world.v1("GET", "users/alice")).body["online"] is True
    await gateway.close(session)
    assert (await world.user("checkOnline.json", [("userId", "alice")])).body["status"] == "0"
    assert (await world.v1("GET", "users/alice")).body["online"] is False


async def test_presence_of_many_in_order_with_ids_of_any_bytes(world: World) -> None:
    gateway, before_ms = await gateway_of(world), now_ms()
    await gateway.open(b"alice", "iOS")
    await gateway.open(b"alice", "iOS")
    await gateway.open(ODD, "Web")
    gone = await gateway.open(b"gone")
    await gateway.close(gone)
    odd_json = {"b64": "/wovIG9kZA=="}
    alice, odd, left, never = await ask(world, ["alice", odd_json, "gone", "never", "alice"])
    assert (alice["user"], alice["online"], alice["last_seen_ms"]) == ("alice", True, None)
    ((platform, since_ms, sessions),) = [tuple(one.values()) for one in alice["platforms"]]
    assert (platform, sessions) == ("iOS", 2) and before_ms - 1_000 <= since_ms <= alice["last_active_ms"]
    assert (odd["user"], odd["online"], [one["platform"] for one in odd["platforms"]]) == (odd_json, True, ["Web"])
    assert left["online"] is False and left["last_seen_ms"] >= left["last_active_ms"] >= before_ms - 1_000
    assert never == {"user": "never", **OFFLINE}


async def test_ten_thousand_at_once_and_not_one_more(world: World) -> None:
    await (await gateway_of(world)).open_many([b"u%d" % number for number in range(0, 10_000, 1_000)])
    shown = await ask(world, [f"u{number}" for number in range(10_000)])
    assert [one["user"] for one in shown if one["online"]] == [f"u{number}" for number in range(0, 10_000, 1_000)]
    reply = await world.v1("POST", "presence", {"users": [f"u{number}" for number in range(10_001)]})
    assert (reply.status, reply.body["parameter"]) == (400, "users")


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"users": []}, "users"),
        ({"users": ["a", "x" * 65]}, "users[1]"),
        ({"users": ["a"], "as": ""}, "as"),
        ({"users": ["a"], "viewer": "b"}, "viewer"),
        ({}, "users"),
    ],
)
async def test_what_is_wrong_with_a_question_is_named(world: World, body: object, parameter: str) -> None:
    reply = await world.v1("POST", "presence", body)
    assert (reply.status, reply.body["error"], reply.body["parameter"]) == (400, "invalid", parameter)


async def test_whom_a_users_lists_refuse_sees_it_offline_where_the_app_hides(world: World) -> None:
    await (await gateway_of(world)).open(b"owner")
    await block(world, b"owner", b"blocked")
    (open_to_all,) = await ask(world, ["owner"], "blocked")
    assert open_to_all["online"] is True
    await hide_presence(world, exempt=frozenset({"official"}))
    seen = {viewer: (await ask(world, ["owner"], viewer))[0] for viewer in ("blocked", "friend", "official", "owner")}
    assert seen.pop("blocked") == {"user": "owner", **OFFLINE}
    assert {viewer: one["online"] for viewer, one in seen.items()} == {"friend": True, "official": True, "owner": True}
    assert (await ask(world, ["owner"]))[0]["online"] is True


async def test_a_whitelist_hides_from_all_who_are_not_on_it(world: World) -> None:
    await (await gateway_of(world)).open(b"owner")
    await hide_presence(world)
    written = await world.store.lists.switch(world.app.key, [b"owner"], True, now_ms())
    await world.node.acks.wait(written, 5_000)
    assert (await ask(world, ["owner"], "anybody"))[0]["online"] is False
    assert (await ask(world, ["owner"], "owner"))[0]["online"] is True


async def test_what_else_denies_messages_hides_nothing(world: World) -> None:
    await (await gateway_of(world)).open(b"owner")
    await hide_presence(world, require_registered=True)
    written = await world.store.bans.impose(world.app.key, [b"viewer"], FOREVER_MS, now_ms(), "spam")
    await world.node.acks.wait(written, 5_000)
    assert (await ask(world, ["owner"], "viewer"))[0]["online"] is True


async def test_a_client_always_asks_as_itself(world: World) -> None:
    gateway = await gateway_of(world)
    await gateway.open_many([b"owner", b"blocked", ODD])
    await block(world, b"owner", b"blocked")
    reply = await ask_as_client(world, b"blocked", b"owner", b"blocked", ODD)
    assert [one["online"] for one in reply.body["presence"]] == [True, True, True]
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    await hide_presence(world)
    reply = await ask_as_client(world, b"blocked", b"owner", b"blocked", ODD)
    assert [one["online"] for one in reply.body["presence"]] == [False, True, True]
    assert reply.body["presence"][0] == {"user": "owner", **OFFLINE}
    assert (await ask_as_client(world, b"blocked")).status == 400
    too_many = await ask_as_client(world, b"blocked", *(b"%d" % number for number in range(1_001)))
    assert (too_many.status, too_many.body["parameter"]) == (400, "user")


async def test_counts_are_by_platform_and_gateway(world: World) -> None:
    one, other = await gateway_of(world), await gateway_of(world, b"edge-2")
    await one.open_many([b"a", b"b"], "iOS")
    await other.open_many([b"a", b"c", b"d"], "Web")
    counts = (await world.v1("GET", "presence/counts")).body
    assert counts == {
        "users": 4,
        "sessions": 5,
        "by_platform": {"Web": 3, "iOS": 2},
        "by_gateway": {"edge-2": 3, "edge-1": 2},
        "sweeping": 0,
    }
    await world.presence.end_lease(world.app.key, other.name, other.epoch)
    counts = (await world.v1("GET", "presence/counts")).body
    assert (counts["sessions"], counts["by_gateway"], counts["sweeping"]) == (2, {"edge-1": 2}, 1)


async def test_the_history_is_what_the_counts_were(world: World) -> None:
    assert (await world.v1("GET", "presence/history")).body == {"every_ms": 15_000, "samples": []}
    one, other = await gateway_of(world), await gateway_of(world, b"edge-2")
    await one.open_many([b"a", b"b"], "iOS")
    await other.open(b"a", "Web")
    await world.presence.sample(world.app.key)
    counts = (await world.v1("GET", "presence/counts")).body
    (sample,) = (await world.v1("GET", "presence/history?minutes=1")).body["samples"]
    assert abs(now_ms() - sample.pop("at_ms")) < 60_000
    assert sample == {name: counts[name] for name in ("users", "sessions", "by_platform", "by_gateway")}
    for minutes in ("0", "61", "x"):
        reply = await world.v1("GET", f"presence/history?minutes={minutes}")
        assert (reply.status, reply.body["parameter"]) == (400, "minutes")


async def test_pages_hold_everybody_who_is_online(world: World) -> None:
    users = [b"user-%04d" % number for number in range(700)]
    await (await gateway_of(world)).open_many(users)
    found: list[str] = []
    pages = 0
    token: str | None = ""
    while token is not None:
        reply = await world.v1("GET", f"presence/online?size=50&pageToken={token}")
        found += [one["user"] for one in reply.body["users"]]
        assert all(one["platforms"][0]["platform"] == "iOS" for one in reply.body["users"])
        token, pages = reply.body["next"], pages + 1
    assert sorted(set(found)) == [user.decode() for user in users] and pages > 3
    assert (await world.v1("GET", "presence/online?pageToken=nonsense")).body["parameter"] == "pageToken"


@pytest.mark.parametrize("growing", [False, True])
async def test_pages_of_few_users_are_no_longer_than_asked_for(world: World, growing: bool) -> None:
    """Redis returns a small hash as a whole, whatever the count; of a large one, a part."""
    users = {f"u{number}" for number in range(100)}
    gateway = await gateway_of(world)
    await gateway.open_many([user.encode() for user in users])
    pages: list[list[str]] = []
    token: str | None = ""
    while token is not None:
        reply = await world.v1("GET", f"presence/online?size=10&pageToken={token}")
        pages.append([one["user"] for one in reply.body["users"]])
        token = reply.body["next"]
        if growing and len(pages) == 5:
            await gateway.open_many([b"later%d" % number for number in range(1_000)])
    found = [user for page in pages for user in page if user in users]
    assert set(found) == users
    assert [len(page) for page in pages[:5]] == [10] * 5
    assert growing or (len(pages), len(found)) == (10, 100)


async def test_gateways_show_their_leases(world: World) -> None:
    one, other = await gateway_of(world), await gateway_of(world, b"edge-2")
    await one.open_many([b"a", b"b"])
    await world.presence.end_lease(world.app.key, other.name, other.epoch)
    first, second = (await world.v1("GET", "gateways")).body["gateways"]
    assert 0 <= first.pop("age_ms") < 60_000 and second.pop("age_ms") >= 0
    assert first == {"gateway": "edge-1", "epoch": 1, "holds": True, "sessions": 2}
    assert second == {"gateway": "edge-2", "epoch": 1, "holds": False, "sessions": 0}


async def test_a_users_sessions_and_kicking_them(world: World) -> None:
    gateway = await gateway_of(world)
    path = f"users/{quote(ODD, safe='')}"
    first, second = await gateway.open(ODD, "iOS"), await gateway.open(ODD, "Web")
    third = await gateway.open(ODD, "Web")
    shown = (await world.v1("GET", f"{path}/sessions")).body
    assert [(one["session"], one["platform"], one["gateway"]) for one in shown["sessions"]] == [
        (first, "iOS", "edge-1"),
        (second, "Web", "edge-1"),
        (third, "Web", "edge-1"),
    ]
    assert (await world.v1("POST", f"{path}/kick", {"session": second})).body == {"closed": 1}
    assert (await world.v1("POST", f"{path}/kick", {"session": second})).body == {"closed": 0}
    assert (await world.v1("POST", f"{path}/kick", {"platform": "Web"})).body == {"closed": 1}
    assert (await world.v1("POST", f"{path}/kick", {})).body == {"closed": 1}
    assert (await world.v1("GET", f"{path}/sessions")).body["sessions"] == []
    events = await world.feeds.read(
        world.app.key, (await world.feeds.head(world.app.key))._replace(seq=0, at_us=0), 100
    )
    kicks = [(event.session, event.why) for event in events if event.kind == "kick"]
    assert kicks == [(session, "kicked") for session in (second, third, first)]


async def test_a_kick_is_in_the_audit(world: World) -> None:
    gateway = await gateway_of(world)
    phone, _ = await gateway.open(b"ann", "iOS"), await gateway.open_many([b"ann", b"ann"], "Web")
    because = {"reason": "spam", "actor": "ops@x"}
    await world.v1("POST", "users/ann/kick", {"platform": "Web", **because})
    await world.v1("POST", "users/ann/kick", {"session": phone})
    entries = (await world.v1("GET", "audit?user=ann")).body["entries"]
    for entry in entries:
        assert abs(entry.pop("at") - now_ms()) < 60_000
        assert entry.pop("by") == {"kind": "app", "name": world.app.key}
        assert (entry.pop("address"), bool(entry.pop("request_id"))) == ("127.0.0.1", True)
        assert entry.pop("on_behalf_of", "") == entry["actor"]
    assert entries == [
        {"what": "kicked", "user": "ann", "session": phone, "closed": 1, "actor": "", "reason": ""},
        {"what": "kicked", "user": "ann", "platform": "Web", "closed": 2, **because},
    ]
    reply = await world.v1("POST", "users/ann/kick", {"reason": "x" * 513, "actor": "y" * 129})
    assert reply.status == 400 and "reason" in reply.body["message"] and "actor" in reply.body["message"]


async def test_a_kick_names_what_it_can(world: World) -> None:
    mine = await (await gateway_of(world)).open(b"alice")
    for body, parameter in (
        ({"session": mine}, "session"),
        ({"session": "nonsense"}, "session"),
        ({"platform": "no such platform"}, "platform"),
        ({"user": "alice"}, "user"),
    ):
        reply = await world.v1("POST", "users/bob/kick", body)
        assert (reply.status, reply.body["parameter"]) == (400, parameter)
    assert (await world.v1("GET", "users/alice/sessions")).body["online"] is True


async def test_with_redis_away_every_read_is_a_503_at_once(private_redis: RedisServer, tmp_path: Path) -> None:
    with Cable(private_redis.port) as cable:
        async with running_world(private_redis.url, tmp_path / "replica", presence_url=cable.url) as world:
            assert (await world.v1("GET", "presence/counts")).status == 200
            cable.cut()
            for method, target, body in (
                ("POST", "presence", {"users": ["a"]}),
                ("GET", "presence/counts", None),
                ("GET", "presence/online", None),
                ("GET", "presence/changes", None),
                ("GET", "events", None),
                ("GET", "gateways", None),
                ("GET", "users/a/sessions", None),
                ("POST", "users/a/kick", {}),
            ):
                reply = await world.v1(method, target, body)
                assert (reply.status, reply.body["error"]) == (503, "unavailable"), (method, target)
                assert reply.headers["Retry-After"] == "1"
            reply = await world.user("checkOnline.json", [("userId", "a")])
            assert (reply.status, reply.body["code"]) == (503, 1000)
            assert (await ask_as_client(world, b"a", b"b")).status == 503
            assert (await world.v1("GET", "check?from=a&to=b")).body["verdict"] == "allowed"
            cable.mend()
            await wait_until_async(lambda: _answers(world), 5.0, "Presence to be back")


async def _answers(world: World) -> bool:
    return (await world.v1("GET", "presence/counts")).status == 200


async def test_apps_see_nothing_of_each_other(world: World) -> None:
    await (await gateway_of(world)).open(b"alice")
    await world.begin_app()
    assert (await ask(world, ["alice"]))[0]["online"] is False
    assert (await world.v1("GET", "gateways")).body == {"gateways": []}
    assert (await world.v1("GET", "presence/counts")).body["users"] == 0


def test_the_default_app_hides_nothing() -> None:
    assert AppFacts(key="a", secrets=("s",)).hide_presence is False
