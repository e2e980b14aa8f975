"""Two nodes on one Redis that loses data or moves: after a write was answered `all`, no node returns the old verdict as fresh.

The second node is paused at the worst moment: its last stamp is new, its lease is not renewed, and it receives nothing.
Meanwhile the first one continues, and writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.clock import monotonic_ms
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.errors import ReplicaFull, StoreUnavailable
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import NEVER_FRESH_MS, StatusPage
from gate.store import keys
from gate.store.acks import Acknowledger, Applied
from gate.store.store import Store
from harness.cable import Cable
from harness.ports import LOOPBACK
from harness.registry import settle
from harness.servers import RedisServer
from harness.waiting import wait_until, wait_until_async
from tests.replica.node import APP, Node, running

BACK_TIMEOUT_S = 15.0


class Pair:
    """Both nodes and a writer, which all reach Redis through one cable; the second node can be paused."""

    def __init__(self, cable: Cable, server: RedisServer, writer: Store, second: Store) -> None:
        self.cable, self.server, self.writer = cable, server, writer
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.is_paused = asyncio.Event()
        self.acks = Acknowledger(writer, "node-1")
        self.second: Node
        self._bans = 0
        self.answers: list[Applied] = []
        self.source, self.announcer = second.changelog, second.announcer("node-2")
        for at, name in ((self.source, "read"), (self.announcer, "renew"), (self.announcer, "announce")):
            setattr(at, name, self._pausing(getattr(at, name)))

    def _pausing(self, act: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*args: Any, **options: Any) -> Any:
            if not self.going_on.is_set():
                self.is_paused.set()
                await self.going_on.wait()
            return await act(*args, **options)

        return held

    async def pause_second(self) -> None:
        """Returns right after its last stamp."""
        self.going_on.clear()
        await self.is_paused.wait()

    async def forget_what_was_heard(self) -> None:
        """From now on, writes are as those of a process that just started, which knows what Redis says and no more."""
        await self.acks.aclose()
        self.acks = Acknowledger(self.writer, "node-1")
        await self.acks.start()

    async def ban(self) -> bytes:
        """One more User is banned; a server that is away costs an attempt. Judges what the second node says to an `all`."""
        self._bans += 1
        user = b"user %d" % self._bans
        try:
            written = await self.writer.bans.impose(APP, [user], FOREVER_MS, 1)
        except StoreUnavailable:
            await asyncio.sleep(0.01)
            return user
        applied = await self.acks.wait(written, 300)
        self.answers.append(applied)
        if applied == "all":
            is_fresh, word = self.second.status_page.stale_ms == 0, self.second.word(user, b"anyone")
            assert not (is_fresh and word == "allowed"), f"{user!r} was banned on all nodes: {self.answers}"
        return user

    async def bans_until(self, condition: Callable[[], bool], what: str) -> None:
        async def banned() -> bool:
            await self.ban()
            return condition()

        await wait_until_async(banned, BACK_TIMEOUT_S, what)


@pytest.fixture
async def writer(cable: Cable, store: Store) -> AsyncIterator[Store]:
    opened = await Store.connect(cable.url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def pair(
    private_redis: RedisServer, cable: Cable, store: Store, writer: Store, redis_node: Node, tmp_path: Path
) -> AsyncIterator[Pair]:
    followed = await Store.connect(cable.url)
    pair = Pair(cable, private_redis, writer, followed)
    await settle(store)
    await pair.acks.start()
    async with running(tmp_path / "second", pair.source, pair.announcer) as pair.second:
        await pair.second.until_ready()
        await pair.bans_until(lambda: pair.answers[-1:] == ["all"], "a write to be in force on both")
        yield pair
        pair.going_on.set()
    await pair.acks.aclose()
    await followed.aclose()


@pytest.fixture
def successor(private_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A replica of the server that both nodes follow, in step with it."""
    server = RedisServer.start(private_redis.flavor, tmp_path / "successor")
    server.client.replicaof(LOOPBACK, private_redis.port)
    wait_until(lambda: server.client.info("replication")["master_link_status"] == "up", 10.0, "the first sync")
    try:
        yield server
    finally:
        server.stop()


def empty(pair: Pair) -> None:
    pair.server.client.flushall()


def lose_the_list(pair: Pair) -> None:
    pair.server.client.delete(keys.NODES)


def restart_empty(pair: Pair) -> None:
    pair.server.restart_empty()


def restart_older(pair: Pair) -> None:
    pair.server.save_copy(pair.second.directory.parent / "older.rdb")
    pair.server.restart_from(pair.second.directory.parent / "older.rdb")


@pytest.mark.parametrize("lose", [empty, lose_the_list, restart_empty, restart_older])
async def test_all_is_not_answered_while_a_forgotten_node_is_fresh(
    pair: Pair, lose: Callable[[Pair], None], redis_node: Node
) -> None:
    await pair.pause_second()
    await pair.forget_what_was_heard()
    await asyncio.to_thread(lose, pair)
    pair.answers.clear()
    await pair.bans_until(lambda: pair.second.status_page.stale_ms > 0, "the second node to be stale")
    assert "all" not in pair.answers
    await pair.bans_until(lambda: "node" in pair.answers, "a write to be in force on the first node")
    pair.going_on.set()
    await pair.bans_until(lambda: pair.answers[-1] == "all", "the list to be complete again")
    user = await pair.ban()
    await pair.second.until_word(user, b"anyone", "sender-banned")


@pytest.mark.parametrize("are_cut", ["none", "every second one"])
async def test_a_demoted_server_whose_address_moved_is_left(
    pair: Pair, successor: RedisServer, redis_node: Node, are_cut: str
) -> None:
    """Connections stay open, and the address leads to the successor: writes are accepted again, and both nodes follow."""
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(successor.client.replicaof, "NO", "ONE")
    await asyncio.to_thread(pair.server.client.replicaof, LOOPBACK, successor.port)
    await asyncio.to_thread(pair.cable.point_to, successor.port)
    if are_cut == "every second one":
        await asyncio.to_thread(pair.cable.cut_every, 2)
    moved_s = loop.time()
    pair.answers.clear()
    await pair.bans_until(lambda: bool(pair.answers), "a write to be accepted")
    assert loop.time() - moved_s < 2.0
    await pair.bans_until(lambda: pair.answers[-1] == "all", "the nodes to have moved")
    user = await pair.ban()
    for node in (redis_node, pair.second):
        await node.until_word(user, b"anyone", "sender-banned")


@pytest.mark.parametrize("nth", [2, 3])
async def test_an_old_server_that_lives_on_keeps_no_connection(
    pair: Pair, successor: RedisServer, redis_node: Node, nth: int
) -> None:
    """It was not demoted, and only some connections broke: the others would wait, and answer, forever."""
    await asyncio.to_thread(successor.client.replicaof, "NO", "ONE")
    await asyncio.to_thread(pair.cable.point_to, successor.port)
    await asyncio.to_thread(pair.cable.cut_every, nth)
    pair.answers.clear()
    await pair.bans_until(lambda: pair.answers[-1:] == ["all"], "all connections to have moved")
    wait_until(lambda: len(pair.server.client.client_list()) <= 2, BACK_TIMEOUT_S, "the old server to be left")
    user = await pair.ban()
    for node in (redis_node, pair.second):
        await node.until_word(user, b"anyone", "sender-banned")
        assert node.status_page.stale_ms == 0


async def test_a_paused_node_on_the_old_server_is_stale_before_all(pair: Pair, successor: RedisServer) -> None:
    """The old server lives on, and the paused node's connections to it: its lease there would hold for ever."""
    await pair.pause_second()
    await pair.forget_what_was_heard()
    await asyncio.to_thread(successor.client.replicaof, "NO", "ONE")
    await asyncio.to_thread(pair.cable.point_to, successor.port)
    pair.answers.clear()
    await pair.bans_until(lambda: pair.answers[-1:] == ["all"], "the list there to be settled")
    assert pair.second.status_page.stale_ms > 0


async def test_a_node_that_can_apply_nothing_holds_no_writer_up_for_long(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a full disk: it is stale, gives its lease up, and takes it again when there is room."""
    file = pair.second.replicator.file
    assert file is not None

    def no_room(*_: object) -> dict[int, Position]:
        raise ReplicaFull("no room")

    with monkeypatch.context() as full:
        full.setattr(file, "apply", no_room)
        pair.answers.clear()
        await pair.bans_until(lambda: pair.answers[-1:] == ["all"], "writers to go on without it")
        assert pair.second.status_page.stale_ms > 0
        assert any("the lease is given up" in line["event"] for line in pair.second.logged)
        for _ in range(5):
            user = await pair.ban()
            assert pair.answers[-1] == "all"
    await pair.second.until_word(user, b"anyone", "sender-banned")
    await pair.second.until(lambda: pair.second.status_page.stale_ms == 0, "it to be fresh again")
    assert "node-2" in await pair.writer.writer.live_nodes()


async def test_a_lost_announcement_is_asked_for_at_once(pair: Pair, redis_node: Node) -> None:
    """The writers' subscription breaks while a write waits; nothing else would be announced before the next renewal."""
    for _ in range(3):
        pair.going_on.clear()
        waiting = asyncio.ensure_future(pair.ban())
        await wait_until_async(lambda: pair.acks.waiting == 1, BACK_TIMEOUT_S, "the write to wait")
        link = pair.acks.subscription.link
        assert link is not None
        link.drop("cut")
        pair.going_on.set()
        await asyncio.wait_for(waiting, 1.0)
    assert pair.answers[-3:] == ["all"] * 3


async def test_a_node_that_stops_is_stale_before_its_lease_ends(pair: Pair) -> None:
    """A reader in another process goes on: it must not call old verdicts fresh once no writer waits for this node."""
    status_page = StatusPage(pair.second.directory / BOARD_FILE)
    stopping = asyncio.create_task(pair.second.stop())

    async def has_left() -> bool:
        return "node-2" not in await pair.writer.writer.live_nodes()

    await wait_until_async(has_left, BACK_TIMEOUT_S, "the lease to be given up")
    assert 0 < status_page.stale_ms(monotonic_ms()) < NEVER_FRESH_MS
    await stopping
    assert 0 < status_page.stale_ms(monotonic_ms()) < NEVER_FRESH_MS
    status_page.close()
