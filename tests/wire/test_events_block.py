"""`GATE.EVENTS … BLOCK ms`: it waits for the next event, delays no other client, and ends with its peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gate.clock import monotonic_ms
from gate.wire import events
from gate.wire.listener import WireOptions, WireServer, serve_wire
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.replica.ledger import Ledger, app_facts
from tests.wire.conftest import SECRETS
from tests.wire.gateway import GatewayPeer, session_service_at, token_of

APP = app_facts(secrets=SECRETS)
LONG_MS = "50000"


@pytest.fixture
async def server(ledger: Ledger, redis_server: RedisServer) -> AsyncIterator[WireServer]:
    started = await serve_wire(WireOptions(ledger.directory, port=0))
    started.worker.session_service = service = session_service_at(
        f"redis://{LOOPBACK}:{redis_server.port}", 15_000, started.worker
    )
    yield started
    await started.drain(5)
    await service.aclose()
    await service.store.client.aclose()


@pytest.fixture
async def gateway(server: WireServer) -> AsyncIterator[GatewayPeer]:
    made = await GatewayPeer.to(server)
    await made.ask("GATE.LEASE", "edge", 1)
    yield made
    made.close()


async def _waits(server: WireServer, count: int = 1) -> None:
    await wait_until_async(lambda: server.worker.waiting_for_events == count, 10, f"{count} to wait")


async def _connected(gateway: GatewayPeer, user: bytes) -> str:
    session: bytes = await gateway.ask("GATE.CONNECT", token_of(APP, user), "iOS", "edge")
    return session.decode()


async def test_all_that_wait_are_woken_by_what_happens(server: WireServer, gateway: GatewayPeer) -> None:
    waiting = [await GatewayPeer.to(server) for _ in range(5)]
    for peer in waiting:
        peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server, 5)
    assert b"blocked_clients:5\r\n" in await gateway.ask("INFO", "clients")
    session = await _connected(gateway, b"ann")
    for peer in waiting:
        cursor, happened = await peer.next()
        assert [dict(zip(one[::2], one[1::2], strict=True))[b"session"] for one in happened] == [session.encode()]
        assert await peer.ask("GATE.EVENTS", cursor, "COUNT", "5") == [cursor, []]
        peer.close()
    assert server.worker.waiting_for_events == 0


async def test_what_is_there_already_is_answered_at_once(server: WireServer, gateway: GatewayPeer) -> None:
    cursor, _ = await gateway.ask("GATE.EVENTS", "$")
    await _connected(gateway, b"ben")
    _, happened = await gateway.ask("GATE.EVENTS", cursor, "BLOCK", LONG_MS)
    assert len(happened) == 1


async def test_a_wait_ends_with_its_time_and_an_empty_answer(server: WireServer, gateway: GatewayPeer) -> None:
    began_ms = monotonic_ms()
    cursor, happened = await gateway.ask("GATE.EVENTS", "$", "BLOCK", "50")
    assert happened == [] and monotonic_ms() - began_ms >= 50
    assert (await gateway.ask("GATE.EVENTS", cursor))[1] == []


async def test_a_gateway_waits_for_its_own_kicks_only(server: WireServer, gateway: GatewayPeer) -> None:
    peer = await GatewayPeer.to(server)
    peer.send("GATE.EVENTS", "$", "GATEWAY", "edge", "COUNT", "1", "BLOCK", LONG_MS)
    await _waits(server)
    for user in (b"u1", b"u2", b"u3"):
        await _connected(gateway, user)
    assert server.worker.waiting_for_events == 1, "presence of Users is not for it"
    peer.writer.write_eof()
    cursor, happened = await peer.next()
    assert happened == []
    assert len((await gateway.ask("GATE.EVENTS", cursor))[1]) <= 3, "the cursor can be read on from"
    peer.close()


async def test_others_are_answered_meanwhile_and_its_own_in_order(server: WireServer, gateway: GatewayPeer) -> None:
    peer, other = await GatewayPeer.to(server), await GatewayPeer.to(server)
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    for _ in range(20):
        peer.send("GATE.CHECK", "bob", "alice")
        await peer.writer.drain()
        assert await other.ask("GATE.CHECK", "alice", "bob") == 1
    mine = peer.in_server(server)
    assert len(mine.outbox) <= 2, "what is sent behind it is held back by the socket"
    await _connected(gateway, b"cat")
    assert len((await peer.next())[1]) == 1
    assert [await peer.next() for _ in range(20)] == [0] * 20
    peer.close()
    other.close()


async def test_a_wait_ends_with_its_connection(server: WireServer) -> None:
    peer = await GatewayPeer.to(server)
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    peer.close()
    await _waits(server, 0)
    await wait_until_async(lambda: server.worker.connections == 0, 10, "the connection to be gone")


async def test_a_wait_ends_when_the_worker_drains(server: WireServer) -> None:
    peer = await GatewayPeer.to(server)
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    draining = asyncio.create_task(server.drain(20))
    assert (await peer.next())[1] == []
    await draining


async def test_the_number_that_waits_is_bounded(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 1)
    one, other = await GatewayPeer.to(server), await GatewayPeer.to(server)
    one.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    assert (await other.refused("GATE.EVENTS", "$", "BLOCK", "5")).startswith("UNAVAILABLE 1 connections wait in GATE")
    assert (await other.ask("GATE.EVENTS", "$"))[1] == []
    for peer in (one, other):
        peer.close()


async def test_it_does_not_wait_in_a_transaction(server: WireServer, gateway: GatewayPeer) -> None:
    await gateway.ask("MULTI")
    assert await gateway.ask("GATE.EVENTS", "$") == b"QUEUED"
    assert "not allowed inside a transaction" in await gateway.refused("GATE.EVENTS", "$", "BLOCK", "5")
    assert (await gateway.refused("EXEC")).startswith("EXECABORT")
