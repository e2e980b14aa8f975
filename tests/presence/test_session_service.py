"""The session service on a real server: what of a Gateway's Sessions comes back when Redis lost it, and what must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from gate.core.model import AppFacts
from gate.core.presence import UserPresence, session_id, session_parts
from gate.core.sessions import OpenOutcome, OpenSession
from gate.errors import StoreUnavailable
from gate.presence.gateway import MAX_CALLS_A_BATCH, Batches, Gateway, PendingResult
from gate.presence.session_recovery import look_over
from gate.presence.session_service import FORGOTTEN_MS, SessionService
from gate.store import presence as presence_module
from gate.store import presence_keys as keys
from gate.store.link import ReplyError
from gate.store.presence import PresenceStore, closed
from gate.store.scripts import Call, Script
from gate.store.slicing import SlicedCall
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.keeper import APP, DEADLINE_MS, EDGE, TTL_MS, Keeper

SLACK_S = 10.0


@pytest.fixture
async def keeper(redis_server: RedisServer) -> AsyncIterator[Keeper]:
    kept = Keeper(redis_server.url)
    await kept.lease()
    yield kept
    await kept.aclose()


@pytest.fixture
def cable(redis_server: RedisServer) -> Iterator[Cable]:
    with Cable(redis_server.port) as laid:
        yield laid


async def lose_all(keeper: Keeper) -> None:
    """As a Redis that came back empty."""
    await keeper.store.remove_app(APP.key)


async def lose_sessions(keeper: Keeper) -> None:
    """As a Redis of which another run came back from an older file: the lease is there, Sessions are not."""
    await keeper.store.client.read(("DEL", keys.sessions(APP.key)))
    assert keeper.store.client.link is not None
    keeper.store.client.link.server_id = "another run"


class TestRestoring:
    async def test_what_is_open_comes_back_and_is_older_than_the_loss(self, keeper: Keeper) -> None:
        session = await keeper.open(b"ann")
        (before,) = await keeper.store.presences(APP.key, [b"ann"])
        await lose_all(keeper)
        await keeper.lease()
        (after,) = await keeper.store.presences(APP.key, [b"ann"])
        assert [one.id for one in after.sessions] == [session]
        assert abs(after.sessions[0].since_ms - before.sessions[0].since_ms) < SLACK_S * 1_000

    async def test_many_come_back(self, keeper: Keeper) -> None:
        users = [b"u%d" % nth for nth in range(450)]
        await asyncio.gather(*(keeper.open(user) for user in users))
        await lose_all(keeper)
        await keeper.lease()
        assert all(await keeper.online(*users))

    async def test_nothing_comes_back_into_another_app_of_that_name(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await lose_all(keeper)
        keeper.facts.app = AppFacts(key=APP.key, secrets=("another",), created_at_ms=APP.created_at_ms + 1)
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_sessions_are_restored_into_an_app_that_was_created_again(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await lose_all(keeper)
        keeper.facts.app = AppFacts(key=APP.key, secrets=("newer", *APP.secrets), created_at_ms=APP.created_at_ms + 1)
        await keeper.lease()
        assert await keeper.online(b"ann") == [True]

    async def test_what_was_closed_does_not(self, keeper: Keeper) -> None:
        await keeper.close(await keeper.open(b"ann"))
        await lose_all(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_who_was_banned_meanwhile_does_not_then_or_later(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        keeper.facts.banned.add(b"ann")
        await lose_all(keeper)
        await keeper.lease()
        keeper.facts.banned.clear()
        await lose_all(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_a_kicked_user_is_not_restored_where_the_feed_has_the_kick(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await keeper.open(b"bob")
        await keeper.store.kick(APP.key, [b"ann"], "kicked")
        await lose_sessions(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann", b"bob") == [False, True]

    async def test_a_kick_that_the_gateway_received_needs_no_feed(self, keeper: Keeper) -> None:
        session = await keeper.open(b"ann")
        keeper.service.forget((APP.key, EDGE), session)
        await lose_all(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_what_others_closed_does_not_once_it_was_looked_over(self, keeper: Keeper) -> None:
        """A Gateway that hears of kicks over HTTP, or has connections to two workers, says nothing of them here."""
        kicked, closed_elsewhere, lost = await keeper.open(b"ann"), await keeper.open(b"bob"), await keeper.open(b"eve")
        await keeper.store.kick(APP.key, [b"ann"], "kicked")
        elsewhere = Gateway(SessionService(keeper.store, TTL_MS, keeper.facts), (APP.key, EDGE), 1)
        assert await elsewhere.close(closed_elsewhere, "closed").wait() == "closed"
        keeper.gateway.look_over()
        await wait_until_async(lambda: not keeper.service.looking, SLACK_S, "a look")
        assert [one in keeper.gateway.sessions for one in (kicked, closed_elsewhere, lost)] == [
            False,
            False,
            True,
        ]
        await lose_all(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann", b"bob", b"eve") == [False, False, True]

    async def test_a_user_with_many_sessions_is_looked_up_once(self, keeper: Keeper) -> None:
        asked = list[bytes]()

        class Noting(PresenceStore):
            async def presences(self, app_key: str, users: Sequence[bytes]) -> list[UserPresence]:
                asked.extend(users)
                return await super().presences(app_key, users)

        for user in (b"ann", b"ann", b"ann", b"bob"):
            await keeper.open(user)
        await look_over(Noting(keeper.store.client), keeper.gateway)
        assert sorted(asked) == [b"ann", b"bob"]

    async def test_what_was_lost_with_the_lease_is_not_taken_for_closed(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await lose_all(keeper)
        await look_over(keeper.store, keeper.gateway)
        await keeper.lease()
        assert await keeper.online(b"ann") == [True]

    async def test_all_of_a_gateway_is_looked_over_in_turn(self, keeper: Keeper) -> None:
        gateway = keeper.gateway
        for nth in range(10_000):
            one = session_id(b"8 bytes!", b"%d" % nth)
            gateway.sessions[one] = OpenSession(APP, EDGE, 1, b"%d" % nth, one, "iOS", "", 1, "0", 0)
        looks = [gateway.some_sessions() for _ in range(16)]
        assert {one.user for some in looks for one in some} == {b"%d" % nth for nth in range(10_000)}
        assert max(map(len, looks)) == 625
        assert gateway.some_sessions(), "and again from the beginning"

    async def test_a_close_that_redis_forgot_is_done_again(self, keeper: Keeper) -> None:
        session = await keeper.open(b"ann")
        packed = (await keeper.store.client.read(("HGET", keys.sessions(APP.key), "ann")))[0]
        await keeper.close(session)
        assert await keeper.online(b"ann") == [False]
        await lose_sessions(keeper)
        await keeper.store.client.read(("HSET", keys.sessions(APP.key), "ann", packed))
        assert await keeper.online(b"ann") == [True]
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_a_session_that_is_closed_while_others_come_back_stays_closed(self, keeper: Keeper) -> None:
        session = await keeper.open(b"ann")
        await lose_all(keeper)
        inner = keeper.store.presences

        async def closed_behind(app_key: str, users: Sequence[bytes]) -> list[UserPresence]:
            found = await inner(app_key, users)
            assert await keeper.gateway.close(session, "closed").wait() == "gone"
            return found

        keeper.store.presences = closed_behind  # type: ignore[method-assign]
        await keeper.lease()
        assert await keeper.online(b"ann") == [False]

    async def test_a_higher_epoch_that_adopts_brings_all_back(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await keeper.open(b"bob")
        keeper.facts.banned.add(b"bob")
        lower = keeper.gateway
        await keeper.lease(epoch=2)
        lost = list[str]()
        keeper.gateway.on_lost = lambda session, why: lost.append(f"{session_parts(session)[1].decode()} {why}")
        keeper.gateway.adopt(lower.sessions.values())
        await keeper.lease(epoch=2)
        assert await keeper.online(b"ann", b"bob") == [True, False]
        assert lost == ["bob banned"]

    async def test_a_higher_epoch_brings_nothing_back(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        await keeper.lease(epoch=2)
        await lose_all(keeper)
        await keeper.lease(epoch=2)
        assert await keeper.online(b"ann") == [False]

    async def test_restoring_that_was_cut_short_is_done_again(self, redis_server: RedisServer, cable: Cable) -> None:
        through, direct = Keeper(cable.url, DEADLINE_MS), Keeper(redis_server.url)
        await through.lease()
        await through.open(b"ann")
        await lose_all(direct)
        await direct.lease()  # it has none of these Sessions, and now the lease is not new any more
        cable.cut()
        with pytest.raises(StoreUnavailable):
            await through.lease()
        cable.mend()

        async def renewed() -> bool:
            try:
                await through.lease()
            except StoreUnavailable:
                return False
            return True

        await wait_until_async(renewed, SLACK_S, "Redis to be back")
        assert await direct.online(b"ann") == [True]
        await through.aclose()
        await direct.aclose()


class TestForgotten:
    """The lease ended, and is so old that Redis does not remember it: to the script, it is as if Redis had lost it."""

    async def forget(self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_module, "LEASE_KEPT_MS", -1)
        await keeper.store.end_lease(APP.key, EDGE, 1)
        await keeper.store.sweep(APP.key)
        assert await keeper.store.tidy(APP.key) == 1

    async def test_an_epoch_that_comes_back_after_that_is_over(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await keeper.open(b"ann")
        await self.forget(keeper, monkeypatch)
        keeper.gateway.asked_at_ms -= FORGOTTEN_MS
        refused = await keeper.service.lease(APP.key, EDGE, 1)
        assert not refused.holds and await keeper.online(b"ann") == [False]
        await keeper.lease(2)
        assert await keeper.online(b"ann") == [False] and keeper.service.session_count == 0

    async def test_one_that_kept_asking_lost_it_to_redis(self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        await keeper.open(b"ann")
        for _ in range(3):
            keeper.gateway.asked_at_ms -= FORGOTTEN_MS // 2
            await keeper.lease()
        await self.forget(keeper, monkeypatch)
        await keeper.lease()
        assert await keeper.online(b"ann") == [True]


class TestLettingGo:
    async def test_a_gateway_that_is_back_in_time_finds_its_sessions_remembered(self, keeper: Keeper) -> None:
        await keeper.open(b"ann")
        keeper.service.let_go(keeper.gateway)
        await keeper.lease()
        await lose_all(keeper)
        await keeper.lease()
        assert await keeper.online(b"ann") == [True]

    async def test_one_that_stays_away_for_a_lease_is_forgotten(self, redis_server: RedisServer) -> None:
        keeper = Keeper(redis_server.url, lease_ttl_ms=1)
        await keeper.lease()
        await keeper.open(b"ann")
        assert keeper.service.session_count == 1
        keeper.service.let_go(keeper.gateway)
        await wait_until_async(lambda: not keeper.service.gateways, SLACK_S, "it to be forgotten")
        assert keeper.service.session_count == 0
        await keeper.aclose()


class TestAbandoned:
    async def test_an_abandoned_session_is_closed_though_it_is_still_being_opened(self, keeper: Keeper) -> None:
        session = keeper.gateway.new_session(keeper.verified(b"ann"), "iOS", "")
        pending = keeper.gateway.open(session)
        keeper.gateway.abandon(session.id)
        assert await pending.wait() == "ok"

        async def is_gone() -> bool:
            return await keeper.online(b"ann") == [False]

        await wait_until_async(is_gone, SLACK_S, "it to be closed")

    async def test_it_is_closed_after_an_outage_without_a_renewal(
        self, redis_server: RedisServer, cable: Cable
    ) -> None:
        through, direct = Keeper(cable.url, DEADLINE_MS), Keeper(redis_server.url)
        await through.lease()
        session = await through.open(b"ann")
        cable.cut()
        through.gateway.abandon(session)
        assert await direct.online(b"ann") == [True]
        cable.mend()

        async def is_gone() -> bool:
            return await direct.online(b"ann") == [False]

        await wait_until_async(is_gone, SLACK_S, "it to be closed")
        await through.aclose()
        await direct.aclose()


class TestBatches:
    @pytest.fixture
    async def batches(self, keeper: Keeper) -> Batches:
        return keeper.service.batches

    async def test_calls_of_one_turn_travel_together_and_in_order(self, keeper: Keeper, batches: Batches) -> None:
        sent: list[int] = []
        inner = keeper.store.client.write_each

        async def counted(calls: list[Call]) -> list[object]:
            sent.append(len(calls))
            return await inner(calls)

        keeper.store.client.write_each = counted  # type: ignore[method-assign, assignment]
        calls = [keeper.store.asking_online(APP.key, [b"x"] * (nth % 5 + 1)) for nth in range(MAX_CALLS_A_BATCH + 88)]
        pending = [batches.submit(call, len) for call in calls]
        assert [await pending.wait() for pending in pending] == [nth % 5 + 1 for nth in range(len(calls))]
        assert sent == [MAX_CALLS_A_BATCH, 88]

    async def test_one_that_the_server_refuses_fails_alone(self, keeper: Keeper, batches: Batches) -> None:
        bad = SlicedCall(APP.key, Script("bad", "return redis.error_reply('WRONG')", "0" * 40), (), [b"x"], 1)
        good = keeper.store.closing(APP.key, EDGE, 1, b"stranger", "x", "closed")
        first, second, third = (batches.submit(call, closed) for call in (good, bad, good))
        assert await first.wait() == "gone"
        with pytest.raises(ReplyError):
            await second.wait()
        assert await third.wait() == "gone"

    async def test_a_lost_server_fails_all_and_says_what_is_known(
        self, redis_server: RedisServer, cable: Cable
    ) -> None:
        keeper = Keeper(cable.url, DEADLINE_MS)
        await keeper.lease()
        cable.freeze()
        gateway = keeper.gateway

        def opening(user: bytes) -> PendingResult[OpenOutcome]:
            return gateway.open(gateway.new_session(keeper.verified(user), "iOS", ""))

        sent = [opening(b"u%d" % nth) for nth in range(3)]
        for pending in sent:
            with pytest.raises(StoreUnavailable) as unknown:
                await pending.wait()
            assert unknown.value.outcome == "unknown"
        late = opening(b"late")
        with pytest.raises(StoreUnavailable) as unsent:
            await late.wait()
        assert unsent.value.outcome == "not-written"
        cable.cut()
        cable.mend()
        await keeper.aclose()
