"""What Sentinels publish and answer about other primaries, after a lost connection, and to `gate doctor`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import redis

from gate.store.address import parse_address
from gate.store.sentinel import Sentinels, look_at_each
from gate.store.store import Store
from harness.ports import LOOPBACK
from harness.sentinels import NAME, SentinelSetup, Switches
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.store.test_sentinel import SWITCH_TIMEOUT_S, Writing, listens


@pytest.fixture
async def store(sentinel_setup: SentinelSetup) -> AsyncIterator[Store]:
    opened = await Store.connect(sentinel_setup.url)
    yield opened
    await opened.aclose()


async def test_a_failover_of_another_primary_of_these_sentinels_costs_nothing(
    sentinel_setup: SentinelSetup, store: Store, tmp_path: Path
) -> None:
    """Sentinels often monitor the servers of several services, and publish all failovers on the same channels."""
    theirs = [RedisServer.start("redis-7", tmp_path / "theirs")]
    try:
        follows = ["--replicaof", f"{LOOPBACK} {theirs[0].port}", "--repl-diskless-sync-delay", "0"]
        theirs.append(RedisServer.start("redis-7", tmp_path / "their-replica", extra=follows))
        for sentinel in sentinel_setup.sentinels:
            sentinel.client.execute_command("SENTINEL", "MONITOR", "theirs", LOOPBACK, theirs[0].port, 2)
            await wait_until_async(partial(listens, sentinel), 5, "it to listen to all of them")
        asked = sentinel_setup.sentinels[0].client

        def is_over() -> bool:
            # Refused while the replica is unknown, and while one is in progress; a busy machine may give one up.
            with contextlib.suppress(redis.ResponseError):
                asked.execute_command("SENTINEL", "FAILOVER", "theirs")
            return switches.are_all_heard

        link = store.client.link
        with Switches(sentinel_setup.sentinels[:1]) as switches:
            async with Writing.on(store) as writing:
                await wait_until_async(is_over, 3 * SWITCH_TIMEOUT_S, "their failover")
                begun = len(writing.acknowledged)
                await wait_until_async(lambda: len(writing.acknowledged) > begun + 10, 10, "writes after it")
        assert (writing.outcomes, store.client.link) == ({}, link)
    finally:
        for server in theirs:
            server.kill()


async def test_each_loss_of_a_sentinel_is_followed_by_a_question(sentinel_setup: SentinelSetup) -> None:
    """A message of a failover may have been missed."""
    hints: list[bool] = []
    asking = Sentinels(parse_address(sentinel_setup.url), 500, str, lambda: hints.append(True))
    following = asyncio.create_task(asking.follow())
    for sentinel in sentinel_setup.sentinels:
        await wait_until_async(partial(listens, sentinel), 5, "it to listen")
    assert hints == []
    for sentinel in sentinel_setup.sentinels:
        hints.clear()
        sentinel.client.execute_command("CLIENT KILL TYPE pubsub")
        await wait_until_async(lambda: hints == [True], 5, "a question after the loss")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await asking.aclose()


async def test_the_look_at_each_sentinel_names_what_is_wrong(sentinel_setup: SentinelSetup) -> None:
    sentinel_setup.sentinels[2].kill()
    shown = [f"redis://{LOOPBACK}:{sentinel.port}" for sentinel in sentinel_setup.sentinels]
    primary = f"{LOOPBACK}:{sentinel_setup.primary.port}"
    first, second, third = await look_at_each(parse_address(sentinel_setup.url), 500)
    assert [first, second] == [(shown[0], primary, ""), (shown[1], primary, "")]
    assert (third.shown, third.primary) == (shown[2], "") and third.problem
    unknown = await look_at_each(parse_address(sentinel_setup.url.replace(NAME, "others")), 500)
    assert [look.problem for look in unknown[:2]] == [f"{one} knows no master of that name" for one in shown[:2]]
