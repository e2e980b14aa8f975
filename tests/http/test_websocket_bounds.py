"""What a client of `/client/v1/connect` that means no good costs, past its own connection: nothing that lasts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gate.http.client import closing
from gate.http.client.messages import MAX_MESSAGE_BYTES
from gate.http.client.websocket import MAX_MESSAGES_A_SECOND
from gate.store import presence_keys as keys
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from harness.websocket import CONTINUED, TEXT, Socket, connect
from tests.http.test_client_blacklist import token_of
from tests.http.world import World, running_world

SOON_S = 10.0
_LONG_IDS = [f"a user with an id that is rather long, {number:020}" for number in range(1_000)]
LONG_QUESTION = b'{"type":"presence","users":["' + '","'.join(_LONG_IDS).encode() + b'"]}'


def is_held(client: Socket) -> bool:
    """Whether the server's process still has its end of the connection open, by what the kernel says."""
    (_, client_port), (_, server_port) = (client.writer.get_extra_info(name) for name in ("sockname", "peername"))
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = {(int(row[1][9:], 16), int(row[2][9:], 16)): row[9] for row in rows}
    return ends.get((server_port, client_port), "0") != "0"


@pytest.mark.parametrize("questions", [1, 40])  # what they are answered lies with the kernel; with us
async def test_one_that_reads_nothing_holds_its_connection_no_longer_than_it_may(
    world: World, monkeypatch: pytest.MonkeyPatch, questions: int
) -> None:
    monkeypatch.setattr(closing, "CLOSE_WITHIN_S", 0.2)
    slow = await connect(world.url, token_of(world.app, "slow"))
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(questions):
        slow.send(TEXT, LONG_QUESTION)
        await asyncio.sleep(1 / MAX_MESSAGES_A_SECOND)  # more is flooding, which is another matter
    assert is_held(slow)
    await world.v1("POST", "users/slow/kick", {})

    async def is_let_go() -> bool:
        return not is_held(slow)

    await wait_until_async(is_let_go, SOON_S, "the connection to be closed")
    slow.drop()


async def test_the_longest_message_is_answered_in_one_piece_or_in_two(world: World) -> None:
    ping = b'{"type":"ping"}'.ljust(MAX_MESSAGE_BYTES)
    client = await connect(world.url, token_of(world.app, "ann"))
    client.send(TEXT, ping)
    assert await client.next_message() == {"type": "pong"}
    client.send(TEXT, ping[:70_000], first=0)
    client.send(CONTINUED, ping[70_000:])
    assert await client.next_message() == {"type": "pong"}
    client.send(TEXT, ping[:70_000], first=0)
    client.send(CONTINUED, ping[70_000:] + b" ")
    assert (await client.closed()).code == 1009
    client.drop()


async def test_clients_come_and_go_on_a_feed_with_entries_of_another_version(world: World) -> None:
    """As after an update, or one that was taken back: the newest entry where the first client comes, and one meanwhile."""
    client, app_key = world.presence.client, world.app.key

    async def append_of_another_version() -> None:
        (seq,) = await client.read(("HINCRBY", keys.feed_meta(app_key), "seq", 1))
        await client.read(
            ("HSETNX", keys.feed_meta(app_key), "epoch", "1"),
            ("XADD", keys.feed(app_key), b"%d-0" % seq, "e", "online"),
        )

    await append_of_another_version()
    ann, bob = (
        await connect(world.url, token_of(world.app, "ann")),
        await connect(world.url, token_of(world.app, "bob")),
    )
    await append_of_another_version()
    await world.v1("POST", "users/ann/kick", {})
    assert (await ann.closed()).code in (4411, 4412)  # kicked; or lost, where the kick did not arrive in time
    assert await bob.ask("ping") == {"type": "pong"}
    bob.drop()


async def test_a_client_that_connects_during_a_drain_is_disconnected_too(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with running_world(redis_server.url, tmp_path / "replica") as node:
        redis_server.client.execute_command("CLIENT", "PAUSE", 400, "WRITE")
        connecting = asyncio.create_task(connect(node.url, token_of(node.app, "ann")))
        await wait_until_async(lambda: node.app.key in node.gateway.leased_apps, SOON_S, "the lease to be asked for")
        draining = asyncio.create_task(node.server.drain(SOON_S))
        ann = await connecting
        assert (ann.welcome["type"], ann.welcome.get("reason")) == ("closing", "shutting-down")
        ann.drop()
        await draining


async def test_a_client_that_leaves_while_redis_takes_no_writes_has_no_session(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """As in the middle of a failover, with a full disk or no memory left: Redis answers, and refuses."""

    def refusals() -> int:
        return int(redis_server.client.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"])

    async with running_world(redis_server.url, tmp_path / "replica") as node:
        clients = [await connect(node.url, token_of(node.app, f"user-{number}")) for number in range(30)]
        redis_server.client.replicaof("127.0.0.1", "1")
        await asyncio.gather(*(client.leave() for client in clients))
        await wait_until_async(lambda: refusals() >= 1, SOON_S, "what closes Sessions to be refused")
        redis_server.client.replicaof("NO", "ONE")

        async def are_closed() -> bool:
            return (await node.presence.counts(node.app.key)).total == 0

        await wait_until_async(are_closed, SOON_S, "Sessions without a connection to be closed")
