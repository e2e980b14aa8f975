"""Redis away: checks go on, writes say so at once."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.http.world import running_world

AT_ONCE_S = 0.5
"""Far below the store's deadline of one second, far above what a busy machine needs."""


async def test_killed_writes_fail_at_once_and_checks_go_on(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        await world.v1("POST", "bans", {"users": ["a"], "seconds": 600})
        private_redis.kill()
        for _ in range(3):
            started = time.monotonic()
            reply = await world.user("block.json", [("userId", "b"), ("minute", "1")])
            assert time.monotonic() - started < AT_ONCE_S
            assert (reply.status, reply.body["code"], reply.body["url"]) == (503, 1000, "/user/block.json")
            assert reply.headers["Retry-After"] == "1"
        reply = await world.v1("POST", "bans", {"users": ["b"], "seconds": 1})
        assert (reply.status, reply.body["error"], reply.headers["Retry-After"]) == (503, "unavailable", "1")
        for path in ("block/query.json", "whitesetting/query.json"):
            assert (await world.user(path, [("userId", "b")])).status == 503
        assert await world.word("a", "b") == "sender-banned"
        assert await world.word("b", "a") == "allowed"
        assert (await world.send("GET", "/healthz")).status == 200
        assert (await world.send("GET", "/readyz")).status == 200


async def test_a_write_without_an_answer_has_an_unknown_outcome(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        await world.user("block.json", [("userId", "a"), ("minute", "1")])
        with private_redis.paused():
            started = time.monotonic()
            reply = await world.user("block.json", [("userId", "b"), ("minute", "1")])
            assert time.monotonic() - started < 3
            assert (reply.status, reply.body["code"], reply.body["outcome"]) == (503, 1000, "unknown")
            started = time.monotonic()
            reply = await world.v1("POST", "bans", {"users": ["c"], "seconds": 60})
            assert time.monotonic() - started < AT_ONCE_S
            assert (reply.status, "outcome" in reply.body) == (503, False)
            assert await world.word("a", "b") == "sender-banned"


async def test_writes_work_again_once_redis_does(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        private_redis.stop()
        assert (await world.user("unblock.json", [("userId", "a")])).status == 503
        private_redis.restart()

        async def works() -> bool:
            return (await world.user("unblock.json", [("userId", "a")])).status == 200

        await wait_until_async(works, 10, "a write to get through")


async def test_staleness_shows_and_may_be_refused(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(
        private_redis.url, tmp_path / "replica", max_staleness_ms=1_200, on_stale="refuse"
    ) as world:
        assert (await world.v1("GET", "check?from=a&to=b")).status == 200
        private_redis.kill()

        async def refused() -> bool:
            return (await world.v1("GET", "check?from=a&to=b")).status == 503

        await wait_until_async(refused, 10, "a check to be refused as stale")
        for reply in (
            await world.v1("GET", "check?from=a&to=b"),
            await world.v1("GET", "explain?from=a&to=b"),
            await world.v1("POST", "check", {"pairs": [["a", "b"]]}),
        ):
            assert (reply.status, reply.body["error"], reply.headers["Retry-After"]) == (503, "stale", "1")


async def test_an_app_may_refuse_or_serve_unlike_its_deployment(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(
        private_redis.url, tmp_path / "replica", max_staleness_ms=1_500, on_stale="refuse"
    ) as world:
        apps = [world.app]
        for own in ({"on_stale": "serve"}, {"max_staleness_ms": 86_400_000}):
            await world.begin_app()
            await world.set_app(msgspec.structs.replace(world.app, **own))
            apps.append(world.app)
        private_redis.kill()
        world.app = apps[0]

        async def refused() -> bool:
            return (await world.v1("GET", "check?from=a&to=b")).status == 503

        await wait_until_async(refused, 10, "a check to be refused as stale")
        for world.app in apps[1:]:
            for reply in (
                await world.v1("GET", "check?from=a&to=b"),
                await world.v1("GET", "check?from=%61&to=b"),
                await world.v1("GET", "explain?from=a&to=b"),
                await world.v1("POST", "check", {"pairs": [["a", "b"]]}),
                await world.v1("POST", "check", {"from": "a", "to": ["b"]}),
            ):
                assert reply.status == 200, reply


async def test_an_app_may_refuse_where_its_deployment_serves(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        await world.set_app(msgspec.structs.replace(world.app, on_stale="refuse", max_staleness_ms=1_200))
        strict = world.app
        await world.begin_app()
        lax, world.app = world.app, strict
        private_redis.kill()

        async def refused() -> bool:
            return (await world.v1("GET", "check?from=a&to=b")).status == 503

        await wait_until_async(refused, 10, "a check of this App to be refused as stale")
        reply = await world.v1("POST", "check", {"pairs": [["a", "b"]]})
        assert (reply.status, "the App refuses past 1200 ms" in reply.body["message"]) == (503, True)
        world.app = lax
        assert await world.word("a", "b") == "allowed"


@pytest.mark.parametrize("bound", [0, 1_200])
async def test_by_default_checks_are_served_however_stale(
    private_redis: RedisServer, tmp_path: Path, bound: int
) -> None:
    async with running_world(private_redis.url, tmp_path / "replica", max_staleness_ms=bound) as world:
        private_redis.kill()

        async def stale() -> bool:
            reply = await world.v1("GET", "check?from=a&to=b")
            assert (reply.status, reply.body["verdict"]) == (200, "allowed")
            return bool(reply.body["stale_ms"] > 1_200)

        await wait_until_async(stale, 10, "the staleness to show")


async def test_a_strict_app_is_not_let_in_without_redis(private_redis: RedisServer, tmp_path: Path) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        await world.set_app(msgspec.structs.replace(world.app, strict_signature=True))
        private_redis.kill()
        reply = await world.user("block/query.json")
        assert (reply.status, reply.body["code"]) == (503, 1000)
        assert "outcome" not in reply.body
        assert await world.word("a", "b") == "allowed"


async def test_a_redis_that_refuses_writes_is_503_and_nothing_was_written(
    private_redis: RedisServer, tmp_path: Path
) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as world:
        private_redis.client.config_set("maxmemory", "1")
        reply = await world.user("block.json", [("userId", "a"), ("minute", "1")])
        assert (reply.status, reply.body["code"]) == (503, 1000)
        assert "outcome" not in reply.body
        private_redis.client.config_set("maxmemory", "0")
        assert await world.word("a", "b") == "allowed"
