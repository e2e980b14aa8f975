"""How connections of Gateways end, and what they are answered while Redis is unreachable."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
import pytest

from gate.wire.client import Worker
from gate.wire.listener import WireServer
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.wire.gateway import TTL_MS, GatewayPeer
from tests.wire.test_gateway_commands import HASTY_MS, SLACK_S, cable, connecting, deadline_ms, online, peer, server

__all__ = ["cable", "deadline_ms", "peer", "server"]


class TestEnds:
    @pytest.mark.parametrize("end", ["close", "abort"])
    async def test_a_session_whose_id_was_never_read_is_closed(
        self, peer: GatewayPeer, server: WireServer, cable: Cable, end: str
    ) -> None:
        dying = await GatewayPeer.to(server)
        await dying.ask("GATE.LEASE", "edge", 1)
        with cable.frozen():
            for _ in range(30):
                dying.send(*connecting("ann"))
            mine = dying.in_server(server)
            await wait_until_async(lambda: len(mine.outbox) == 30, SLACK_S, "all to be under way")
            dying.close() if end == "close" else dying.writer.transport.abort()
            await wait_until_async(lambda: mine.outbox.is_abandoned, SLACK_S, "the end of the connection")
        await wait_until_async(lambda: len(server.connections) == 1, SLACK_S, "it to be counted out")

        async def all_gone() -> bool:
            return await online(peer, "ann") == [0]

        await wait_until_async(all_gone, SLACK_S, "all to be closed")
        service: Any = server.worker.session_service
        assert service.session_count == 0, "nor will it be brought back"

    async def test_a_lease_taken_for_a_peer_that_was_cut_is_let_go_of(
        self, peer: GatewayPeer, server: WireServer, cable: Cable
    ) -> None:
        dying = await GatewayPeer.to(server)
        with cable.frozen():
            dying.send("GATE.LEASE", "edge-2", 1)
            mine = dying.in_server(server)
            await wait_until_async(lambda: len(mine.outbox) == 1, SLACK_S, "it to be under way")
            mine.abort()
            await wait_until_async(lambda: len(server.connections) == 1, SLACK_S, "it to be counted out")
        service: Any = server.worker.session_service
        await wait_until_async(
            lambda: b"edge-2" in [one.name for one in service.leaving], SLACK_S, "it to be let go of"
        )
        assert {(one.app_key, one.name, one.epoch) for one in server.worker.lease_holders} == {("app", b"edge", 1)}

    async def test_a_drain_finishes_what_is_under_way_and_opens_nothing_more(
        self, peer: GatewayPeer, server: WireServer, cable: Cable
    ) -> None:
        with cable.frozen():
            peer.send(*connecting("ann"))
            mine = peer.in_server(server)
            await wait_until_async(lambda: len(mine.outbox) == 1, SLACK_S, "it to be under way")
            draining = asyncio.create_task(server.drain(SLACK_S))
            await wait_until_async(lambda: server.worker.draining, SLACK_S, "the drain to begin")
            peer.send(*connecting("bob"))
            await wait_until_async(lambda: len(mine.outbox) == 2, SLACK_S, "the late one to be received")
        assert isinstance(await peer.next(), bytes)
        refused = str(await peer.next())
        assert refused.startswith("ERR ")
        assert "shutting down" in refused
        with pytest.raises(EOFError):
            await peer.next()
        await draining

    async def test_a_fault_ends_its_connection_and_leaves_no_client_waiting(
        self, peer: GatewayPeer, server: WireServer, redis_server: RedisServer
    ) -> None:
        other = await GatewayPeer.to(server)
        redis_server.client.set("gate:{app}:sessions", "of a wrong type")  # what no script expects
        with pytest.raises((EOFError, ConnectionResetError)):
            await peer.ask("GATE.ONLINE", "ann")
        redis_server.client.delete("gate:{app}:sessions")
        assert await online(other, "ann") == [0]
        other.close()


class TestRedisAway:
    @pytest.fixture
    def deadline_ms(self) -> int:
        return HASTY_MS

    async def test_before_it_was_reached(self, peer: GatewayPeer, server: WireServer) -> None:
        service, server.worker.session_service = server.worker.session_service, None
        for words in (("GATE.LEASE", "edge", 1), connecting("ann"), ("GATE.ONLINE", "ann"), ("GATE.EVENTS", "$")):
            assert (await peer.refused(*words)).startswith("UNAVAILABLE")
        assert await peer.ask("GATE.CHECK", "bob", "alice") == 0
        assert await peer.ask("GATE.ROUTE", "bob", "alice") == [b"blacklisted", []], "which needs no Redis"
        server.worker.session_service = service

    async def test_it_hangs(self, peer: GatewayPeer, cable: Cable, server: WireServer) -> None:
        with cable.frozen():
            sent = (connecting("ann"), ("GATE.DISCONNECT", "AAAAAAAAAAA.YW5u"), ("GATE.ONLINE", "ann"), ("PING",))
            for words in sent:
                peer.send(*words)
            connect, disconnect, found, pong = [str(await peer.next()) for _ in sent]
            assert all(one.startswith("UNAVAILABLE") and "outcome is unknown" in one for one in (connect, disconnect))
            assert found.startswith("UNAVAILABLE")
            assert pong == str(b"PONG")
            assert "unknown" not in await peer.refused(*connecting("ann")), "nothing is sent any more"
        cable.cut()
        cable.mend()

        async def answers() -> bool:
            return not isinstance(await online(peer, "ann"), hiredis.ReplyError)

        await wait_until_async(answers, SLACK_S, "Redis to be back")

        async def all_are_offline() -> bool:
            return await online(peer, "ann") == [0]

        await wait_until_async(all_are_offline, SLACK_S, "the Session with an unknown outcome to be closed")

    async def test_a_kick_that_the_gateway_read_is_not_undone_by_a_loss(
        self, peer: GatewayPeer, server: WireServer, worker: Worker
    ) -> None:
        service: Any = server.worker.session_service
        cursor = (await peer.ask("GATE.EVENTS", "$"))[0]
        await peer.ask(*connecting("ann"))
        await peer.ask(*connecting("bob"))
        await service.store.kick("app", [b"ann"], "kicked")
        events = (await peer.ask("GATE.EVENTS", cursor, "GATEWAY", "edge"))[1]
        assert [dict(zip(one[::2], one[1::2], strict=True))[b"why"] for one in events] == [b"kicked"]
        await service.store.remove_app("app")
        assert (await peer.refused(*connecting("zoe"))).startswith("NOLEASE")
        assert await peer.ask("GATE.LEASE", "edge", 1) == TTL_MS
        assert await online(peer, "ann", "bob") == [0, 1]
