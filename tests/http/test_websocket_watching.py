"""Watched Users on a WebSocket: a snapshot, then changes; who hides stays offline; the bounds; Redis away, a lost feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gate.core.limits import MAX_RATE
from gate.http.client import watcher
from gate.http.client.watcher import MAX_WATCHED_USERS, PUSHED_AT_ONCE
from gate.presence.sweeper import Sweeper
from gate.store import presence_keys as keys
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from harness.websocket import Socket, connect, connected
from tests.http.test_client_blacklist import token_of
from tests.http.world import World, now_ms, running_world

SOON_S = 15.0
LEASE_TTL_MS = 3_000
NEVER_SEEN = {"online": False, "platforms": [], "last_seen_ms": None, "last_active_ms": None}


@asynccontextmanager
async def announcing(world: World) -> AsyncIterator[None]:
    """Departures are announced, as by the role `background`."""
    task = asyncio.create_task(Sweeper(world.presence, LEASE_TTL_MS).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def watching(world: World, viewer: str, *users: str) -> Socket:
    socket = await connect(world.url, token_of(world.app, viewer))
    answer = await socket.ask("watch", users=list(users))
    assert answer["type"] == "watch", answer
    return socket


async def next_change(socket: Socket) -> Mapping[str, Any]:
    """By User, of the next message."""
    message = await socket.next_message()
    assert message["type"] == "presence-changed", message
    return {one["user"]: one for one in message["presence"]}


async def until_shown(socket: Socket, user: str, online: bool) -> Mapping[str, Any]:
    while (found := (await next_change(socket)).get(user)) is None or found["online"] is not online:
        continue
    return dict(found)


async def assert_nothing_came(socket: Socket) -> None:
    """Messages come in order: the answer to a ping is the next one."""
    assert await socket.ask("ping") == {"type": "pong"}


async def hide(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, hide_presence=True))


async def block(world: World, owner: str, user: str) -> None:
    assert (await world.v1("POST", "blacklist", {"owner": owner, "members": [user]})).status == 200


async def test_a_snapshot_then_each_change(world: World) -> None:
    async with announcing(world), connected(world.url, token_of(world.app, "bob"), platform="iOS"):
        ann = await connect(world.url, token_of(world.app, "ann"))
        answer = await ann.ask("watch", users=["bob", "cy", "bob"], id=7)
        assert (answer["type"], answer["id"]) == ("watch", 7)
        assert [(one["user"], one["online"]) for one in answer["presence"]] == [("bob", True), ("cy", False)]
        assert answer["presence"][0]["platforms"][0]["platform"] == "iOS"
        async with connected(world.url, token_of(world.app, "cy")):
            change = await until_shown(ann, "cy", True)
            assert [one["platform"] for one in change["platforms"]] == ["Web"]
            assert change["last_seen_ms"] is None
            async with connected(world.url, token_of(world.app, "cy"), platform="iPad"):
                change = (await next_change(ann))["cy"]
                assert {one["platform"] for one in change["platforms"]} == {"Web", "iPad"}
        change = await until_shown(ann, "cy", False)
        assert change["last_seen_ms"] > 0
        await assert_nothing_came(ann)
        ann.drop()


async def test_users_that_are_unwatched_are_shown_no_more(world: World) -> None:
    ann = await watching(world, "ann", "bob", "cy", "dan")
    assert await ann.ask("unwatch", users=["bob", "other"]) == {"type": "unwatch", "watching": 2}
    async with connected(world.url, token_of(world.app, "bob")), connected(world.url, token_of(world.app, "cy")):
        assert set(await next_change(ann)) == {"cy"}
        assert await ann.ask("unwatch") == {"type": "unwatch", "watching": 0}
    assert world.deps.watches.many == 0
    await assert_nothing_came(ann)
    ann.drop()


async def test_the_index_is_empty_when_connections_end(world: World) -> None:
    ann, bob = await watching(world, "ann", "x", "y"), await watching(world, "bob", "y", "z")
    assert world.deps.watches.many == 3
    ann.writer.transport.abort()
    await wait_until_async(lambda: asyncio.sleep(0, world.deps.watches.many == 2), SOON_S, "one watch to end")
    await bob.leave()
    await wait_until_async(lambda: asyncio.sleep(0, world.deps.watches.many == 0), SOON_S, "all watches to end")
    assert world.feeds.waiting(world.app.key) <= 1  # only the lease's own


async def test_one_read_serves_all_who_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a poll a connection: the reads do not grow with the number of watchers."""
    watchers = [await watching(world, f"viewer-{number}", "bob") for number in range(20)]
    reads: list[int] = []
    presences = world.presence.presences

    async def counted(app_key: str, users: Any) -> Any:
        reads.append(len(users))
        return await presences(app_key, users)

    monkeypatch.setattr(world.presence, "presences", counted)
    async with connected(world.url, token_of(world.app, "bob")):
        for one in watchers:
            assert (await until_shown(one, "bob", True))["online"]
    assert sum(reads) <= 2, reads
    for one in watchers:
        one.drop()


async def test_the_most_that_may_be_watched(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client-user-asked": MAX_RATE}))
    users = [f"user-{number}" for number in range(MAX_WATCHED_USERS)]
    ann = await connect(world.url, token_of(world.app, "ann"))
    assert len((await ann.ask("watch", users=users))["presence"]) == MAX_WATCHED_USERS
    assert len((await ann.ask("watch", users=users[:10]))["presence"]) == 10  # those again
    refused = await ann.ask("watch", users=["one-more"])
    assert (refused["error"], refused["parameter"]) == ("invalid", "users")
    assert "at most 1000" in refused["message"]
    assert (await ann.ask("watch", users=[*users, "one-more"]))["error"] == "invalid"
    assert (await ann.ask("unwatch", users=users[:1]))["watching"] == MAX_WATCHED_USERS - 1
    assert len((await ann.ask("watch", users=["one-more"]))["presence"]) == 1
    ann.drop()


async def test_watching_counts_against_the_limits_of_asking(world: World) -> None:
    ann = await connect(world.url, token_of(world.app, "ann"))
    users = [f"user-{number}" for number in range(800)]
    assert (await ann.ask("watch", users=users))["type"] == "watch"
    assert (await ann.ask("unwatch"))["watching"] == 0
    refused = await ann.ask("watch", users=users)
    assert refused["error"] == "rate-limited"
    assert refused["retry_after_s"] >= 1
    ann.drop()


# Who hides


async def test_who_hides_is_offline_also_when_it_changes(world: World) -> None:
    await hide(world)
    await block(world, "bob", "ann")
    ann, cy = await watching(world, "ann", "bob"), await watching(world, "cy", "bob")
    async with announcing(world), connected(world.url, token_of(world.app, "bob")) as bob:
        assert (await until_shown(cy, "bob", True))["online"]
        await assert_nothing_came(ann)
        assert (await ann.ask("watch", users=["bob"]))["presence"] == [{"user": "bob", **NEVER_SEEN}]
        await bob.leave()
        await until_shown(cy, "bob", False)
    await assert_nothing_came(ann)
    for one in (ann, cy):
        one.drop()


async def test_who_blocks_the_viewer_goes_offline_for_it_and_comes_back(world: World) -> None:
    await hide(world)
    async with connected(world.url, token_of(world.app, "bob")) as bob:
        ann = await watching(world, "ann", "bob")
        assert (await bob.ask("block", users=["ann"]))["type"] == "block"
        assert (await next_change(ann))["bob"] == {"user": "bob", **NEVER_SEEN}
        assert (await bob.ask("unblock", users=["ann"]))["type"] == "unblock"
        assert (await until_shown(ann, "bob", True))["platforms"]
        # An entry that ends by itself.
        until_ms = now_ms() + 2_500
        assert (await bob.ask("block", users=["ann"], until=until_ms))["type"] == "block"
        await until_shown(ann, "bob", False)
        await until_shown(ann, "bob", True)
        assert now_ms() >= until_ms
        ann.drop()


async def test_a_hidden_user_that_comes_delays_no_other_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PUSH_EVERY_S", 60.0)
    await hide(world)
    await block(world, "bob", "ann")
    ann, dan = await watching(world, "ann", "bob", "cy"), await watching(world, "dan", "bob")
    async with connected(world.url, token_of(world.app, "bob")):
        await until_shown(dan, "bob", True)  # so it was looked at for ann too
        async with connected(world.url, token_of(world.app, "cy")):
            await until_shown(ann, "cy", True)
    for one in (ann, dan):
        one.drop()


async def test_the_apps_setting_counts_while_users_are_watched(world: World) -> None:
    await block(world, "bob", "ann")
    async with connected(world.url, token_of(world.app, "bob")):
        ann = await connect(world.url, token_of(world.app, "ann"))
        assert (await ann.ask("watch", users=["bob"]))["presence"][0]["online"]
        await hide(world)
        assert (await next_change(ann))["bob"] == {"user": "bob", **NEVER_SEEN}
        ann.drop()


async def test_a_viewer_whose_token_ended_is_shown_nothing_more(world: World) -> None:
    ann = await watching(world, "ann", "bob")
    await asyncio.sleep(0.01)  # the Token is from before this moment
    await world.user("token/expire.json", [("userId", "ann"), ("time", str(now_ms()))])
    ended = await ann.next_message()
    assert (ended["type"], ended["error"]) == ("watch-ended", "token-revoked")
    assert world.deps.watches.many == 0
    newer = token_of(world.app, "ann", now_ms() + 1)
    assert (await ann.ask("token", token=newer))["type"] == "token"
    assert (await ann.ask("watch", users=["bob"]))["type"] == "watch"
    async with connected(world.url, token_of(world.app, "bob")):
        await until_shown(ann, "bob", True)
    ann.drop()


# Faults


async def test_a_lost_feed_is_followed_by_a_new_snapshot(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_world(redis_server.url, tmp_path / "replica") as node:
        bob = await connect(node.url, token_of(node.app, "bob"))
        ann = await watching(node, "ann", "bob", "cy")
        # As from an older file: the feed's number goes back, and its entries are gone.
        await node.presence.client.read(("DEL", keys.feed(node.app.key), keys.feed_meta(node.app.key)))
        cy = await connect(node.url, token_of(node.app, "cy"))
        shown: dict[str, Any] = {}
        while set(shown) < {"bob", "cy"} or not shown["cy"]["online"]:
            shown |= await next_change(ann)
        assert shown["bob"]["online"]
        for one in (ann, bob, cy):
            one.drop()


async def test_changes_while_redis_is_away_are_shown_afterwards(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_world(redis_server.url, tmp_path / "replica") as node, announcing(node):
        bob = await connect(node.url, token_of(node.app, "bob"))
        ann = await watching(node, "ann", "bob")
        redis_server.client.save()
        redis_server.kill()
        refused = await ann.ask("watch", users=["cy"])
        assert refused["error"] == "unavailable"
        bob.drop()
        redis_server.restart()
        await until_shown(ann, "bob", False)
        ann.drop()


async def test_a_viewer_that_reads_nothing_delays_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.http.client.websocket.SEND_WITHIN_S", 0.5)
    monkeypatch.setattr(watcher, "PUSH_EVERY_S", 0.02)
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client-user-asked": MAX_RATE}))
    users = [f"user-{number:040}" for number in range(MAX_WATCHED_USERS)]
    slow, good = await watching(world, "slow", *users), await watching(world, "good", *users)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def changes() -> None:
        """As after lost feeds: all Users again and again."""
        await world.deps.watches.followed(world.app.key).read_all_again()

    async def is_cut_off() -> bool:
        await changes()
        shown: set[str] = set()
        while len(shown) < MAX_WATCHED_USERS:
            shown |= set(await next_change(good))
        return not await world.presence.is_online(world.app.key, b"slow")

    await wait_until_async(is_cut_off, 60.0, "the slow one to be disconnected")
    assert len(users) > PUSHED_AT_ONCE
    for one in (slow, good):
        one.drop()
