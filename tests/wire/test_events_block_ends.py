"""How a wait of `GATE.EVENTS … BLOCK` ends, whatever else happens at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from gate.core.app_keys import with_key
from gate.core.scopes import Scope
from gate.wire import events
from gate.wire.listener import WireServer
from gate.wire.table import PendingReply
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.replica.ledger import Ledger, app_facts, app_set
from tests.wire.gateway import GatewayPeer, token_of
from tests.wire.test_events_block import APP, LONG_MS, _waits, gateway, server

__all__ = ["gateway", "server"]


async def _connected(gateway: GatewayPeer, user: bytes) -> None:
    assert await gateway.ask("GATE.CONNECT", token_of(APP, user), "iOS", "edge")


async def test_an_answer_that_is_not_written_yet_can_be_hurried(server: WireServer, gateway: GatewayPeer) -> None:
    """The peer closes, or the worker drains, at the very moment at which something happened."""
    peer = await GatewayPeer.to(server)
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    (waiting,) = peer.in_server(server).outbox.waiting
    assert isinstance(waiting, PendingReply) and waiting.hurry is not None
    hurry = waiting.hurry
    failed: list[BaseException] = []

    def at_that_moment(_: object) -> None:
        try:
            hurry()
        except RuntimeError as problem:
            failed.append(problem)

    waiting.arrival.add_done_callback(at_that_moment)
    await _connected(gateway, b"ann")
    assert len((await peer.next())[1]) == 1
    assert not failed
    peer.close()


async def test_no_more_wait_than_may_though_all_come_at_once(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks back first, which asks Redis; all of them have passed the first look at the bound by then."""
    monkeypatch.setattr(events, "MAX_WAITING", 3)
    peers = [await GatewayPeer.to(server) for _ in range(8)]
    for peer in peers:
        peer.send("GATE.EVENTS", "$", "BLOCK", "300")
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, server.worker.waiting_for_events)
        return most > 0 and server.worker.waiting_for_events == 0

    await wait_until_async(look, 10, "the waits to be over")
    answers = [await peer.next() for peer in peers]
    assert most == 3
    assert sum(str(answer).startswith("UNAVAILABLE 3 connections wait in GATE.EVENTS") for answer in answers) == 5
    for peer in peers:
        peer.close()


async def test_a_client_whose_secret_was_dropped_while_it_waited_gets_nothing(
    server: WireServer, gateway: GatewayPeer, ledger: Ledger
) -> None:
    peer = await GatewayPeer.to(server, "app", "the one before")
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    ledger.commit(app_set(app_facts(secrets=("secret",))))
    await _connected(gateway, b"ann")
    assert str(await peer.next()).startswith("NOAUTH The secret that this connection gave is no longer accepted")
    peer.close()


@pytest.mark.parametrize(
    ("left", "refusal"),
    [((), "NOAUTH The secret that this connection gave"), (("check",), "NOPERM this key has no scope 'presence'")],
    ids=["removed", "of another scope"],
)
async def test_a_key_that_is_gone_while_it_waited_gets_nothing(
    server: WireServer, gateway: GatewayPeer, ledger: Ledger, left: tuple[Scope, ...], refusal: str
) -> None:
    bare, secret = app_facts(secrets=("secret",)), "the-secret-of-the-edge"
    ledger.commit(app_set(with_key(bare, "edge", ("presence",), secret, 1)))
    peer = await GatewayPeer.to(server, "app", secret)
    peer.send("GATE.EVENTS", "$", "BLOCK", LONG_MS)
    await _waits(server)
    ledger.commit(app_set(with_key(bare, "edge", left, secret, 1) if left else bare))
    await _connected(gateway, b"ann")
    assert str(await peer.next()).startswith(refusal)
    peer.close()


async def test_a_wait_whose_peer_is_cut_off_as_it_ends_leaves_no_connection(
    server: WireServer, redis_server: RedisServer
) -> None:
    """A half-closing peer ends the wait, and its reset comes while the shared read is being ended."""

    def connections() -> int:
        return len(redis_server.client.client_list())

    service = server.worker.session_service
    assert service is not None
    await service.feed("app").head()  # opens the connection that all short questions share
    before = connections()
    task = asyncio.create_task(_followed(server))
    await wait_until_async(lambda: connections() == before + 1, 10, "the shared read to have its connection")
    task.cancel()
    await asyncio.sleep(0)  # it ends the shared read
    task.cancel()
    await asyncio.wait([task])
    await wait_until_async(lambda: connections() == before, 10, "the connection to close")


async def _followed(server: WireServer) -> None:
    service = server.worker.session_service
    assert service is not None
    async for _ in service.follow("app", await service.feed("app").head()):
        pass
