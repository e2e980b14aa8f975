"""What transactions may hold of a worker, which all connections share; and what is undone with their peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gate.replica.layout import PositionRecord
from gate.replica.reading import Reading
from gate.wire import long_reads, queued, transactions
from gate.wire.checks import MAX_RECIPIENTS, RevisionDemand
from gate.wire.client import Worker
from gate.wire.listener import WireOptions, WireServer, serve_wire
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.replica.ledger import Ledger, app_facts
from tests.wire.conftest import SECRETS
from tests.wire.gateway import GatewayPeer, session_service_at, token_of
from tests.wire.line import AUTH, Line, command
from tests.wire.peer import Peer

APP = app_facts(secrets=SECRETS)


def _peers(worker: Worker, count: int) -> list[Peer]:
    made = [Peer(worker) for _ in range(count)]
    for peer in made:
        assert peer("AUTH", "app", "secret") == b"OK" and peer("MULTI") == b"OK"
    return made


def test_idle_transactions_do_not_keep_others_out(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen connections that send no EXEC could fill the memory of transactions for ever."""
    monkeypatch.setattr(queued, "MAX_QUEUED_BYTES_OF_WORKER", 2_500)
    oldest, older, one = _peers(worker, 3)
    for peer in (oldest, older, one):
        assert peer("ECHO", "x" * 900) == b"QUEUED"
    assert one("EXEC") == [b"x" * 900]
    assert older("EXEC") == [b"x" * 900]
    assert oldest("PING") == b"QUEUED"
    assert oldest.error("EXEC").startswith("EXECABORT Transaction discarded: it waited longest for its EXEC")
    assert oldest("PING") == b"PONG"
    assert worker.queued_bytes == 0 and not worker.queues


def test_one_that_got_its_exec_makes_no_room(worker: Worker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "MAX_QUEUED_BYTES_OF_WORKER", 2_500)
    waiting, other = _peers(worker, 2)
    ahead = ledger.revision._replace(seq=ledger.revision.seq + 1)
    waiting("GATE.CHECK", "bob", "alice", "MIN", str(ahead))
    waiting("ECHO", "x" * 900)
    demand = waiting.raw("EXEC")
    assert isinstance(demand, RevisionDemand) and demand.late is not None
    assert "too much of other connections is being carried out" in other.error("ECHO", "x" * 2_000)
    late = demand.late()
    assert isinstance(late, bytes) and late.startswith(b"*2\r\n-STALE ")
    assert worker.queued_bytes == 0


async def test_memory_is_counted_until_exec_is_answered(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are carried out are as many as there are connections, too."""
    monkeypatch.setattr(transactions, "AT_ONCE_WEIGHT", 0)
    line = Line(worker)
    line.send(AUTH, command("MULTI"), command("ECHO", "x" * 900))
    line.transport.incoming = command("EXEC")
    line.transport.written = b""
    line.transport.deliver()
    assert worker.queued_bytes > 900 and not worker.queues
    await line.answered(900)
    assert line.transport.written.startswith(b"*1\r\n$900\r\n")
    await wait_until_async(lambda: worker.queued_bytes == 0, 5, "the queue to be forgotten")


def test_the_largest_fan_out_can_be_queued(peer: Peer) -> None:
    peer("MULTI")
    assert peer("GATE.MCHECK", "bob", *["x"] * MAX_RECIPIENTS) == b"QUEUED"
    assert "counts for more than" in peer.error("PING")


def test_what_many_checks_demand_is_looked_up_once(ledger: Ledger, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,400 look-ups took 30 ms of one turn."""
    looked_up: list[int] = []
    position = Reading.position

    def counted(reading: Reading, partition: int) -> PositionRecord | None:
        looked_up.append(partition)
        return position(reading, partition)

    monkeypatch.setattr(Reading, "position", counted)
    at = ledger.revision
    peer("MULTI")
    for ahead in range(50):
        peer("GATE.CHECK", "bob", "alice", "FRESH", "9" * 15, "MIN", str(at._replace(seq=at.seq + ahead)))
        peer("GATE.VERDICT", "bob", "alice", "MIN", f"0:{ahead:016x}:5")
    del looked_up[:]
    demand = peer.raw("EXEC")
    assert isinstance(demand, RevisionDemand)
    assert demand.revisions == (at._replace(seq=at.seq + 49),), "the newest of the history that this Replica follows"
    assert len(looked_up) <= queued.MAX_DEMANDED


# Undone


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


async def test_a_session_that_was_opened_early_in_an_exec_closes_with_its_peer(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis answered the connect while EXEC went on; and as another connection holds the lease, nothing else ends it."""
    peer, other = await GatewayPeer.to(server), await GatewayPeer.to(server)
    for one in (peer, other):
        await one.ask("GATE.LEASE", "edge", 1)
    lets_go = asyncio.Event()
    carry_out = transactions.Execution.carry_out

    async def goes_on(execution: transactions.Execution, reading: asyncio.Future[None] | None) -> bytes:
        reply = await carry_out(execution, reading)
        await lets_go.wait()
        return reply

    monkeypatch.setattr(transactions.Execution, "carry_out", goes_on)
    peer.send("MULTI")
    peer.send("GATE.CONNECT", token_of(APP, b"zoe"), "iOS", "edge")
    peer.send("EXEC")
    async with asyncio.timeout(10):
        while await other.ask("GATE.ONLINE", "zoe") != [1]:
            pass
    peer.close()
    async with asyncio.timeout(10):
        while await other.ask("GATE.ONLINE", "zoe") != [0]:
            pass
    other.close()


async def test_one_that_waited_for_its_turn_notices_its_peers_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that waits for its turn reads nothing: once its EXEC is under way it has to read again."""
    monkeypatch.setattr(transactions, "AT_ONCE_WEIGHT", 0)
    monkeypatch.setattr(long_reads, "SLICE_US", 0)
    line = Line(worker)
    line.send(AUTH)
    worker.turns.wait(lambda: None)
    monkeypatch.setattr(type(worker.turns), "is_crowded", True)
    line.transport.incoming = command("MULTI") + command("PING") + command("EXEC")
    line.transport.deliver()
    assert (line.connection.is_waiting, line.transport.reading) == (True, False)
    while not line.connection.outbox:
        assert line.one_pass()
    reads_again = line.transport.reading
    line.transport.incoming = command("PING")
    line.transport.deliver()
    assert (reads_again, line.transport.reading) == (True, False), "the PING behind it is held back"
    await line.answered(len(b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n+PONG\r\n"))
