"""`/v1/events`: in order, resumable, filtered; bounded, cut off when slow, ended in order; whole through an outage."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from gate.core.presence import parse_cursor
from gate.http import room
from gate.http.context import Deps
from gate.http.options import HttpOptions
from gate.http.server import serve_http
from gate.http.v1 import feed
from gate.store import presence_keys as keys
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.http.event_stream import SOON_S, streaming
from tests.http.test_server import deps_of
from tests.http.world import World, basic, now_ms, running_world
from tests.presence.played import Gateway, presence_on


async def gateway_of(world: World, name: bytes = b"edge-1") -> Gateway:
    return await Gateway(world.presence, world.app, name).lease()


async def test_events_come_in_order_with_a_cursor_each(world: World) -> None:
    gateway = await gateway_of(world)
    async with streaming(world.url, world.app) as stream:
        session = await gateway.open(b"alice")
        await gateway.open(b"\xff", "Web")
        first, second = await stream.event(), await stream.event()
        assert first.event == first.data["kind"] == "online"
        assert abs(first.data.pop("at_ms") - now_ms()) < 60_000 and first.data.pop("since_ms")
        assert first.data == {
            "kind": "online",
            "user": "alice",
            "session": session,
            "platform": "iOS",
            "gateway": "edge-1",
            "ip": "",
        }
        assert second.data["user"] == {"b64": "/w=="}
        assert parse_cursor(first.id).seq + 1 == parse_cursor(second.id).seq
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert (headers["Cache-Control"], headers["Server"]) == ("no-store", "gate") and headers["X-Request-Id"]


@pytest.mark.parametrize("way", ["header", "since", "body"])
async def test_a_reader_that_comes_back_misses_nothing(world: World, way: str) -> None:
    gateway = await gateway_of(world)
    async with streaming(world.url, world.app) as stream:
        await gateway.open(b"first")
        assert await stream.received(1) == [("online", "first")]
        cursor = stream.last_id
    await gateway.open_many([b"meanwhile", b"still"])
    query = f"?since={cursor}" if way == "since" else ""
    headers = {"Last-Event-ID": cursor} if way == "header" else None
    body = {"since": cursor} if way == "body" else None
    async with streaming(world.url, world.app, query, body, headers) as stream:
        assert await stream.received(2) == [("online", "meanwhile"), ("online", "still")]
        await gateway.open(b"after")
        assert await stream.received(1) == [("online", "after")]


async def test_filters_by_kind_and_user(world: World) -> None:
    gateway = await gateway_of(world)
    query = "?kinds=platform-online,kick&users=alice&users=%FF"
    async with (
        streaming(world.url, world.app, query) as few,
        streaming(world.url, world.app, body={"users": [f"u{number}" for number in range(10_000)]}) as many,
    ):
        for user in (b"alice", b"bob", b"\xff", b"u9999"):
            await gateway.open(user, "iOS")
            await gateway.open(user, "Web")
        await world.presence.kick(world.app.key, [b"bob", b"alice"], "kicked", platform="Web")
        assert await few.received(3) == [
            ("platform-online", "alice"),
            ("platform-online", {"b64": "/w=="}),
            ("kick", "alice"),
        ]
        assert await many.received(2) == [("online", "u9999"), ("platform-online", "u9999")]


async def test_a_gateway_hears_of_kicks_of_its_own_sessions(world: World) -> None:
    mine, other = await gateway_of(world), await gateway_of(world, b"edge-2")
    async with streaming(world.url, world.app, "?gateway=edge-2") as stream:
        await mine.open(b"alice")
        session = await other.open(b"alice", "Web")
        await world.v1("POST", "users/alice/kick", {})
        kick = await stream.event()
        assert (kick.event, kick.data["session"], kick.data["reason"]) == ("kick", session, "kicked")


async def test_a_filtered_readers_cursor_moves_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SKIPPED_EVENTS", 10)
    gateway = await gateway_of(world)
    async with streaming(world.url, world.app, "?kinds=kick") as stream:
        await gateway.open_many([b"%d" % number for number in range(10)])
        frame = await stream.frame()
        assert (frame.event, frame.data) == ("", None)
        assert frame.id == str(await world.feeds.head(world.app.key))


async def test_an_idle_stream_beats(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BEAT_S", 0.05)
    async with streaming(world.url, world.app) as stream:
        assert [tuple(await stream.frame()) for _ in range(2)] == [("", "", None, "")] * 2


async def test_a_cursor_that_cannot_be_read_on_from_is_a_reset_and_the_end(world: World) -> None:
    gateway = await gateway_of(world)
    start = await world.feeds.head(world.app.key)
    await gateway.open_many([b"a", b"b", b"c"])
    await world.presence.client.read(("XTRIM", keys.feed(world.app.key), "MAXLEN", 1))
    head = str(await world.feeds.head(world.app.key))
    async with streaming(world.url, world.app, f"?since={start}") as stream:
        reset = await stream.event()
        assert (reset.event, reset.id, reset.data["cursor"]) == ("reset", head, head)
        with pytest.raises(EOFError):
            await stream.frame()
    async with streaming(world.url, world.app, f"?since={head}") as stream:
        await gateway.open(b"d")
        assert await stream.received(1) == [("online", "d")]


@pytest.mark.parametrize(
    ("query", "body", "parameter"),
    [
        ("?kinds=nothing", None, "kinds"),
        ("?since=nonsense", None, "since"),
        ("?gateway=%20", None, "gateway"),
        ("?gateway=", None, "gateway"),
        ("?kinds=", None, "kinds"),
        ("?users=&kinds=online", None, "users"),
        ("?" + "&".join(f"users={number}" for number in range(1_001)), None, "users"),
        ("", {"users": []}, "users"),
        ("", {"users": ["a"] * 10_001}, "users"),
        ("", {"kinds": ["nothing"]}, "kinds[0]"),
        ("", {"kinds": []}, "kinds"),
        ("", {"cursor": "1"}, "cursor"),
    ],
)
async def test_what_is_wrong_is_named_before_a_stream_begins(
    world: World, query: str, body: object, parameter: str
) -> None:
    reply = await world.v1("GET" if body is None else "POST", f"events{query}", body)
    assert (reply.status, reply.body["parameter"]) == (400, parameter)


async def test_head_is_answered_without_a_stream(world: World) -> None:
    async with asyncio.timeout(SOON_S):
        reply = await world.send("HEAD", "/v1/events", headers=basic(world.app))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")


async def test_an_app_has_a_bounded_number_of_streams(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_STREAMS", 2)
    first_app = world.app
    async with streaming(world.url, world.app), streaming(world.url, world.app):
        reply = await world.v1("GET", "events")
        assert (reply.status, reply.body["error"], reply.headers["Retry-After"]) == (429, "too-many-streams", "5")
        await world.begin_app()
        async with streaming(world.url, world.app):
            world.app = first_app
    monkeypatch.setattr(feed, "BEAT_S", 0.05)
    await wait_until_async(lambda: _admits(world), SOON_S, "room for another stream")


async def _admits(world: World) -> bool:
    return (await world.send("HEAD", "/v1/events", headers=basic(world.app))).status == 200


@pytest.mark.slow
async def test_a_reader_that_takes_nothing_is_cut_off_and_delays_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SLOW_S", 0.2)
    monkeypatch.setattr(room, "MAX_STREAMS", 2)
    gateway = await gateway_of(world)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (world.server.host, world.server.port))
        head = f"GET /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: {basic(world.app)['Authorization']}\r\n\r\n"
        await loop.sock_sendall(slow, head.encode())
        async with streaming(world.url, world.app) as quick:
            await wait_until_async(lambda: _is_full(world), SOON_S, "the slow reader's stream to begin")
            users = [b"%062d" % number for number in range(2_000)]
            for platform in ("iOS", "Web", "Android", "Car", "Watch", "TV"):
                await gateway.open_many(users, platform)
                assert len(await quick.received(2_000)) == 2_000
            await wait_until_async(lambda: _admits(world), SOON_S, "the slow reader to be cut off")


async def _is_full(world: World) -> bool:
    return not await _admits(world)


async def test_a_drain_ends_streams_in_order(world: World) -> None:
    deps: Deps = deps_of(world, HttpOptions(port=0))
    server = await serve_http(deps)
    url = f"http://{server.host}:{server.port}"
    async with streaming(url, world.app) as stream:
        draining = asyncio.create_task(server.drain(SOON_S))
        frame = await stream.frame()
        low, high = feed.DRAIN_RETRY_MS
        assert low <= int(frame.retry) <= high
        with pytest.raises(EOFError):
            await stream.frame()
        async with asyncio.timeout(SOON_S / 2):
            await draining


async def test_an_outage_of_redis_is_silence_and_no_gap(private_redis: RedisServer, tmp_path: Path) -> None:
    with Cable(private_redis.port) as cable:
        async with running_world(private_redis.url, tmp_path / "replica", presence_url=cable.url) as world:
            near = await Gateway(presence_on(private_redis.url), world.app).lease()
            async with streaming(world.url, world.app) as stream:
                cursor = stream.last_id
                await near.open(b"before")
                assert await stream.received(1) == [("online", "before")]
                cable.cut()
                await wait_until_async(lambda: world.feeds.is_cut_off(world.app.key), SOON_S, "the cut to be noticed")
                await near.open(b"meanwhile")
                assert (await world.v1("GET", "events")).status == 503
                async with streaming(world.url, world.app, f"?since={cursor}") as begun_meanwhile:
                    cable.mend()
                    assert await stream.received(1) == [("online", "meanwhile")]
                    assert await begun_meanwhile.received(2) == [("online", "before"), ("online", "meanwhile")]
            await near.store.client.aclose()


async def test_a_removed_apps_stream_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BEAT_S", 0.05)
    async with streaming(world.url, world.app) as stream:
        written = await world.store.apps.remove(world.app.key, now_ms())
        await world.node.acks.wait(written, 5_000)
        with pytest.raises(EOFError):
            while True:
                await stream.frame()
