"""`/client/v1/connect`: who is let in, what is answered, and that whatever a peer does costs its own connection only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gate.core.presence import LOCAL_GATEWAY_PREFIX, MAX_SESSIONS_A_USER
from gate.http.client.websocket import MAX_MESSAGES_A_SECOND, PATH
from gate.http.options import PING_EVERY_S
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from harness.websocket import PING, PONG, TEXT, Refused, connect, connected
from tests.http.test_client_blacklist import token_of
from tests.http.world import World, basic, now_ms, running_world

SOON_S = 10.0


async def refusal(world: World, token: str = "", **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await connect(world.url, token, **options)
    return caught.value


async def is_online(world: World, user: bytes) -> bool:
    return await world.presence.is_online(world.app.key, user)


async def until_offline(world: World, user: bytes) -> None:
    async def is_offline() -> bool:
        return not await is_online(world, user)

    await wait_until_async(is_offline, SOON_S, f"{user!r} to be offline")


# The handshake


async def test_a_client_with_a_welcome_is_online_on_this_nodes_gateway(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann"), platform="iOS") as ann:
        assert ann.welcome == {
            "type": "welcome", "session": ann.session, "user": "ann", "platform": "iOS", "ping_ms": 25_000,
        }  # fmt: skip
        (presence,) = await world.presence.presences(world.app.key, [b"ann"])
        (session,) = presence.sessions
        assert (session.id, session.platform, session.ip) == (ann.session, "iOS", "127.0.0.1")
        assert session.gateway == world.gateway.name
        assert session.gateway.startswith(LOCAL_GATEWAY_PREFIX)
        await ann.leave()
        await until_offline(world, b"ann")


async def test_a_browser_says_its_token_in_the_query(world: World) -> None:
    bob = await connect(world.url, token_in_query=token_of(world.app, "bob"))
    assert bob.welcome["platform"] == "Websocket"
    bob.drop()


async def test_an_id_of_any_bytes(world: World) -> None:
    odd = b"\xff\0 :\r\n"
    async with connected(world.url, token_of(world.app, odd)) as client:
        assert client.welcome["user"] == {"b64": "/wAgOg0K"}
        answer = await client.ask("presence", users=[{"b64": "/wAgOg0K"}])
        assert answer["presence"][0]["online"]


@pytest.mark.parametrize(
    ("shown", "status", "word"),
    [("", 401, "unauthorized"), ("not a token", 401, "token-malformed"), ("gt1.AAAA", 401, "token-malformed")],
)
async def test_who_shows_no_token_is_refused(world: World, shown: str, status: int, word: str) -> None:
    refused = await refusal(world, shown)
    assert (refused.status, refused.body["error"]) == (status, word)
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.headers["x-request-id"]


async def test_who_may_not_connect_is_refused_with_the_reason(world: World) -> None:
    forged = token_of(world.app, "ann")[:-4] + "AAAA"
    assert (await refusal(world, forged)).body["error"] == "token-forged"
    old = token_of(world.app, "ann", now_ms() - 1_000)
    await world.user("token/expire.json", [("userId", "ann"), ("time", str(now_ms()))])
    assert (await refusal(world, old)).body["error"] == "token-revoked"
    until_ms = now_ms() + 3_600_000
    await world.v1("POST", "bans", {"users": ["bob"], "until": until_ms})
    refused = await refusal(world, token_of(world.app, "bob"))
    assert (refused.status, refused.body["error"], refused.body["until"]) == (403, "user-banned", until_ms)
    await world.user("deactivate.json", [("userId", "cy")])
    refused = await refusal(world, token_of(world.app, "cy"))
    assert (refused.status, refused.body["error"]) == (403, "user-deactivated")
    assert not any([await is_online(world, user) for user in (b"ann", b"bob", b"cy")])


async def test_a_platform_that_is_none_is_refused(world: World) -> None:
    refused = await refusal(world, token_of(world.app), platform="a b")
    assert (refused.status, refused.body["parameter"]) == (400, "platform")


@pytest.mark.parametrize(
    "headers",
    [{"Upgrade": ""}, {"Sec-WebSocket-Version": "9"}, {"Sec-WebSocket-Key": "short"}, {"Connection": "close"}],
)
async def test_a_request_without_a_handshake_is_refused(world: World, headers: dict[str, str]) -> None:
    refused = await refusal(world, token_of(world.app), headers=headers)
    assert (refused.status, refused.body["error"]) == (426, "upgrade-required")
    assert refused.headers["upgrade"] == "websocket"
    reply = await world.send("POST", PATH)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET")


async def test_one_user_has_no_more_sessions_than_there_may_be(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client-user": 2 * MAX_SESSIONS_A_USER}))
    token = token_of(world.app, "ann")
    sockets = await asyncio.gather(*(connect(world.url, token) for _ in range(MAX_SESSIONS_A_USER)))
    refused = await refusal(world, token)
    assert (refused.status, refused.body["error"]) == (429, "too-many-sessions")
    assert int(refused.headers["retry-after"]) >= 1
    await sockets[0].leave()

    async def is_let_in() -> bool:  # the Session ends in the moment after the connection
        try:
            sockets[0] = await connect(world.url, token)
        except Refused as full:
            assert full.status == 429
            return False
        return True

    await wait_until_async(is_let_in, SOON_S, "room for another Session")
    for socket in sockets:
        socket.drop()


async def test_the_apps_own_limits_count(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client/v1/connect": 1}))
    (await connect(world.url, token_of(world.app))).drop()
    refused = await refusal(world, token_of(world.app))
    assert (refused.status, refused.body["error"]) == (429, "rate-limited")


async def test_a_newer_device_replaces_an_older_one_where_the_app_says_so(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, device_policy="one-per-platform"))
    token = token_of(world.app, "ann")
    phone, tablet = await connect(world.url, token, platform="iOS"), await connect(world.url, token, platform="iPad")
    newer = await connect(world.url, token, platform="iOS")
    said, code = await phone.closed()
    assert said is not None
    assert (said["reason"], said["code"], said["reconnect"], code) == ("replaced", 4409, False, 4409)
    assert (await tablet.ask("ping"), await newer.ask("ping")) == ({"type": "pong"}, {"type": "pong"})
    tablet.drop()
    newer.drop()


# Messages


async def test_each_message_is_answered_in_order_with_its_id(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann")) as ann:
        for number in range(20):
            ann.send(TEXT, b'{"type":"ping","id":%d}' % number)
        assert [(await ann.next_message())["id"] for _ in range(20)] == list(range(20))
        assert await ann.ask("active", id="x") == {"type": "active", "id": "x"}


async def test_who_logs_out_is_let_go_and_advised_to_stay_away(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann")) as ann:
        assert await ann.ask("logout", id=1) == {"type": "logout", "id": 1}
        said, code = await ann.closed()
        assert said is not None
        assert (said["reason"], said["reconnect"], code) == ("logout", False, 4413)


async def test_presence_as_the_user_may_see_it(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, hide_presence=True))
    await world.v1("POST", "blacklist", {"owner": "bob", "members": ["ann"]})
    async with (
        connected(world.url, token_of(world.app, "ann")) as ann,
        connected(world.url, token_of(world.app, "bob")) as bob,
    ):
        shown = (await ann.ask("presence", users=["ann", "bob", "bob"]))["presence"]
        assert [(one["user"], one["online"]) for one in shown] == [("ann", True), ("bob", False)]
        assert shown[1]["last_active_ms"] is None
        assert (await bob.ask("presence", users=["ann"]))["presence"][0]["online"]


async def test_the_own_blacklist(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann")) as ann:
        answer = await ann.ask("block", users=["eve", "mal"], seconds=600, id=1)
        assert (answer["type"], answer["applied"], answer["id"]) == ("block", "all", 1)
        assert await world.word("eve", "ann") == "blacklisted"
        listed = await ann.ask("blacklist", user="eve")
        assert listed["listed"]
        assert abs(listed["until"] - now_ms() - 600_000) < 60_000
        page = await ann.ask("blacklist", count=1)
        assert [one["user"] for one in page["members"]] == ["mal"]
        page = await ann.ask("blacklist", count=1, cursor=page["next"])
        assert [one["user"] for one in page["members"]] == ["eve"]
        assert (await ann.ask("unblock", users=["eve", "mal"]))["applied"] == "all"
        assert await world.word("eve", "ann") == "allowed"
        assert await ann.ask("blacklist") == {"type": "blacklist", "members": [], "next": None}


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        (b"{", "message"),
        (b"[1]", "message"),
        (b"", "message"),
        (b'{"id":7}', "type"),
        (b'{"type":7}', "type"),
        (b'{"type":"nope"}', "type"),
        (b'{"type":"pi, ac"}', "type"),
        (b'{"type":"ping","id":{}}', "id"),
        (b'{"type":"ping","id":"%s"}' % (b"x" * 200), "id"),
        (b'{"type":"ping","more":1}', "more"),
        (b'{"type":"presence"}', "users"),
        (b'{"type":"presence","users":[]}', "users"),
        (b'{"type":"presence","users":[""]}', "users[0]"),
        (b'{"type":"presence","users":[1]}', "users[0]"),
        (b'{"type":"blacklist","count":0}', "count"),
        (b'{"type":"blacklist","cursor":"?"}', "cursor"),
        (b'{"type":"block","users":["a"],"seconds":0}', "seconds"),
        (b'{"type":"block","users":["a"],"seconds":1,"until":9999999999999}', "until"),
        (b"[" * 5_000, "message"),
    ],
)
async def test_a_mistake_is_named_and_costs_nothing(world: World, text: bytes, parameter: str) -> None:
    async with connected(world.url, token_of(world.app)) as client:
        client.send(TEXT, text)
        answer = await client.next_message()
        assert (answer["type"], answer["error"]) == ("error", "invalid")
        assert answer["parameter"].startswith(parameter) or answer["parameter"] == "seconds"
        assert await client.ask("ping") == {"type": "pong"}


async def test_a_session_that_outlives_its_token_can_do_nothing_with_it(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann", now_ms() - 1_000)) as ann:
        await world.user("token/expire.json", [("userId", "ann"), ("time", str(now_ms()))])
        for asked in ({"users": ["bob"]}, {"users": ["ann"]}):
            assert (await ann.ask("presence", **asked))["error"] == "token-revoked"
            assert (await ann.ask("block", **asked))["error"] == "token-revoked"
        assert await world.word("bob", "ann") == "allowed"
        assert await ann.ask("ping") == {"type": "pong"}


async def test_activity_is_reported(world: World) -> None:
    async with connected(world.url, token_of(world.app, "ann")) as ann:
        (before,) = (await world.presence.presences(world.app.key, [b"ann"]))[0].sessions
        assert before.active_ms == 0
        await ann.ask("active")

        async def is_noted() -> bool:
            return (await world.presence.presences(world.app.key, [b"ann"]))[0].sessions[0].active_ms > 0

        await wait_until_async(is_noted, SOON_S, "the activity to be noted")


# Ends


async def test_an_operators_kick(world: World) -> None:
    client = await connect(world.url, token_of(world.app, "ann"))
    assert (await world.v1("POST", "users/ann/kick", {})).body == {"closed": 1}
    said, code = await client.closed()
    assert said is not None
    assert (said["reason"], said["reconnect"], code) == ("kicked", True, 4411)
    assert 500 <= said["reconnect_ms"] <= 1_500
    client.drop()


@pytest_asyncio.fixture(loop_scope="function")
async def hasty(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[World]:
    """A node of its own, that pings four times a second."""
    async with running_world(redis_server.url, tmp_path / "replica", ping_every_s=0.25) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="function")
async def own(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[World]:
    """A node of its own, that may be drained."""
    async with running_world(redis_server.url, tmp_path / "replica") as running:
        yield running


async def test_one_that_answers_no_ping_is_put_out(hasty: World) -> None:
    silent = await connect(hasty.url, token_of(hasty.app, "silent"))
    good = await connect(hasty.url, token_of(hasty.app, "good"))

    async def answering() -> None:
        while True:
            if (await good.frame()).opcode == PING:
                good.send(PONG)

    task = asyncio.create_task(answering())
    said, code = await silent.closed()
    assert said is not None
    assert (said["reason"], said["reconnect"], code) == ("silent", True, 4408)
    assert not task.done()
    assert await is_online(hasty, b"good")
    task.cancel()
    silent.drop()
    good.drop()


async def test_those_who_came_together_are_not_pinged_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first_in_s: list[float] = []
    monkeypatch.setattr(world.deps.pinging, "add", lambda ping, in_s: first_in_s.append(in_s))
    for number in range(20):
        async with connected(world.url, token_of(world.app, f"user-{number}")):
            pass
    assert all(0 <= one < PING_EVERY_S for one in first_in_s)
    assert min(first_in_s) < PING_EVERY_S / 2 < max(first_in_s)
    assert len(set(first_in_s)) == 20


async def test_a_drain_says_when_to_come_back_and_refuses_new_clients(own: World) -> None:
    clients = [await connect(own.url, token_of(own.app, f"user-{number}")) for number in range(20)]
    keeping_alive = await own.send("GET", PATH, headers=basic(own.app))  # a connection that is there when it drains
    assert keeping_alive.status == 426
    draining = asyncio.create_task(own.server.drain(5.0))
    ends = [await client.closed() for client in clients]
    assert {code for _, code in ends} == {1001}
    waits = [
        said["reconnect_ms"] for said, _ in ends if said and said["reason"] == "shutting-down" and said["reconnect"]
    ]
    assert len(waits) == 20
    assert len(set(waits)) > 5
    assert min(waits) >= 500
    for client in clients:
        client.drop()
    await asyncio.wait_for(draining, 4.0)
    assert own.gateway.is_draining
    counts = await own.presence.counts(own.app.key)
    assert counts.total == 0


async def test_while_redis_is_away_no_client_comes_in_or_is_disconnected(
    hasty: World, redis_server: RedisServer, tmp_path: Path
) -> None:
    ann = await connect(hasty.url, token_of(hasty.app, "ann"))
    redis_server.client.save()
    redis_server.kill()
    refused = await refusal(hasty, token_of(hasty.app, "bob"))
    assert (refused.status, refused.body["error"]) == (503, "unavailable")
    assert refused.headers["retry-after"]
    ann.send(PONG)
    assert (await ann.ask("presence", users=["ann"]))["error"] == "unavailable"
    assert (await ann.ask("blacklist", user="eve"))["listed"] is False
    redis_server.restart()
    assert await ann.ask("ping") == {"type": "pong"}

    async def is_answered() -> bool:
        await asyncio.sleep(1 / MAX_MESSAGES_A_SECOND)  # more is flooding, which is another matter
        return bool((await ann.ask("presence", users=["ann"]))["type"] == "presence")

    await wait_until_async(is_answered, SOON_S, "Redis to be found again")
    ann.drop()
