"""Presence commands on real sockets and a real Redis: order, waiting, bounds, bad peers, and Redis going away."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hiredis
import pytest
from prometheus_client import REGISTRY

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.presence import MAX_SESSIONS_A_USER
from gate.store import presence as presence_module
from gate.store.presence import LogPosition
from gate.wire.line import MAX_AWAITED
from gate.wire.listener import WireOptions, WireServer, serve_wire
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.replica.ledger import EPOCH, Ledger, app_facts, said
from tests.wire.conftest import SECRETS
from tests.wire.gateway import TTL_MS, GatewayPeer, command, session_service_at, token_of

APP = app_facts(secrets=SECRETS)
OTHER = app_facts("other", secrets=("theirs",))
PATIENT_MS, HASTY_MS = 15_000, 300
SLACK_S = 10.0


@pytest.fixture
def cable(redis_server: RedisServer) -> Iterator[Cable]:
    with Cable(redis_server.port) as laid:
        yield laid


@pytest.fixture
def deadline_ms() -> int:
    return PATIENT_MS


@pytest.fixture
async def server(ledger: Ledger, cable: Cable, deadline_ms: int) -> AsyncIterator[WireServer]:
    """A worker whose way to Redis can be cut."""
    started = await serve_wire(WireOptions(ledger.directory, port=0))
    started.worker.session_service = service = session_service_at(cable.url, deadline_ms, started.worker)
    yield started
    await started.drain(1)
    await service.aclose()
    await service.store.client.aclose()


@pytest.fixture
async def peer(server: WireServer) -> AsyncIterator[GatewayPeer]:
    made = await GatewayPeer.to(server)
    assert await made.ask("GATE.LEASE", "edge", 1) == TTL_MS
    yield made
    made.close()


def connecting(user: str, app: AppFacts = APP) -> tuple[str, ...]:
    return ("GATE.CONNECT", token_of(app, user.encode()), "iOS", "edge")


async def online(peer: GatewayPeer, *users: str) -> list[int]:
    found: list[int] = await peer.ask("GATE.ONLINE", *users)
    return found


async def test_a_refused_token_is_counted_and_never_logged(
    peer: GatewayPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"surface": "resp", "reason": "bad-token"}
    before = REGISTRY.get_sample_value("gate_auth_failures_total", labels) or 0.0
    assert (await peer.refused("GATE.CONNECT", "never-shown", "iOS", "edge")).startswith("BADTOKEN")
    assert REGISTRY.get_sample_value("gate_auth_failures_total", labels) == before + 1
    assert "never-shown" not in "".join(capsys.readouterr())


class TestOrder:
    async def test_byte_by_byte_is_as_at_once(self, peer: GatewayPeer) -> None:
        sent = b"".join(
            (
                command(*connecting("ann")),
                command("GATE.CHECK", "bob", "alice"),
                command("GATE.ONLINE", "ann", "stranger"),
                b"PING\r\n",
                command("GATE.CONNECT", "nonsense", "iOS", "edge"),
            )
        )
        for at in range(len(sent)):
            peer.writer.write(sent[at : at + 1])
            await peer.writer.drain()
        session, check, found, pong, refused = [await peer.next() for _ in range(5)]
        assert session.endswith(b".YW5u")
        assert (check, found, pong) == (0, [1, 0], b"PONG")
        assert str(refused).startswith("BADTOKEN")

    async def test_thousands_of_every_kind_keep_their_places(self, peer: GatewayPeer, ledger: Ledger) -> None:
        tokens = [token_of(APP, b"u%d" % nth) for nth in range(100)]
        here = str(ledger.revision)
        for nth in range(1_500):
            peer.send("GATE.CONNECT", tokens[nth % 100], "iOS", "edge")
            peer.send("GATE.CHECK", "bob", "alice" if nth % 2 else "zoe", *(("MIN", here) if nth % 3 else ()))
            peer.send("GATE.ROUTE", "bob", "alice")
            peer.send("PING", str(nth))
        sessions = []
        for nth in range(1_500):
            sessions.append(await peer.next())
            assert await peer.next() == (0 if nth % 2 else 1)
            assert await peer.next() == [b"blacklisted", []]
            assert await peer.next() == b"%d" % nth
        assert len(set(sessions)) == 1_500
        for session in sessions:
            peer.send("GATE.DISCONNECT", session)
        assert [await peer.next() for _ in sessions] == [1] * 1_500

    async def test_a_storm_leaves_nothing_that_only_the_collector_frees(self, peer: GatewayPeer) -> None:
        """What referred to itself of each connect made that a quarter of a worker's time."""
        tokens = [token_of(APP, b"u%d" % nth) for nth in range(200)]

        async def storm() -> int:
            gc.collect()
            for one in tokens:
                peer.send("GATE.CONNECT", one, "iOS", "edge")
            for session in [await peer.next() for _ in tokens]:
                peer.send("GATE.DISCONNECT", session)
            assert [await peer.next() for _ in tokens] == [1] * len(tokens)
            return gc.collect()

        gc.disable()
        try:
            await storm()  # what is made once
            assert await storm() < len(tokens)
        finally:
            gc.enable()

    async def test_a_connect_is_seen_by_what_follows_it(self, peer: GatewayPeer) -> None:
        peer.send(*connecting("ann"))
        peer.send("GATE.ONLINE", "ann")
        peer.send("GATE.SESSIONS", "ann")
        peer.send("GATE.ROUTE", "zoe", "ann")
        session = await peer.next()
        assert await peer.next() == [1]
        (shown,) = await peer.next()
        assert dict(zip(shown[::2], shown[1::2], strict=True))[b"session"] == session
        assert await peer.next() == [b"allowed", [[b"iOS", b"edge", session]]]

    async def test_what_waits_for_redis_holds_up_its_own_connection_only(
        self, peer: GatewayPeer, server: WireServer, cable: Cable
    ) -> None:
        router = await GatewayPeer.to(server)
        with cable.frozen():
            peer.send(*connecting("ann"))
            peer.send("GATE.CHECK", "bob", "alice")
            assert await router.ask("GATE.CHECK", "bob", "alice") == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await peer.next()
        assert isinstance(await peer.next(), bytes)
        assert await peer.next() == 0
        router.close()

    async def test_a_check_that_waits_for_its_revision_and_one_for_redis(
        self, peer: GatewayPeer, ledger: Ledger
    ) -> None:
        position = ledger.revision
        peer.send(*connecting("ann"))
        peer.send("GATE.CHECK", "alice", "zoe", "MIN", f"0:{EPOCH}:{position.seq + 1}")
        peer.send(*connecting("ann"))
        assert isinstance(await peer.next(), bytes)
        ledger.commit(said("blocked", b"zoe", b"alice"))
        assert await peer.next() == 0
        assert isinstance(await peer.next(), bytes)


class TestBounds:
    async def test_what_one_connection_may_have_under_way(
        self, peer: GatewayPeer, server: WireServer, cable: Cable
    ) -> None:
        mine = peer.in_server(server)
        with cable.frozen():
            for _ in range(MAX_AWAITED + 500):
                peer.send("GATE.ONLINE", "ann")
            await wait_until_async(lambda: mine.outbox.is_full, SLACK_S, "it to be full")
            assert len(mine.outbox) == MAX_AWAITED
        assert [await peer.next() for _ in range(MAX_AWAITED + 500)] == [[0]] * (MAX_AWAITED + 500)

    async def test_long_questions_count_for_many(self, peer: GatewayPeer, server: WireServer, cable: Cable) -> None:
        mine, users = peer.in_server(server), [f"u{nth}" for nth in range(10_000)]
        with cable.frozen():
            for _ in range(20):
                peer.send("GATE.ONLINE", *users)
            await wait_until_async(lambda: mine.outbox.is_full, SLACK_S, "it to be full")
            assert len(mine.outbox) < 12
        assert [await peer.next() for _ in range(20)] == [[0] * 10_000] * 20

    async def test_replies_that_wait_for_their_turn_are_bounded_by_their_bytes(
        self, peer: GatewayPeer, server: WireServer, cable: Cable
    ) -> None:
        mine, flood = peer.in_server(server), 5_000
        with cable.frozen():
            peer.send("GATE.ONLINE", "ann")
            peer.writer.write(b"COMMAND\r\n" * flood)
            await wait_until_async(lambda: mine.outbox.is_full, SLACK_S, "it to be full")
            held = sum(len(one) for one in mine.outbox.waiting if isinstance(one, bytes))
            assert held < 8 << 20, "a slice of commands past the bound, not all of them"
        assert await peer.next() == [0]
        for _ in range(flood):
            await peer.next()
        assert mine.outbox.weight == 0

    async def test_a_frame_past_the_limit_costs_its_own_connection(self, peer: GatewayPeer, server: WireServer) -> None:
        liar = await GatewayPeer.to(server)
        assert (await liar.refused("GATE.CONNECT", b"t" * (1 << 20), "iOS", "edge")).startswith("ERR Protocol error")
        with pytest.raises((EOFError, ConnectionResetError)):
            await liar.next()
        assert await peer.ask("GATE.CHECK", "bob", "alice") == 0

    async def test_one_gateway_too_many(self, peer: GatewayPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_module, "MAX_GATEWAYS_AN_APP", 1)
        assert (await peer.refused("GATE.LEASE", "edge-2", 1)).startswith("ERR this App has 1 Gateways")
        assert await peer.ask("GATE.LEASE", "edge", 1) == TTL_MS
        assert (await peer.refused("GATE.CONNECT", token_of(APP, b"ann"), "iOS", "edge-2")).startswith("NOLEASE")

    @pytest.mark.parametrize("count", [10_001])
    async def test_too_many_users_at_once(self, peer: GatewayPeer, count: int) -> None:
        assert "at most 10000" in await peer.refused("GATE.ONLINE", *["u"] * count)

    async def test_one_session_too_many_of_a_user(self, peer: GatewayPeer) -> None:
        for _ in range(MAX_SESSIONS_A_USER):
            peer.send(*connecting("ann"))
        sessions = [await peer.next() for _ in range(MAX_SESSIONS_A_USER)]
        refused = await peer.refused(*connecting("ann"))
        assert f"this User has {MAX_SESSIONS_A_USER} Sessions, the most there may be" in refused
        assert await peer.ask("GATE.DISCONNECT", sessions[0]) == 1
        assert isinstance(await peer.ask(*connecting("ann")), bytes)

    async def test_too_many_sessions_at_once(self, peer: GatewayPeer) -> None:
        session = await peer.ask(*connecting("ann"))
        assert await peer.ask("GATE.TOUCH", *[session] * 1_000) == 1_000
        assert "sessions: at most 1000 in one GATE.TOUCH" in await peer.refused("GATE.TOUCH", *[session] * 1_001)


BAD = [
    (("GATE.CONNECT", b"\xff\xfe" * 20, "iOS", "edge"), "BADTOKEN"),
    (("GATE.CONNECT", "", "iOS", "edge"), "BADTOKEN"),
    (("GATE.CONNECT", "x" * 60_000, "iOS", "edge"), "BADTOKEN"),
    (("GATE.CONNECT", "x", b"i\xffS", "edge"), "ERR platform: "),
    (("GATE.CONNECT", "x", "iOS", b"\xff"), "ERR gateway: "),
    (("GATE.CONNECT", "x", "iOS", "edge", b"1\r\n2"), "ERR ip: "),
    (("GATE.CONNECT", "x", "iOS"), "ERR wrong number of arguments"),
    (("GATE.CONNECT", "x", "iOS", "edge-2"), "NOLEASE"),
    (("GATE.LEASE", b"\xff", "1"), "ERR gateway: "),
    (("GATE.LEASE", "websocket@node-1", "9"), "ERR gateway: names that begin with websocket@ are those of Gate's own"),
    (("GATE.LEASE", "edge", b"\xff"), "ERR epoch: "),
    (("GATE.LEASE", "edge", "1.5"), "ERR epoch: "),
    (("GATE.LEASE", "edge", "٣"), "ERR epoch: "),
    (("GATE.DISCONNECT", b"\xff"), "ERR session: "),
    (("GATE.DISCONNECT", "AAAAAAAAAAA."), "ERR session: "),
    (("GATE.DISCONNECT", "AAAAAAAAAAA.YW5u", "NOW"), "ERR LOGOUT: "),
    (("GATE.TOUCH", "x"), "ERR session: "),
    (("GATE.EVENTS", b"\xff"), "ERR cursor: "),
    (("GATE.EVENTS", "$", "COUNT", "1001"), "ERR COUNT: "),
    (("GATE.EVENTS", "$", "WHO", "me"), "ERR syntax: "),
    (("GATE.SESSIONS", ""), "ERR user: "),
    (("GATE.ROUTE", "a", ""), "ERR "),
]


@pytest.mark.parametrize(("words", "problem"), BAD, ids=[f"{words[0]}-{nth}" for nth, (words, _) in enumerate(BAD)])
async def test_bad_input_is_answered_in_its_place(peer: GatewayPeer, words: tuple[Any, ...], problem: str) -> None:
    peer.send("PING", "before")
    peer.send(*words)
    peer.send("PING", "after")
    assert await peer.next() == b"before"
    refused = await peer.next()
    assert isinstance(refused, hiredis.ReplyError), refused
    assert str(refused).startswith(problem)
    assert await peer.next() == b"after"


class TestWhoMay:
    async def test_a_connection_without_an_app_is_refused(self, server: WireServer) -> None:
        stranger = await GatewayPeer.to(server)
        await stranger.ask("RESET")
        for words in (("GATE.LEASE", "edge", 1), connecting("ann"), ("GATE.ONLINE", "ann"), ("GATE.EVENTS", "$")):
            assert (await stranger.refused(*words)).startswith("NOAUTH")
        stranger.close()

    async def test_a_reset_ends_the_say_over_a_gateway(self, peer: GatewayPeer) -> None:
        await peer.ask("RESET")
        await peer.ask("AUTH", "app", "secret")
        assert (await peer.refused(*connecting("ann"))).startswith("NOLEASE")

    async def test_an_app_sees_its_own_only(self, peer: GatewayPeer, server: WireServer) -> None:
        session = await peer.ask(*connecting("ann"))
        theirs = await GatewayPeer.to(server, "other", "theirs")
        assert await theirs.ask("GATE.LEASE", "edge", 1) == TTL_MS
        refused = await theirs.refused(*connecting("ann"))
        assert refused.startswith("BADTOKEN the Token does not belong to the App ")
        assert await theirs.ask("GATE.DISCONNECT", session) == 0
        assert await theirs.ask("GATE.TOUCH", session) == 0
        assert await online(theirs, "ann") == [0]
        assert await online(peer, "ann") == [1]
        theirs.close()

    async def test_the_banned_and_the_deactivated(self, peer: GatewayPeer, ledger: Ledger) -> None:
        assert await peer.refused(*connecting("eve")) == "BANNED the User is banned without end"
        until_ms = wall_ms() + 3_600_000
        ledger.commit(said("ban-imposed", b"mallory", until_ms=until_ms))
        assert await peer.refused(*connecting("mallory")) == f"BANNED the User is banned until {until_ms} ms"
        ledger.commit(said("user-deactivated", b"gone"))
        assert (await peer.refused(*connecting("gone"))).startswith("DEACTIVATED")

    async def test_a_gateway_hears_of_its_kick_behind_many_changes_of_others(
        self, peer: GatewayPeer, server: WireServer
    ) -> None:
        session = await peer.ask(*connecting("ann"))
        cursor = (await peer.ask("GATE.EVENTS", "$"))[0]
        await peer.ask("GATE.LEASE", "edge-2", 1)
        for nth in range(300):
            peer.send("GATE.CONNECT", token_of(APP, b"u%d" % nth), "iOS", "edge-2")
        assert all([isinstance(await peer.next(), bytes) for _ in range(300)])
        assert server.worker.session_service is not None
        await server.worker.session_service.store.kick("app", [b"ann"], "kicked")  # type: ignore[attr-defined]
        assert len((await peer.ask("GATE.EVENTS", cursor))[1]) == 100
        (event,) = (await peer.ask("GATE.EVENTS", cursor, "GATEWAY", "edge"))[1]
        assert dict(zip(event[::2], event[1::2], strict=True))[b"session"] == session

    async def test_one_connection_may_speak_for_several_gateways(self, peer: GatewayPeer) -> None:
        await peer.ask("GATE.LEASE", "edge-2", 5)
        first = await peer.ask(*connecting("ann"))
        second = await peer.ask("GATE.CONNECT", token_of(APP, b"bob"), "web", "edge-2")
        assert [await peer.ask("GATE.DISCONNECT", one) for one in (second, first, first)] == [1, 1, 0]


class TestBehindAChange:
    """A connect whose Token was verified before the Change for which the User's Sessions were closed."""

    @pytest.fixture
    async def barred(self, peer: GatewayPeer, server: WireServer, ledger: Ledger) -> GatewayPeer:
        behind = LogPosition(EPOCH, ledger.revision.seq + 1)
        assert server.worker.session_service is not None
        await server.worker.session_service.store.kick("app", [b"ann"], "banned", up_to=behind)  # type: ignore[attr-defined]
        peer.send(*connecting("ann"))
        peer.send("PING", "in its turn")
        return peer

    async def test_is_refused_for_it_as_soon_as_it_is_here(self, barred: GatewayPeer, ledger: Ledger) -> None:
        ledger.commit(said("ban-imposed", b"ann"))
        assert str(await barred.next()).startswith("BANNED")
        assert await barred.next() == b"in its turn"

    async def test_is_opened_if_it_is_allowed_again(self, barred: GatewayPeer, ledger: Ledger) -> None:
        ledger.commit(said("ban-imposed", b"ann"), said("ban-lifted", b"ann"))
        assert isinstance(await barred.next(), bytes)
        assert await barred.next() == b"in its turn"

    async def test_no_session_is_left_where_the_peer_ended_meanwhile(
        self, barred: GatewayPeer, server: WireServer, ledger: Ledger
    ) -> None:
        barred.writer.write_eof()
        assert "the connection ended" in str(await barred.next())
        ledger.commit(said("ban-imposed", b"ann"), said("ban-lifted", b"ann"))
        other = await GatewayPeer.to(server)
        assert await other.ask("GATE.ONLINE", "ann") == [0]

    async def test_it_gets_unavailable_if_it_does_not_come(self, barred: GatewayPeer) -> None:
        assert str(await barred.next()).startswith("UNAVAILABLE")
        assert await barred.next() == b"in its turn"
