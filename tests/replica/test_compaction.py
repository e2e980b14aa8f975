"""After an import the facts file releases its free pages, unnoticed by readers and writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.errors import ReplicaError, ReplicaForeign, ReplicaFull
from gate.replica import envs
from gate.replica.compaction import Compaction, opened_in_step
from gate.replica.layout import MAP_BYTES, current_facts, facts_name
from gate.replica.loader import load_snapshot
from gate.replica.writer import FactsFile
from harness.waiting import wait_until_async
from tests.replica.node import Node, running
from tests.replica.scripted import Listener, ScriptedRedis

OWNERS = 3_000
CALM_MS = 100


@pytest.fixture
def redis() -> ScriptedRedis:
    redis = ScriptedRedis()
    redis.write(0, "app-set", app="app")
    return redis


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "replica"


@pytest.fixture
async def node(directory: Path, redis: ScriptedRedis) -> AsyncIterator[Node]:
    compaction = Compaction(directory, calm_ms=CALM_MS, least_pages=50)
    async with running(directory, redis, Listener(redis), compaction=compaction) as node:
        await node.until_ready()
        yield node


def facts_in(path: Path) -> dict[bytes, bytes]:
    """Every App, User and list entry, as they lie there."""
    env = envs.acquire(path)
    try:
        with env.begin() as txn:
            return {bytes(key): bytes(value) for key, value in txn.cursor() if bytes(key)[:1] in b"AUL"}
    finally:
        envs.release(path, env)


async def import_much(node: Node, redis: ScriptedRedis) -> Path:
    """Scattered entries in many commits; the file that they were written to."""
    for nth in range(OWNERS):
        owner = b"owner-%05d" % (nth * 7_919 % OWNERS)
        redis.write(1, "blocked", owner, [b"m-%d" % nth, b"n-%d" % nth], until_ms=FOREVER_MS)
        if nth % 50 == 0:
            await asyncio.sleep(0)
    written = current_facts(node.directory)
    await node.until_word(b"m-%d" % (OWNERS - 1), b"owner-%05d" % ((OWNERS - 1) * 7_919 % OWNERS), "blacklisted")
    return written


async def test_the_file_shrinks_and_the_facts_are_the_same(node: Node, redis: ScriptedRedis) -> None:
    written = await import_much(node, redis)
    size, facts = written.stat().st_size, facts_in(written)
    reloads = node.status_page.reloads
    await node.until(lambda: current_facts(node.directory) != written, "a compacted file")
    compacted = current_facts(node.directory)
    assert compacted.stat().st_size < 0.75 * size
    assert facts_in(compacted) == facts
    assert node.status_page.reloads == reloads, "nothing was loaded from Redis"
    redis.write(1, "unblocked", b"owner-00000", [b"m-0"])
    await node.until_word(b"m-0", b"owner-00000", "allowed")


async def test_changes_made_while_it_is_copied_are_in_the_copy_before_it_is_used(
    node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, may_end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slowly(copy: object, *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, copy, *arguments)  # type: ignore[arg-type]
        copying.set()
        await may_end.wait()

    monkeypatch.setattr(asyncio, "to_thread", slowly)
    written = await import_much(node, redis)
    await asyncio.wait_for(copying.wait(), 20)
    redis.write(1, "ban-imposed", b"late", until_ms=FOREVER_MS)
    await node.until_word(b"late", b"anybody", "sender-banned")
    seen: list[str] = []

    def look() -> bool:
        seen.append(node.word(b"late", b"anybody"))
        return current_facts(node.directory) != written

    loop.call_soon(may_end.set)
    await node.until(look, "the copy in use")
    assert set(seen) == {"sender-banned"}, "readers never went back to before the Ban"


async def test_a_copy_that_can_not_catch_up_is_dropped(
    node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr("gate.replica.compaction.caught_up", never)
    written = await import_much(node, redis)
    await node.until(
        lambda: not any(node.directory.glob("facts-2.mdb*")) and node.replicator.compaction.not_before_ms > 0,
        "the end of the attempt",
    )
    assert current_facts(node.directory) == written
    redis.write(1, "ban-imposed", b"later", until_ms=FOREVER_MS)
    await node.until_word(b"later", b"anybody", "sender-banned")


def trims(redis: ScriptedRedis) -> None:
    redis.trim(1, 99)


def loses_one(redis: ScriptedRedis) -> None:
    redis.lose_entry(1, 2)


def is_whole(redis: ScriptedRedis) -> None:
    """All that the copy lacks is there."""


@pytest.mark.parametrize(("happens", "has_all"), [(is_whole, True), (trims, False), (loses_one, False)])
async def test_a_copy_is_used_only_with_all_changes(
    redis: ScriptedRedis, tmp_path: Path, happens: Callable[[ScriptedRedis], None], has_all: bool
) -> None:
    file, copy = [await load_snapshot(redis, tmp_path / facts_name(number)) for number in (1, 2)]
    copy.close_clean()
    file.apply({1: [redis.write(1, "ban-imposed", b"u%d" % nth, until_ms=FOREVER_MS) for nth in range(5)]}, 1)
    happens(redis)
    opened = await opened_in_step(copy.path, file, redis, lambda: None, MAP_BYTES)
    assert (opened is not None, copy.path.exists()) == (has_all, has_all)
    if opened is not None:
        assert opened.positions == file.positions
        opened.close()
    file.close()


async def test_a_copy_that_can_not_be_read_is_deleted(redis: ScriptedRedis, tmp_path: Path) -> None:
    file = await load_snapshot(redis, tmp_path / facts_name(1))
    (tmp_path / facts_name(2)).write_bytes(b"no facts" * 1_000)
    assert await opened_in_step(tmp_path / facts_name(2), file, redis, lambda: None, MAP_BYTES) is None
    assert not (tmp_path / facts_name(2)).exists()
    file.close()


@pytest.mark.parametrize("failure", [ReplicaFull("no room"), ReplicaForeign("a page can't be read")], ids=type)
async def test_a_full_disk_is_waited_out_and_damage_is_loaded_again(
    node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch, failure: ReplicaError
) -> None:
    def fails(*_: object) -> None:
        raise failure

    monkeypatch.setattr(FactsFile, "copy_packed", fails)
    written = await import_much(node, redis)
    if isinstance(failure, ReplicaFull):
        await node.until(lambda: node.replicator.compaction.not_before_ms, "the end of the attempt")
        assert current_facts(node.directory) == written
        assert "the Replica was not compacted" in [line["event"] for line in node.logged]
    else:
        await node.until_reloaded(2)
        assert node.status_page.damages == 1
    redis.write(1, "ban-imposed", b"later", until_ms=FOREVER_MS)
    await node.until_word(b"later", b"anybody", "sender-banned")


async def test_a_stop_in_the_middle_leaves_one_whole_file(
    directory: Path, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    real = asyncio.to_thread

    async def noted(copy: object, *arguments: object) -> None:
        begun.set()
        await real(copy, *arguments)  # type: ignore[arg-type]
        await wait_until_async(lambda: compaction.copy is None, 20, "the replicator to end")

    monkeypatch.setattr(asyncio, "to_thread", noted)
    compaction = Compaction(directory, calm_ms=CALM_MS, least_pages=50)
    async with running(directory, redis, Listener(redis), compaction=compaction) as node:
        await node.until_ready()
        written = await import_much(node, redis)
        facts = facts_in(written)
        await asyncio.wait_for(begun.wait(), 20)
    assert facts_in(current_facts(directory)) == facts
    assert len(list(directory.glob("facts-*.mdb"))) == 1
