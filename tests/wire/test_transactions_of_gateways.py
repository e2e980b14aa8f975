"""Presence commands in a transaction, and the pipelines of redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gate.wire.listener import WireOptions, WireServer, serve_wire
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.replica.ledger import Ledger, app_facts
from tests.wire.conftest import SECRETS
from tests.wire.gateway import GatewayPeer, session_service_at, token_of

# Presence, and a client's pipeline


APP = app_facts(secrets=SECRETS)


@pytest.fixture
async def server(ledger: Ledger, redis_server: RedisServer) -> AsyncIterator[WireServer]:
    started = await serve_wire(WireOptions(ledger.directory, port=0))
    started.worker.session_service = service = session_service_at(
        f"redis://{LOOPBACK}:{redis_server.port}", 15_000, started.worker
    )
    yield started
    await started.drain(1)
    await service.aclose()
    await service.store.client.aclose()


async def _transaction(peer: GatewayPeer, *commands: tuple[str | int, ...]) -> Any:
    assert await peer.ask("MULTI") == b"OK"
    for words in commands:
        assert await peer.ask(*words) == b"QUEUED"
    return await peer.ask("EXEC")


async def test_presence_commands_are_carried_out_in_order(server: WireServer) -> None:
    peer = await GatewayPeer.to(server)
    leased, session, check, online, route, found, refused = await _transaction(
        peer,
        ("GATE.LEASE", "edge", 1),
        ("GATE.CONNECT", token_of(APP, b"ann"), "iOS", "edge"),
        ("GATE.CHECK", "bob", "alice"),
        ("GATE.ONLINE", "ann", "stranger"),
        ("GATE.ROUTE", "zoe", "ann"),
        ("GATE.SESSIONS", "ann"),
        ("GATE.DISCONNECT", "nosuch"),
    )
    assert leased > 0 and session.endswith(b".YW5u")
    assert (check, online) == (0, [1, 0])
    assert route == [b"allowed", [[b"iOS", b"edge", session]]]
    assert found[0][1] == session
    assert str(refused).startswith("ERR session: ")
    touched, closed, gone = await _transaction(
        peer, ("GATE.TOUCH", session.decode()), ("GATE.DISCONNECT", session.decode()), ("GATE.ONLINE", "ann")
    )
    assert (touched, closed, gone) == (1, 1, [0])
    peer.close()


async def test_more_connects_than_may_wait_are_all_answered(server: WireServer) -> None:
    peer = await GatewayPeer.to(server)
    await peer.ask("GATE.LEASE", "edge", 1)
    tokens = [token_of(APP, b"u%d" % nth) for nth in range(60)]
    peer.send("MULTI")
    for nth in range(1_500):
        peer.send("GATE.CONNECT", tokens[nth % 60], "iOS", "edge")
    peer.send("EXEC")
    assert [await peer.next() for _ in range(1_501)] == [b"OK"] + [b"QUEUED"] * 1_500
    sessions = await peer.next()
    assert len(set(sessions)) == 1_500
    peer.close()


async def test_the_verdict_of_a_route_is_of_the_same_commit(server: WireServer, ledger: Ledger) -> None:
    """The lease is answered by Redis; what stands behind it in the queue was decided together with the checks."""
    peer = await GatewayPeer.to(server)
    _, route, check = await _transaction(
        peer, ("GATE.LEASE", "edge", 1), ("GATE.ROUTE", "bob", "alice"), ("GATE.CHECK", "bob", "alice")
    )
    assert (route, check) == ([b"blacklisted", []], 0)
    peer.close()


async def test_a_session_of_a_peer_that_left_during_exec_is_closed(server: WireServer) -> None:
    peer, other = await GatewayPeer.to(server), await GatewayPeer.to(server)
    assert await _transaction(peer, ("GATE.LEASE", "edge", 1))
    peer.send("MULTI")
    peer.send("GATE.CONNECT", token_of(APP, b"ann"), "iOS", "edge")
    peer.send("EXEC")
    peer.close()
    await wait_until_async(lambda: server.worker.connections == 1, 5, "the peer to be gone")
    async with asyncio.timeout(5):
        while await other.ask("GATE.ONLINE", "ann") != [0]:
            pass
    assert server.worker.queued_bytes == 0
    other.close()


async def test_redis_py_pipelines_are_transactions(server: WireServer) -> None:
    """As written by default, without `transaction=False`."""
    import redis.asyncio

    client = redis.asyncio.Redis(host=LOOPBACK, port=server.port, username="app", password="secret")
    async with client.pipeline() as pipeline:
        for _ in range(300):
            pipeline.execute_command("GATE.CHECK", "bob", "alice")
            pipeline.execute_command("GATE.VERDICT", "alice", "bob")
        assert await pipeline.execute() == [0, b"allowed"] * 300
        pipeline.execute_command("NOSUCH")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            await pipeline.execute()
    assert await client.execute_command("GATE.CHECK", "bob", "alice") == 0
    await client.aclose()
