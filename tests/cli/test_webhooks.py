"""`gate webhooks`: dead letters listed and sent again, from a Redis whose node does not run; the audit has who did it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.core.model import AppFacts
from gate.store.dead_letters import act_on_letters
from gate.store.store import Store
from gate.store.writer import Attribution
from harness.servers import RedisServer
from tests.cli.command import Command

KEY = "letters"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def gate(redis: RedisServer, tmp_path: Path) -> Command:
    redis.client.flushall()
    command = Command(tmp_path, KEY, redis.url)
    asyncio.run(bury(redis.url))
    return command


async def bury(url: str, *users: bytes) -> None:
    """The App, and dead letters about these Users."""
    store = await Store.connect(url)
    try:
        if not users:
            await store.apps.create(AppFacts(key=KEY, secrets=("s" * 32,)), 1)
            return
        await store.deactivation.reactivate(KEY, list(users), 1, 0)
        while hooks := await store.webhooks.take("node", 50, [0]):
            for hook in hooks:
                await store.webhooks.bury(hook, "it answered 503")
    finally:
        await store.aclose()


def acts(gate: Command) -> list[tuple[str, int, str, str, str]]:
    entries = [one for one in gate.json("audit")["entries"] if one["what"].startswith("webhooks")]
    return [(one["what"], one["letters"], one["actor"], one["reason"], one["by"]["kind"]) for one in entries]


def test_without_dead_letters_there_is_nothing_to_replay(gate: Command) -> None:
    listed = gate.json("webhooks", "list")
    assert (listed["webhook_url"], listed["dead"]) == (None, [])
    shown = gate("webhooks", "list").out
    assert "has no webhook" in shown and "there are no dead letters" in shown
    assert gate.json("webhooks", "replay", "--all") == {"replayed": 0}
    gate("webhooks", "replay", "1:5-0", status=1)
    gate("webhooks", "replay", "x", status=2)
    gate("webhooks", "replay", status=2)
    gate("webhooks", "replay", "1:5-0", "--all", status=2)


def test_a_replay_is_in_the_audit_with_its_reason(gate: Command, redis: RedisServer) -> None:
    asyncio.run(bury(redis.url, b"eve", b"bob", b"cy"))
    dead = gate.json("webhooks", "list", "--limit", "2")
    assert (len(dead["dead"]), dead["cut"]) == (2, True)
    one = dead["dead"][0]["id"]
    gate("webhooks", "replay", one, "--reason", "the receiver is back", "--actor", "joe")
    assert acts(gate) == [("webhooks-replayed", 1, "joe", "the receiver is back", "cli")]
    again = gate("webhooks", "replay", one, status=1)
    assert "0 results on the way again" in again.out and "1 dead letter of those named not there" in again.err
    gate("webhooks", "replay", "x", status=2)
    assert gate.json("webhooks", "replay", "--all", "--actor", "ann") == {"replayed": 2}
    assert [letters for _, letters, *_ in acts(gate)] == [2, 0, 1], "a wrong id is refused before it is recorded"
    assert gate.json("webhooks", "list")["waiting"] == 3


async def test_all_are_replayed_however_many_there_are(redis: RedisServer) -> None:
    redis.client.flushall()
    await bury(redis.url)
    await bury(redis.url, *(b"u%04d" % number for number in range(1_050)))
    store = await Store.connect(redis.url)
    try:
        assert await act_on_letters(store, KEY, "webhooks-replayed", Attribution("", ""), None) == 1_050
        assert await store.webhooks.dead(KEY) == []
    finally:
        await store.aclose()
