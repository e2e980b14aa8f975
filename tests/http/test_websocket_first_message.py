"""A Token in a subprotocol, or in the first message: who is let in, how others are closed, and what silent clients cost."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest

from gate.core.closing import REFUSALS
from gate.http import room
from gate.http.client import closing
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from harness.websocket import BINARY, CLOSE, PING, PONG, TEXT, Closed, Refused, Socket, connect, opened
from tests.http.test_client_blacklist import token_of
from tests.http.test_websocket import is_online, refusal, until_offline
from tests.http.world import World, now_ms, running_world

SOON_S = 10.0
WITHOUT_TOKEN = {"Sec-WebSocket-Protocol": "gate"}


def with_token(token: str, offered: str = "gate, ") -> dict[str, str]:
    return {"Sec-WebSocket-Protocol": f"{offered}gate.token.{token}"}


async def first(world: World, message: dict[str, Any] | bytes, **query: str) -> Socket:
    """An open connection on which this was sent."""
    socket = await opened(world.url, headers=WITHOUT_TOKEN, **query)
    socket.send(TEXT, message if isinstance(message, bytes) else orjson.dumps(message))
    return socket


async def closed_after(world: World, message: dict[str, Any] | bytes) -> tuple[dict[str, Any], int | None]:
    socket = await first(world, message)
    said, code = await socket.closed()
    socket.drop()
    assert said is not None
    return said, code


# The subprotocol


async def test_a_token_in_a_subprotocol_lets_in_and_is_not_answered(world: World) -> None:
    ann = await connect(world.url, headers=with_token(token_of(world.app, "ann")), platform="Web")
    assert ann.headers["sec-websocket-protocol"] == "gate"
    assert (ann.welcome["user"], ann.welcome["platform"]) == ("ann", "Web")
    await ann.leave()


async def test_a_token_in_a_subprotocol_is_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = token_of(world.app, "ann")
    (await connect(world.url, headers=with_token(token))).drop()
    await refusal(world, headers=with_token(token + "x"))
    assert token not in caplog.text


async def test_a_token_in_a_subprotocol_is_refused_at_the_handshake(world: World) -> None:
    refused = await refusal(world, headers=with_token("gt1.AAAA"))
    assert (refused.status, refused.body["error"]) == (401, "token-malformed")


async def test_a_token_subprotocol_alone_is_refused_with_the_remedy(world: World) -> None:
    refused = await refusal(world, headers=with_token(token_of(world.app), offered=""))
    assert (refused.status, refused.body["parameter"]) == (400, "Sec-WebSocket-Protocol")
    assert "must offer gate next to gate.token.TOKEN" in refused.body["message"]


async def test_a_subprotocol_and_a_query_with_two_tokens_are_refused(world: World) -> None:
    ann, bob = token_of(world.app, "ann"), token_of(world.app, "bob")
    refused = await refusal(world, headers=with_token(ann), token_in_query=bob)
    assert (refused.status, refused.body["parameter"]) == (400, "token")
    (await connect(world.url, headers=with_token(ann), token_in_query=ann)).drop()
    (await connect(world.url, ann, headers=WITHOUT_TOKEN)).drop()


# The first message


async def test_a_token_in_the_first_message_opens_the_session(world: World) -> None:
    ann = await first(world, {"type": "token", "token": token_of(world.app, "ann")}, platform="Web")
    assert ann.headers["sec-websocket-protocol"] == "gate"
    ann.welcome = await ann.next_message()
    assert (ann.welcome["type"], ann.welcome["user"], ann.welcome["platform"]) == ("welcome", "ann", "Web")
    assert await is_online(world, b"ann")
    assert await ann.ask("ping") == {"type": "pong"}
    await ann.leave()
    await until_offline(world, b"ann")


async def test_few_that_were_refused_linger(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_UNAUTHENTICATED_AN_ADDRESS", 2)
    monkeypatch.setattr(closing, "CLOSE_WITHIN_S", 60.0)
    refused = [await first(world, {"type": "token", "token": "wrong"}) for _ in range(2)]
    for socket in refused:
        assert (await socket.next_message())["reason"] == "token-malformed"
        assert (await socket.frame()).opcode == CLOSE
    third = await first(world, {"type": "token", "token": "wrong"})
    assert (await third.next_message())["reason"] == "token-malformed"
    assert (await third.frame()).opcode == CLOSE
    async with asyncio.timeout(SOON_S):
        assert await third.reader.read() == b""
    assert not any(socket.reader.at_eof() for socket in refused)
    for socket in (*refused, third):
        socket.drop()


async def test_pings_before_the_token_are_answered(world: World) -> None:
    socket = await opened(world.url, headers=WITHOUT_TOKEN)
    socket.send(PING, b"here")
    assert await socket.frame() == (PONG, b"here")
    socket.send(TEXT, orjson.dumps({"type": "token", "token": token_of(world.app, "ann")}))
    assert (await socket.next_message())["type"] == "welcome"
    socket.drop()


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({"type": "ping"}, "unauthorized"),
        ({"type": "presence", "users": ["ann"]}, "unauthorized"),
        ({"type": "token"}, "unauthorized"),
        ({"type": "token", "token": 1}, "unauthorized"),
        (b"[]", "unauthorized"),
        (b"no JSON", "invalid"),
        ({"type": "token", "token": "gt1.AAAA"}, "token-malformed"),
    ],
)
async def test_another_first_message_closes_the_connection(world: World, message: Any, word: str) -> None:
    said, code = await closed_after(world, message)
    assert (said["reason"], said["code"], code) == (word, REFUSALS[word].code, REFUSALS[word].code)
    assert (said["reconnect"], said["reconnect_ms"]) == (False, None)


async def test_a_binary_first_frame_closes_the_connection(world: World) -> None:
    socket = await opened(world.url, headers=WITHOUT_TOKEN)
    socket.send(BINARY, b"\0")
    assert (await socket.closed()).code == 4400
    socket.drop()


async def test_who_may_not_connect_is_closed_with_the_reason(world: World) -> None:
    until_ms = now_ms() + 3_600_000
    await world.v1("POST", "bans", {"users": ["bob"], "until": until_ms})
    said, code = await closed_after(world, {"type": "token", "token": token_of(world.app, "bob")})
    assert (said["reason"], said["until"], said["reconnect"], code) == ("banned", until_ms, False, 4403)
    await world.user("deactivate.json", [("userId", "cy")])
    said, code = await closed_after(world, {"type": "token", "token": token_of(world.app, "cy")})
    assert (said["reason"], said["reconnect"], code) == ("deactivated", False, 4410)
    assert not await is_online(world, b"bob")


async def test_without_the_subprotocol_a_token_is_demanded_at_once(world: World) -> None:
    assert (await refusal(world)).status == 401
    assert (await refusal(world, headers={"Sec-WebSocket-Protocol": "chat"})).status == 401


# Silent clients


async def test_a_silent_client_is_closed_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AUTHENTICATE_WITHIN_S", 0.3)
    silent = await opened(world.url, headers=WITHOUT_TOKEN)
    said, code = await silent.closed()
    assert said is not None
    assert (said["reason"], said["reconnect"], code) == ("silent", True, 4408)
    silent.drop()


async def test_a_client_that_leaves_without_a_token_frees_its_place(world: World) -> None:
    sockets = [await opened(world.url, headers=WITHOUT_TOKEN) for _ in range(3)]
    unauthenticated = world.deps.unauthenticated
    assert unauthenticated.many == 3
    sockets[0].send(CLOSE, (1000).to_bytes(2, "big"))
    sockets[1].writer.transport.abort()
    sockets[2].send(TEXT, b"{}")

    async def are_gone() -> bool:
        return unauthenticated.many == 0

    await wait_until_async(are_gone, SOON_S, "the places to be free")


async def test_an_address_has_a_bounded_number_of_silent_clients(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_UNAUTHENTICATED_AN_ADDRESS", 5)
    sockets = [await opened(world.url, headers=WITHOUT_TOKEN) for _ in range(5)]
    with pytest.raises(Refused) as caught:
        await opened(world.url, headers=WITHOUT_TOKEN)
    assert (caught.value.status, caught.value.body["error"]) == (503, "unavailable")
    assert "from this address" in caught.value.body["message"]
    assert int(caught.value.headers["retry-after"]) >= 1
    for headers in ({}, with_token(token_of(world.app, "ann"))):  # those with a Token need no such place
        (await connect(world.url, "" if headers else token_of(world.app, "ann"), headers=headers)).drop()
    for socket in sockets:
        socket.drop()


async def test_a_flood_of_silent_clients_keeps_no_client_out(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address with most of them loses its oldest for each newcomer."""
    monkeypatch.setattr("gate.http.client.websocket.MAX_UNAUTHENTICATED", 10)
    closed: list[Closed] = []

    async def be_silent(node: World) -> None:
        silent = await opened(node.url, headers=WITHOUT_TOKEN | {"X-Forwarded-For": "203.0.113.1"})
        closed.append(await silent.closed())
        silent.drop()

    async with running_world(
        redis_server.url, tmp_path / "replica", trusted_proxies=(ip_network("127.0.0.1/32"),)
    ) as node:
        silent = [await opened(node.url, headers=WITHOUT_TOKEN | {"X-Forwarded-For": "198.51.100.1"})]
        flood = [asyncio.create_task(be_silent(node)) for _ in range(90)]
        for number in range(5):
            user = f"user-{number}"
            real = await first(node, {"type": "token", "token": token_of(node.app, user)})
            assert (await real.next_message())["user"] == user
            assert await real.ask("ping") == {"type": "pong"}
            real.drop()
        await wait_until_async(lambda: asyncio.sleep(0, len(closed) >= 80), SOON_S, "the oldest to be closed")
        assert node.deps.unauthenticated.many <= 10
        silent[0].send(TEXT, orjson.dumps({"type": "token", "token": token_of(node.app, "other")}))
        assert (await silent[0].next_message())["user"] == "other"
        said, code = closed[0]
        assert said is not None
        assert (said["reason"], said["reconnect"], code) == ("unavailable", True, 1013)
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        silent[0].drop()


async def test_a_drain_closes_silent_clients_too(world: World) -> None:
    silent = await opened(world.url, headers=WITHOUT_TOKEN)
    world.deps.unauthenticated.end_all()
    assert (await silent.closed()).code == 1013
    silent.drop()
