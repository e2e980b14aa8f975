"""The replicator on a real server with the real store: the rows of the failure table that concern it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from gate.core.revision import partition_of
from gate.errors import StoreUnavailable
from gate.replica.layout import current_facts
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from gate.replica.status_page import FRESH_GRACE_MS, State
from gate.replica.verify import verify
from gate.replica.writer import FactsFile
from gate.store.acks import Acknowledger
from gate.store.keys import log as log_key
from gate.store.store import Store
from harness.cable import Cable
from harness.registry import settle
from harness.servers import RedisServer
from harness.waiting import wait_until, wait_until_async
from tests.replica.node import APP, Node, reached, running

ODD = (b"\x00", b"\r\n", b"a b", b"a:b", b"%s{0}", "😀".encode(), b"\xff\xfe", b"x" * 64)


async def ban(store: Store, *users: bytes) -> None:
    await store.bans.impose(APP, list(users), FOREVER_MS, 1)


async def until_writable(store: Store) -> None:
    """The writer's own connection noticed the restart too."""

    async def answers() -> bool:
        try:
            await store.ping()
        except StoreUnavailable:
            return False
        return True

    await wait_until_async(answers, 10, "the server to come back")


@pytest.fixture
async def acks(store: Store, redis_node: Node) -> AsyncIterator[Acknowledger]:
    await settle(store)
    acks = Acknowledger(store, "node-1")
    await acks.start()
    yield acks
    await acks.aclose()


class TestFollowing:
    async def test_acknowledged_means_effective(self, redis_node: Node, store: Store, acks: Acknowledger) -> None:
        """Flips: the first verdict after each acknowledgement must be the new one."""
        for i in range(300):
            write = store.lists.add if i % 2 == 0 else store.lists.remove
            rest = (FOREVER_MS, 1, 10) if i % 2 == 0 else (1,)
            written = await write(APP, ListKind.BLACKLIST, b"b", [b"a"], *rest)
            assert await acks.wait(written) == "all"
            assert redis_node.word(b"a", b"b") == ("blacklisted" if i % 2 == 0 else "allowed")

    async def test_a_write_reaches_another_node(
        self, tmp_path: Path, redis_node: Node, followed: Store, store: Store
    ) -> None:
        """On a node that did not make it; how soon is a figure of `make bench`."""
        async with running(tmp_path / "second", followed.changelog, followed.announcer("node-2")) as second:
            await redis_node.stop()
            await second.until_ready()
            written = await store.bans.impose(APP, [b"u"], FOREVER_MS, 1)
            await wait_until_async(
                lambda: reached(second.reader, written.revisions), 5, "the write to reach the other node"
            )
            assert second.word(b"u", b"b") == "sender-banned"

    async def test_ids_of_every_kind(self, redis_node: Node, store: Store, followed: Store) -> None:
        for owner in ODD:
            await store.lists.add(APP, ListKind.BLACKLIST, owner, list(ODD), FOREVER_MS, 1, 100)
            await store.lists.add(APP, ListKind.WHITELIST, owner, list(ODD[:3]), 1 << 50, 1, 100)
        await ban(store, *ODD)
        await store.bans.lift(APP, list(ODD), 1)
        for owner in ODD:
            for member in ODD:
                await redis_node.until_word(member, owner, "blacklisted")
        assert redis_node.word(b"a", b"b") == "allowed"
        report = await verify(redis_node.directory, followed.changelog)
        assert report.equal, report
        assert report.facts == 1 + len(ODD) * (1 + len(ODD) + 3)

    async def test_a_snapshot_of_the_same_facts_equals_what_was_followed(
        self, redis_node: Node, store: Store, followed: Store
    ) -> None:
        async with store.bulk(APP, 1) as bulk:
            for i in range(400):
                members = [b"m%d" % j for j in range(i % 40)]
                if members:
                    await bulk.add(ListKind(i % 2), b"o%d" % i, members, FOREVER_MS if i % 3 else 1 << 50)
                await bulk.ban(b"u%d" % i, FOREVER_MS)
                await bulk.switch(b"o%d" % i, on=i % 2 == 0)
            await bulk.flush()
        await redis_node.until(lambda: redis_node.status_page.lag == 0, "all of it")
        report = await verify(redis_node.directory, followed.changelog)
        assert report.equal, report


class TestFilesTakenAway:
    @pytest.mark.parametrize("what", ["facts", "current", "current is garbage", "another file in its place"])
    async def test_a_file_that_disappears_under_a_running_node_is_made_again(
        self, redis_node: Node, store: Store, what: str
    ) -> None:
        await ban(store, b"u")
        await wait_until_async(lambda: redis_node.word(b"u", b"b") == "sender-banned", 5, "the Ban")
        current, facts = redis_node.directory / "current", current_facts(redis_node.directory)
        if what == "facts":
            facts.unlink()
        elif what == "current":
            current.unlink()
        elif what == "current is garbage":
            current.write_bytes(b"\xff")
        else:
            facts.rename(facts.with_suffix(".moved"))
            facts.write_bytes(b"no facts")
        assert redis_node.word(b"u", b"b") == "sender-banned"  # as before, while the new one is loaded

        await wait_until_async(lambda: redis_node.status_page.reloads == 1, 10, "a fresh snapshot")
        assert current_facts(redis_node.directory).exists()
        redis_node.reader.close()
        fresh = Reading(redis_node.directory)
        with fresh as snapshot:
            assert app_of(snapshot, APP).decide(b"u", b"b", wall_ms()).word == "sender-banned"
        fresh.close()


class TestRedisAway:
    @pytest.mark.parametrize("how", ["cut", "freeze"])
    async def test_a_cable_that_is_cut_or_black(self, redis_node: Node, store: Store, cable: Cable, how: str) -> None:
        await ban(store, b"bad")
        await redis_node.until_word(b"bad", b"b", "sender-banned")
        with cable.cut_off() if how == "cut" else cable.frozen():
            await redis_node.until_state(State.CUT_OFF)
            await ban(store, b"later")
            await redis_node.until(lambda: redis_node.status_page.stale_ms > FRESH_GRACE_MS, "staleness to show")
            assert redis_node.word(b"bad", b"b") == "sender-banned"
            assert redis_node.word(b"later", b"b") == "allowed"
        await redis_node.until_word(b"later", b"b", "sender-banned")
        await redis_node.until_state(State.CURRENT)
        assert redis_node.status_page.reloads == 0

    async def test_a_server_that_hangs(self, redis_node: Node, private_redis: RedisServer) -> None:
        with private_redis.paused():
            await redis_node.until_state(State.CUT_OFF)
            assert redis_node.word(b"a", b"b") == "allowed"
        await redis_node.until_state(State.CURRENT)

    async def test_a_server_that_is_restarted_with_its_facts(
        self, redis_node: Node, store: Store, private_redis: RedisServer
    ) -> None:
        await ban(store, b"bad")
        private_redis.restart()
        await until_writable(store)
        await ban(store, b"later")
        await redis_node.until_word(b"later", b"b", "sender-banned")
        assert redis_node.status_page.reloads == 0


class TestRedisWentBack:
    async def test_restarted_empty(
        self, redis_node: Node, store: Store, private_redis: RedisServer, followed: Store
    ) -> None:
        await ban(store, b"bad")
        await redis_node.until_word(b"bad", b"b", "sender-banned")
        private_redis.restart_empty()
        await redis_node.until_reloaded(2)
        assert redis_node.word(b"bad", b"b") == "allowed"
        await until_writable(store)
        await ban(store, b"new")
        await redis_node.until_word(b"new", b"b", "sender-banned")
        assert (await verify(redis_node.directory, followed.changelog)).equal

    async def test_emptied_behind_an_open_connection(
        self, redis_node: Node, store: Store, private_redis: RedisServer
    ) -> None:
        await ban(store, b"bad")
        await redis_node.until_word(b"bad", b"b", "sender-banned")
        private_redis.client.flushall()
        await redis_node.until_reloaded(2)
        assert redis_node.word(b"bad", b"b") == "allowed"

    @pytest.mark.parametrize("writes_after", [0, 1, 3, 8])
    async def test_restored_from_an_older_file(
        self,
        redis_node: Node,
        store: Store,
        private_redis: RedisServer,
        tmp_path: Path,
        cable: Cable,
        writes_after: int,
    ) -> None:
        """Also when new writes have passed our Position by the time we see it again."""
        await ban(store, b"kept")
        private_redis.save_copy(tmp_path / "older.rdb")
        for _ in range(3):
            await ban(store, b"lost")
            await store.bans.lift(APP, [b"kept"], 1)
        await redis_node.until_word(b"lost", b"b", "sender-banned")
        await redis_node.until_word(b"kept", b"b", "allowed")
        with cable.cut_off():
            private_redis.restart_from(tmp_path / "older.rdb")
            await until_writable(store)
            for _ in range(writes_after):
                await ban(store, b"new")
                await store.mutes.impose(APP, [b"lost"], 5, 1)
                await store.mutes.impose(APP, [b"kept"], 5, 1)
        await redis_node.until_reloaded(2)
        assert redis_node.word(b"lost", b"b") == "allowed"
        assert redis_node.word(b"kept", b"b") == "sender-banned"
        assert redis_node.word(b"new", b"b") == ("sender-banned" if writes_after else "allowed")

    async def test_trimmed_past_our_position(
        self, redis_node: Node, store: Store, private_redis: RedisServer, cable: Cable, followed: Store
    ) -> None:
        with cable.cut_off():
            for _ in range(10):
                await ban(store, b"bad")
            partition = partition_of(APP, b"bad", store.partitions)
            private_redis.client.xtrim(log_key(partition), maxlen=3, approximate=False)
        await redis_node.until_reloaded(2)
        assert redis_node.word(b"bad", b"b") == "sender-banned"
        assert redis_node.reasons()[-1] == "trimmed"
        assert (await verify(redis_node.directory, followed.changelog)).equal


class TestVerify:
    async def test_it_finds_what_differs(self, redis_node: Node, store: Store, followed: Store) -> None:
        await store.lists.add(APP, ListKind.BLACKLIST, b"o", [b"x", b"y"], FOREVER_MS, 1, 100)
        await ban(store, b"bad")
        await redis_node.until(lambda: redis_node.word(b"bad", b"o") == "sender-banned", "the writes")
        await redis_node.stop()
        file = FactsFile.open(current_facts(redis_node.directory))
        with file.write() as txn:
            number = txn.number_of(APP)
            assert number is not None
            txn.remove_entries(number, ListKind.BLACKLIST, b"o", [b"x"])
            txn.add_entries(number, ListKind.WHITELIST, b"o", [b"z"], 77)
        file.close()
        report = await verify(redis_node.directory, followed.changelog)
        assert not report.equal
        assert report.differences == 3
        assert {(d.fact, d.in_replica, d.in_redis) for d in report.first[1:]} == {
            ("blacklist of o: x", "", "without end"),
            ("whitelist of o: z", "until 77", ""),
        }

    async def test_it_compares_the_same_moment_while_writes_go_on(
        self, redis_node: Node, store: Store, cable: Cable
    ) -> None:
        async def keep_writing() -> None:
            for i in range(10_000):
                await ban(store, b"u%d" % i)

        writing = asyncio.create_task(keep_writing())
        for _ in range(3):
            second = await Store.connect(cable.url)
            report = await verify(redis_node.directory, second.changelog)
            await second.aclose()
            assert report.equal, report
        writing.cancel()

    async def test_a_replica_of_another_history(
        self, redis_node: Node, store: Store, private_redis: RedisServer, followed: Store
    ) -> None:
        await redis_node.stop()
        private_redis.client.flushall()
        await followed.changelog.prepare()
        report = await verify(redis_node.directory, followed.changelog)
        assert not report.equal
        assert "epoch" in report.problem


REPLICATE = """
import asyncio, sys
from pathlib import Path
from gate.replica.ports import Upstream
from gate.replica.replicator import Replicator
from gate.store.store import Store

async def main():
    store = await Store.connect(sys.argv[2])
    await Replicator(Path(sys.argv[1]), Upstream(store.changelog, store.announcer("killed"))).run()

asyncio.run(main())
"""


class TestKilled:
    async def test_kill_9_in_full_flight_then_catch_up(
        self, tmp_path: Path, store: Store, private_redis: RedisServer
    ) -> None:
        """Killed at any moment, it leaves a sound file, which is followed and becomes equal to Redis."""
        directory = tmp_path / "replica"
        for round_ in range(4):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", REPLICATE, str(directory), private_redis.url, cwd=os.getcwd()
            )
            try:
                await asyncio.to_thread(wait_until, (directory / "current").exists, 20, "the first snapshot")
                for i in range(150):
                    await store.lists.add(
                        APP,
                        ListKind.BLACKLIST,
                        b"o%d" % i,
                        [b"%d-%d" % (round_, j) for j in range(50)],
                        FOREVER_MS,
                        1,
                        1_000,
                    )
            finally:
                child.send_signal(signal.SIGKILL)
                await child.wait()
        async with running(directory, store.changelog, store.announcer("node-1")) as node:
            await node.until_ready()
            assert node.reasons() == []
            report = await verify(directory, (second := await Store.connect(private_redis.url)).changelog)
            await second.aclose()
            assert report.equal, report
            assert report.facts > 150 * 200
