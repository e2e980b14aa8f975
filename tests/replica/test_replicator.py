"""The replicator with a scripted Redis: each way in which a Changelog can break, and the facts served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gate.core.changes import Change
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.errors import ReplicaMissing
from gate.replica import writer as writer_module
from gate.replica.files import request_rebuild
from gate.replica.layout import current_facts
from gate.replica.reading import Reading
from gate.replica.status_page import FRESH_GRACE_MS, State
from gate.replica.writer import FactsFile
from tests.replica.model import facts_in
from tests.replica.node import Node, running
from tests.replica.scripted import Listener, ScriptedRedis


@pytest.fixture
def redis() -> ScriptedRedis:
    redis = ScriptedRedis()
    redis.write(0, "app-set", app="app")
    redis.write(1, "ban-imposed", b"bad", until_ms=FOREVER_MS)
    return redis


@pytest.fixture
def listener(redis: ScriptedRedis) -> Listener:
    return Listener(redis)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "replica"


@pytest.fixture
async def node(directory: Path, redis: ScriptedRedis, listener: Listener) -> AsyncIterator[Node]:
    async with running(directory, redis, listener) as node:
        await node.until_ready()
        yield node


class TestFollowing:
    async def test_a_write_becomes_effective_and_is_announced(
        self, node: Node, redis: ScriptedRedis, listener: Listener
    ) -> None:
        assert node.word(b"a", b"b") == "allowed"
        redis.write(1, "blocked", b"b", [b"a"], until_ms=FOREVER_MS)
        await node.until_word(b"a", b"b", "blacklisted")
        head = (await redis.heads())[1]
        await node.until(lambda: {1: head} in listener.said, "the announcement")

    async def test_nothing_is_announced_before_it_is_committed(
        self, node: Node, redis: ScriptedRedis, listener: Listener
    ) -> None:
        early: list[object] = []
        reader = node.reader

        async def announce(applied: Mapping[int, Position], server_id: str) -> None:
            with reader as snapshot:
                records = {partition: snapshot.position(partition) for partition in applied}
            committed = {partition: record.position for partition, record in records.items() if record is not None}
            early.extend(p for p, position in applied.items() if committed[p] < position)
            listener.said.append(dict(applied))

        listener.announce = announce  # type: ignore[method-assign]
        for i in range(200):
            redis.write(i % 2, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
            if i % 7 == 0:
                await asyncio.sleep(0)
        await node.until_word(b"u199", b"b", "sender-banned")
        await node.until(lambda: any(1 in said for said in listener.said), "an announcement")
        assert early == []

    async def test_announcements_of_a_partition_never_go_back(
        self, node: Node, redis: ScriptedRedis, listener: Listener
    ) -> None:
        for i in range(300):
            redis.write(1, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
            if i % 5 == 0:
                await asyncio.sleep(0.001)
        head = (await redis.heads())[1]
        await node.until(lambda: any(said.get(1) == head for said in listener.said), "the last announcement")
        seqs = [said[1].seq for said in listener.said if 1 in said]
        assert seqs == sorted(seqs)

    async def test_much_at_once_is_caught_up(self, node: Node, redis: ScriptedRedis) -> None:
        for i in range(3_000):
            redis.write(
                i % 2, "blocked", b"u%d" % (i % 50), [b"m%d" % j for j in range(i, i + 20)], until_ms=FOREVER_MS
            )
        await node.until_word(b"m3018", b"u49", "blacklisted")
        await node.until(lambda: node.status_page.applied == 3_000, "all of them to be counted")
        assert node.status_page.lag == 0

    async def test_heads_that_nothing_leads_to_are_sought_over_new_connections(
        self, node: Node, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where the reading connection stayed on another server: no error shows it."""

        is_reading = asyncio.Event()

        async def nothing(*_: object) -> dict[int, list[Change]]:
            is_reading.set()
            await asyncio.sleep(0.05)
            if "reconnect" in redis.calls:
                monkeypatch.undo()
            return {}

        monkeypatch.setattr(redis, "read", nothing)
        await is_reading.wait()
        redis.write(0, "ban-imposed", b"late", until_ms=FOREVER_MS)
        await node.until(lambda: node.status_page.stale_ms > 0, "the facts to be stale")
        assert node.status_page.state is not State.CURRENT
        await node.until_word(b"late", b"b", "sender-banned")
        assert redis.calls.count("reconnect") == 1
        assert sum("were not reached" in str(line.get("problem")) for line in node.logged) == 1

    async def test_it_stays_fresh_while_nothing_happens(self, node: Node) -> None:
        began = asyncio.get_running_loop().time()
        await node.until(
            lambda: (
                asyncio.get_running_loop().time() - began > FRESH_GRACE_MS * 1.3 / 1_000 or node.status_page.stale_ms
            ),
            "longer than the grace",
        )
        assert node.status_page.stale_ms == 0

    async def test_it_stays_fresh_while_there_is_always_more(self, node: Node, redis: ScriptedRedis) -> None:
        """Freshness is measured against the heads of a moment, so a stream without pauses does not look stale."""
        loop = asyncio.get_running_loop()
        until = loop.time() + FRESH_GRACE_MS * 1.3 / 1_000
        stale: list[int] = []
        i = 0
        while loop.time() < until:
            for _ in range(5):
                redis.write(i % 2, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
                i += 1
            await asyncio.sleep(0)
            stale.append(node.status_page.stale_ms)
        assert max(stale) == 0


class TestStarting:
    async def test_the_lease_is_taken_before_heads_are_read(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
        calls = redis.calls
        assert calls.index("renew") < calls.index("prepare") < calls.index("heads")

    async def test_what_was_there_is_followed_on_without_a_snapshot(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
        assert listener.has_left
        redis.write(1, "ban-lifted", b"bad")
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            assert node.word(b"bad", b"b") == "allowed"
        assert redis.snapshots == 1

    async def test_redis_away_at_start_the_old_facts_are_served(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
        redis.is_away = True
        async with running(directory, redis, listener) as node:
            await node.until_state(State.CUT_OFF)
            assert node.word(b"bad", b"b") == "sender-banned"
            assert not node.status_page.ready
            await node.until(lambda: node.status_page.stale_ms > 0, "staleness to show")
            redis.is_away = False
            await node.until_ready()
        assert redis.snapshots == 1

    async def test_redis_away_at_the_very_first_start(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        redis.is_away = True
        shown: list[str] = []  # the role logs it: it knows what else is waited for
        async with running(directory, redis, listener, show_problem=shown.append) as node:
            await node.until(lambda: shown, "the problem to be shown")
            assert "away, as the test says" in shown[-1]
            with pytest.raises(ReplicaMissing):
                Reading(directory)
            redis.is_away = False
            await node.until_ready()
            assert shown[-1] == ""
            assert node.word(b"bad", b"b") == "sender-banned"

    async def test_an_emptied_redis_is_prepared_before_it_is_read(
        self, directory: Path, listener: Listener, redis: ScriptedRedis
    ) -> None:
        redis.restart_empty()
        order: list[str] = []

        async def first_app() -> None:
            order.append("before-snapshot")
            redis.write(0, "app-set", app="app")

        async with running(directory, redis, listener, before_snapshot=first_app) as node:
            await node.until_ready()
            assert node.settings() is not None
        assert order == ["before-snapshot"]

    async def test_stopping_says_so(self, directory: Path, redis: ScriptedRedis, listener: Listener) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            await node.stop()
        reader = Reading(directory)
        assert reader.view().state is State.STOPPED
        reader.close()
        assert listener.has_left

    async def test_stopping_while_loading_leaves_nothing_half_done(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        for i in range(50):
            redis.write(1, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
        node = Node(directory, redis, listener)
        redis.during_snapshot = lambda step: node.replicator.stop() if step == 10 else None
        await node.start()
        await node.stop()
        assert {path.name for path in directory.iterdir()} == {"board"}


class TestMistrust:
    """A file found at start that can't be served: one log line, a fresh snapshot."""

    @pytest.fixture
    async def left(self, directory: Path, redis: ScriptedRedis, listener: Listener) -> Path:
        """The facts file of a node that ran and was stopped."""
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            for i in range(2_000):
                redis.write(1, "ban-imposed", b"u%d" % i, until_ms=FOREVER_MS)
            await node.until_word(b"u1999", b"b", "sender-banned")
        return current_facts(directory)

    async def rebuilt(self, directory: Path, redis: ScriptedRedis, listener: Listener) -> list[str]:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            assert node.word(b"bad", b"b") == "sender-banned"
            assert node.word(b"u1999", b"b") == "sender-banned"
            lines = [line for line in node.logged if "rebuilt" in line["event"]]
        return [line["problem"] for line in lines]

    async def test_a_sound_file_is_used(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        assert await self.rebuilt(directory, redis, listener) == []

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
    async def test_cut_short(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener, share: float
    ) -> None:
        with left.open("r+b") as file:
            file.truncate(int(left.stat().st_size * share))
        assert len(await self.rebuilt(directory, redis, listener)) == 1

    @pytest.mark.parametrize("seed", range(4))
    async def test_overwritten(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener, seed: int
    ) -> None:
        size = left.stat().st_size
        noise = bytes((i * 2654435761 + seed * 97) >> 7 & 0xFF for i in range(size))
        left.write_bytes(noise)
        assert len(await self.rebuilt(directory, redis, listener)) == 1

    async def test_pages_overwritten_behind_sound_ones(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        with left.open("r+b") as file:
            file.seek(8_192)
            file.write(b"\xa5" * (left.stat().st_size - 8_192))
        assert len(await self.rebuilt(directory, redis, listener)) == 1

    async def test_after_a_power_cut(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        FactsFile.open(left).close()  # as a process that was killed leaves it
        monkeypatch.setattr(writer_module, "boot_id", lambda: b"another boot")
        problems = await self.rebuilt(directory, redis, listener)
        assert len(problems) == 1
        assert "torn" in problems[0]

    async def test_a_current_that_names_nonsense(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        (directory / "current").write_text("/etc/passwd\n")
        assert len(await self.rebuilt(directory, redis, listener)) == 1

    async def test_leftovers_of_a_load_that_was_killed_are_cleared_away(
        self, left: Path, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        (directory / "facts-7.loading" / "lists").mkdir(parents=True)
        FactsFile.create(directory / "facts-7.mdb", 2).close()
        assert await self.rebuilt(directory, redis, listener) == []
        assert {path.name for path in directory.glob("facts-*")} == {left.name, f"{left.name}-lock"}

    async def test_another_number_of_partitions_is_loaded_again_and_served_meanwhile(
        self, left: Path, directory: Path, listener: Listener
    ) -> None:
        other = ScriptedRedis(3)
        other.write(0, "app-set", app="app")
        async with running(directory, other, Listener(other)) as node:
            await node.until_ready()
            with node.reader as snapshot:
                assert snapshot.partitions == 3
            assert node.reasons() == ["partitions"]


class TestRebuild:
    async def test_asked_for_while_running(self, node: Node, directory: Path, redis: ScriptedRedis) -> None:
        request_rebuild(directory)
        await node.until_reloaded(2)
        assert node.reasons() == ["missing", "asked"]
        await node.until(lambda: not (directory / "rebuild").exists(), "the request to be cleared")
        assert redis.snapshots == 2

    async def test_requested_while_no_replicator_runs(
        self, directory: Path, redis: ScriptedRedis, listener: Listener
    ) -> None:
        async with running(directory, redis, listener) as node:
            await node.until_ready()
        request_rebuild(directory)
        async with running(directory, redis, listener) as node:
            await node.until_ready()
            assert node.reasons() == ["asked"]

    async def test_a_rebuilt_replica_equals_redis(self, node: Node, directory: Path, redis: ScriptedRedis) -> None:
        redis.write(0, "admitted", b"b", [b"c"], until_ms=9)
        request_rebuild(directory)
        await node.until_reloaded(2)
        await node.stop()
        file = FactsFile.open(current_facts(directory))
        assert facts_in(file) == redis.model.facts()
        file.close()
