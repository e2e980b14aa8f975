"""A replicator without Redis still checks its file; opened or loaded facts are fresh only once Redis has returned its heads."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gate.clock import monotonic_ms
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.errors import ReplicaMissing
from gate.replica import upkeep
from gate.replica.files import DAMAGED_FILE, report_damage, request_rebuild
from gate.replica.layout import BOARD_FILE, CURRENT_FILE, current_facts
from gate.replica.reading import Reading
from gate.replica.status_page import NEVER_FRESH_MS, State, StatusPage, StatusView
from tests.replica.node import Node, running
from tests.replica.scripted import Listener, ScriptedRedis

REBUILT = "the Replica is rebuilt from Redis"


@pytest.fixture
def redis() -> ScriptedRedis:
    redis = ScriptedRedis()
    redis.write(0, "app-set", app="app")
    for i in range(500):
        redis.write(1, "ban-imposed", b"bad%d" % i, until_ms=FOREVER_MS)
    return redis


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "replica"


@pytest.fixture
async def node(directory: Path, redis: ScriptedRedis) -> AsyncIterator[Node]:
    """Cut off, with nothing of this process reading the file: to read what is cut short would end it."""
    async with running(directory, redis, Listener(redis)) as node:
        await node.until_ready()
        redis.is_away = True
        await node.until(lambda: shown(directory).state is State.CUT_OFF, "it to be cut off")
        yield node


def shown(directory: Path) -> StatusView:
    status_page = StatusPage(directory / BOARD_FILE)
    view = status_page.view(monotonic_ms())
    status_page.close()
    return view


async def test_a_file_that_is_cut_short_is_left_and_said_once(
    node: Node, directory: Path, redis: ScriptedRedis
) -> None:
    os.truncate(current_facts(directory), 3 * 4_096)
    await node.until(lambda: shown(directory).damages, "the damage to be found")
    view = shown(directory)
    assert (view.state, view.ready, view.stale_ms) == (State.LOADING, False, NEVER_FRESH_MS)
    assert view.why_not_ready == "damaged, and loaded again"
    with pytest.raises(ReplicaMissing):
        Reading(directory)
    await asyncio.sleep(2 * upkeep.CHECK_PLACE_EVERY_MS / 1_000)  # it has time to say so again
    assert [line["event"] for line in node.logged].count(REBUILT) == 1
    redis.is_away = False
    await node.until(lambda: shown(directory).state is State.CURRENT, "it to be current")
    assert shown(directory).generation == 2
    assert node.word(b"bad1", b"b") == "sender-banned"


@pytest.mark.slow
async def test_flipped_bits_are_found(node: Node, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MIN_SCRUB_PAUSE_MS", 100)
    facts = current_facts(directory)
    with facts.open("r+b") as file:
        at = facts.read_bytes().index(b"bad77")
        file.seek(at)
        file.write(b"bae77")
    await node.until(lambda: shown(directory).damages, "the damage to be found")
    assert not (directory / CURRENT_FILE).exists()


async def test_a_sound_file_is_not_left_on_the_word_of_a_reader(node: Node, directory: Path) -> None:
    """There is no other one to be had."""
    report_damage(current_facts(directory), "a reader of another version says so")
    await node.until(lambda: not (directory / DAMAGED_FILE).exists(), "the report to be looked into")
    view = shown(directory)
    assert (view.state, view.damages) == (State.CUT_OFF, 0)
    assert node.word(b"bad1", b"b") == "sender-banned"


async def test_a_status_page_that_was_taken_away_is_laid_out_again(node: Node, directory: Path) -> None:
    (directory / BOARD_FILE).unlink()
    await node.until((directory / BOARD_FILE).exists, "the board")
    assert shown(directory).state is State.CUT_OFF


async def test_damage_is_found_while_a_snapshot_loads(
    directory: Path, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHECK_PLACE_EVERY_MS", 0)
    async with running(directory, redis, Listener(redis)) as node:
        await node.until_ready()
        facts = current_facts(directory)
        found: list[int] = []

        def truncate_once(step: int) -> None:
            if facts.exists() and facts.stat().st_size > 3 * 4_096:
                os.truncate(facts, 3 * 4_096)
            found.append(shown(directory).damages)

        redis.during_snapshot = truncate_once
        request_rebuild(directory)
        await node.until(lambda: shown(directory).generation == 2, "the new file")
        assert 1 in found
        await node.until(lambda: shown(directory).state is State.CURRENT, "it to be current")
        assert redis.snapshots == 2, "it goes on to load the same one"


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_stamp_survives_a_restart_only_with_its_file(
    directory: Path, redis: ScriptedRedis, is_replaced: bool
) -> None:
    """As after kill -9 of the replicator: an older copy was moved over the file before the next one started."""
    async with running(directory, redis, Listener(redis)) as node:
        await node.until_ready()
    facts = current_facts(directory)
    if is_replaced:
        shutil.copy(facts, directory.parent / "copy")
        (directory.parent / "copy").replace(facts)
    status_page = StatusPage(directory / BOARD_FILE, write=True)
    stamped_at_ms = monotonic_ms() + 60_000
    status_page.stamp(stamped_at_ms)
    status_page.close()
    redis.is_away = True
    async with running(directory, redis, Listener(redis)) as node:
        await node.until(node.replicator.opened.is_set, "it to open the file")
        reader = StatusPage(directory / BOARD_FILE)
        assert reader.stale_ms(stamped_at_ms) == (NEVER_FRESH_MS if is_replaced else 0)
        reader.close()


async def test_what_was_loaded_is_fresh_once_redis_has_named_its_heads(directory: Path, redis: ScriptedRedis) -> None:
    """The stamp before it was of other facts."""
    async with running(directory, redis, Listener(redis)) as node:
        await node.until_ready()
        answers = asyncio.Event()
        heads = redis.heads

        async def later() -> list[Position]:
            if shown(directory).generation == 2:
                await answers.wait()
            return await heads()

        redis.heads = later  # type: ignore[method-assign]
        request_rebuild(directory)
        await node.until(lambda: shown(directory).generation == 2, "the new file")
        assert shown(directory).stale_ms > 0
        answers.set()
        await node.until(lambda: shown(directory).stale_ms == 0, "it to be fresh")
