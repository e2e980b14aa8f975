"""Two nodes under one id, as after a data directory was copied: a write that one applied must not count for both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gate.core.changes import Change
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.replica.status_page import State
from gate.store.acks import Acknowledger
from gate.store.store import Store
from harness.registry import settle
from harness.servers import RedisServer
from tests.replica.node import APP, Node, running


async def never(after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
    await asyncio.sleep(block_ms / 1_000)
    return {}


async def test_of_two_nodes_under_one_id_the_earlier_is_stale_and_says_why(
    private_redis: RedisServer, store: Store, redis_node: Node, followed: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    second = await Store.connect(private_redis.url)
    acks = Acknowledger(store, None)
    await acks.start()
    async with running(tmp_path / "copy", second.changelog, second.announcer("node-1")) as copy:
        await copy.until_ready()
        await redis_node.until(lambda: redis_node.status_page.state is State.CUT_OFF, "the earlier one to be cut off")
        await settle(store)
        monkeypatch.setattr(followed.changelog, "read", never)
        written = await store.bans.impose(APP, [b"mallory"], FOREVER_MS, 1)
        assert await acks.wait(written) == "all"
        assert copy.word(b"mallory", b"bob") == "sender-banned"
        await redis_node.until(lambda: redis_node.status_page.stale_ms > 0, "it to show as stale")
        assert redis_node.word(b"mallory", b"bob") == "allowed"
        assert any("another node runs under this one's id" in str(line.get("problem")) for line in copy.logged)
    monkeypatch.undo()
    await redis_node.until_state(State.CURRENT)
    await redis_node.until_word(b"mallory", b"bob", "sender-banned")
    await acks.aclose()
    await second.aclose()
