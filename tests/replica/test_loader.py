from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.errors import ChangelogBroken, ReplicaFull, StoreUnavailable
from gate.replica.loader import Spool, load_snapshot
from harness.seeds import examples
from tests.replica.model import FOREVER, facts_in
from tests.replica.ops import Op, ops
from tests.replica.scripted import ScriptedRedis


@pytest.fixture
def redis() -> ScriptedRedis:
    redis = ScriptedRedis()
    redis.write(0, "app-set", app="app")
    for i in range(20):
        redis.write(i % 2, "blocked", b"u%d" % i, [b"m", b"n"], until_ms=FOREVER)
    return redis


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "facts-7.mdb"


async def test_a_load_equals_redis(redis: ScriptedRedis, path: Path) -> None:
    file = await load_snapshot(redis, path)
    assert facts_in(file) == redis.model.facts()
    assert list(file.positions) == await redis.heads()
    file.close()


async def test_heads_are_read_before_the_scan(redis: ScriptedRedis, path: Path) -> None:
    (await load_snapshot(redis, path)).close()
    assert redis.calls.index("heads") < redis.calls.index("snapshot")


async def test_writes_meanwhile_are_caught_up(redis: ScriptedRedis, path: Path) -> None:
    def write(step: int) -> None:
        if step < 40:
            redis.write(step % 2, "ban-imposed", b"u%d" % step, until_ms=5)

    redis.during_snapshot = write
    file = await load_snapshot(redis, path)
    assert facts_in(file) == redis.model.facts()
    assert len(facts_in(file).users) > 20
    file.close()


async def test_the_log_may_be_trimmed_while_the_scan_runs(redis: ScriptedRedis, path: Path) -> None:
    """A snapshot of many minutes must not depend on how long Redis keeps its log."""

    def write_and_trim(step: int) -> None:
        for partition in range(2 if step < 60 else 0):
            change = redis.write(partition, "ban-imposed", b"x%d" % step, until_ms=5)
            redis.trim(partition, change.seq - 8)

    redis.during_snapshot = write_and_trim
    file = await load_snapshot(redis, path)
    assert facts_in(file) == redis.model.facts()
    file.close()


@pytest.mark.parametrize("step", [0, 7, 15])
async def test_a_history_that_breaks_meanwhile_leaves_no_file(redis: ScriptedRedis, path: Path, step: int) -> None:
    def empty(at: int) -> None:
        if at == step:
            redis.restart_empty()
            redis.write(0, "app-set", app="app")

    redis.during_snapshot = empty
    with pytest.raises(ChangelogBroken):
        await load_snapshot(redis, path)
    assert list(path.parent.iterdir()) == []


async def test_a_redis_that_goes_away_leaves_no_file(redis: ScriptedRedis, path: Path) -> None:
    def cut(step: int) -> None:
        redis.is_away = step == 5

    redis.during_snapshot = cut
    with pytest.raises(StoreUnavailable):
        await load_snapshot(redis, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
async def test_no_room_leaves_no_file(redis: ScriptedRedis, path: Path) -> None:
    for i in range(200):
        redis.write(0, "blocked", b"%064d" % i, [b"%064d" % j for j in range(20)], until_ms=FOREVER)
    with pytest.raises(ReplicaFull):
        await load_snapshot(redis, path, map_bytes=256 << 10)
    assert list(path.parent.iterdir()) == []


async def test_a_disk_without_room_is_not_even_begun_on(
    redis: ScriptedRedis, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gate.replica.files.MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(ReplicaFull, match="free"):
        await load_snapshot(redis, path)
    assert redis.calls == []


async def test_it_can_be_given_up_at_any_step(redis: ScriptedRedis, path: Path) -> None:
    class Enough(Exception):
        pass

    async def given_up_after(steps: int) -> bool:
        left = steps

        def tick() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Enough

        try:
            (await load_snapshot(redis, path, tick=tick)).close()
        except Enough:
            assert list(path.parent.iterdir()) == []
            return True
        return False

    steps = 0
    while await given_up_after(steps):
        steps += 1
    assert steps > 20


async def test_the_loop_is_left_free(redis: ScriptedRedis, path: Path) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    (await load_snapshot(redis, path)).close()
    running.cancel()
    assert turns > 20


class TestSpool:
    async def test_it_ends_quietly_when_redis_is_away(self, redis: ScriptedRedis) -> None:
        spool = Spool(redis, await redis.heads())
        redis.is_away = True
        await spool.fill()
        assert spool.drain() == []

    async def test_it_is_bounded(self, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gate.replica.loader.SPOOL_MAX_WEIGHT", 10)
        heads = await redis.heads()
        for _ in range(5_000):
            redis.write(0, "ban-lifted", b"u")
        spool = Spool(redis, heads)
        await spool.fill()
        assert [len(changes[0]) for changes in spool.drain()] == [1_000]


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(before=st.lists(ops, max_size=15), during=st.lists(st.tuples(st.integers(0, 12), ops), max_size=25))
def test_any_writes_at_any_moment_of_the_scan_converge(
    tmp_path_factory: pytest.TempPathFactory, before: list[Op], during: list[tuple[int, Op]]
) -> None:
    """The Replica's basic promise: a scan that sees some facts before and some after, then the Changelog."""
    redis = ScriptedRedis()
    removed: set[str] = set()

    def write(op: Op) -> None:
        if op.kind == "app-removed":
            removed.add(op.app)
        elif op.app in removed:
            return  # the store refuses facts of an App that is gone; created again it takes a fresh load (below)
        op.write_to(redis)

    for op in before:
        write(op)
    removed.clear()

    def meanwhile(step: int) -> None:
        for at, op in during:
            if at == step:
                write(op)

    redis.during_snapshot = meanwhile

    async def loaded() -> None:
        path = tmp_path_factory.mktemp("facts") / "facts-1.mdb"
        try:
            file = await load_snapshot(redis, path)
        except ChangelogBroken as fault:
            assert fault.reason == "recreated"
            redis.during_snapshot = lambda step: None
            file = await load_snapshot(redis, path)
        assert facts_in(file) == redis.model.facts()
        file.close()

    asyncio.run(loaded())
