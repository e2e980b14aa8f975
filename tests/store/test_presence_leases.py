"""Names of Gateways: a bound on how many there are, and those that ended long ago are dropped without anything coming back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.core.model import AppFacts
from gate.core.presence import LEASE_KEPT_MS
from gate.core.sessions import OpenSession
from gate.errors import SessionRefused
from gate.store import presence as presence_module
from gate.store import presence_keys as keys
from gate.store.address import parse_address
from gate.store.presence import PresenceStore, opened
from harness.servers import RedisServer
from tests.presence.played import PATIENCE_MS, Gateway
from tests.store.played_clock import PlayedClock, put_away, set_clock

APP = AppFacts(key="default", secrets=("s",))
ANN = b"ann"
NOON_MS = 1_800_000_000_000
DAY_LATER_MS = NOON_MS + LEASE_KEPT_MS + 1


class Server:
    """A server whose clock the test sets."""

    def __init__(self, redis: RedisServer) -> None:
        self.client = redis.client
        self.store = PresenceStore(PlayedClock(parse_address(redis.url), PATIENCE_MS, PATIENCE_MS))
        self.set_ms(NOON_MS)

    def set_ms(self, now_ms: int) -> None:
        set_clock(self.client, APP.key, now_ms * 1_000)

    async def tidied_at(self, now_ms: int) -> int:
        self.set_ms(now_ms)
        return await self.store.tidy(APP.key)

    async def names(self) -> list[bytes]:
        (leases,) = await self.store.leases([APP.key])
        return [lease.gateway for lease in leases]


@pytest.fixture
async def server(each_redis: RedisServer) -> AsyncIterator[Server]:
    server = Server(each_redis)
    yield server
    put_away(server.client, APP.key)
    await server.store.client.aclose()


async def ended(server: Server, name: bytes = b"edge-1", users: tuple[bytes, ...] = (ANN,)) -> Gateway:
    """A Gateway whose lease ended and whose Sessions were swept."""
    gateway = await Gateway(server.store, APP, name).lease()
    await gateway.open_many(list(users))
    assert await server.store.end_lease(APP.key, name, gateway.epoch)
    while (await server.store.sweep(APP.key))[1]:
        pass
    return gateway


async def test_one_name_too_many_is_refused_and_the_others_go_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "MAX_GATEWAYS_AN_APP", 2)
    one, other = await Gateway(server.store, APP, b"one").lease(), await ended(server, b"other")
    with pytest.raises(SessionRefused, match="this App has 2 Gateways") as refused:
        await server.store.lease(APP.key, b"third", 1)
    assert refused.value.fault == "too-many-gateways"
    assert (await server.store.lease(APP.key, one.name, one.epoch)).holds
    assert (await server.store.lease(APP.key, other.name, other.epoch + 1)).holds
    assert await server.names() == [b"one", b"other"]
    await server.store.end_lease(APP.key, other.name, other.epoch + 1)
    assert await server.tidied_at(DAY_LATER_MS) == 1
    assert (await server.store.lease(APP.key, b"third", 1)).is_new


async def test_a_day_is_counted_from_the_end_and_those_that_hold_stay(server: Server) -> None:
    await Gateway(server.store, APP, b"holds").lease()
    quiet = await Gateway(server.store, APP, b"quiet").lease()
    server.set_ms(DAY_LATER_MS)  # as after an outage of a day
    await server.store.end_lease(APP.key, quiet.name, quiet.epoch)
    assert await server.tidied_at(DAY_LATER_MS + LEASE_KEPT_MS) == 0
    assert (await server.store.lease(APP.key, quiet.name, quiet.epoch)).holds is False, (
        "it is fenced for all of the day"
    )
    assert await server.tidied_at(DAY_LATER_MS + LEASE_KEPT_MS + 1) == 1
    assert await server.names() == [b"holds"]


async def test_an_old_epoch_that_comes_back_after_that_revives_nothing(server: Server) -> None:
    gateway = await ended(server)
    assert await server.tidied_at(DAY_LATER_MS) == 1
    leased = await server.store.lease(APP.key, gateway.name, gateway.epoch)
    assert leased.holds and leased.is_new
    assert await server.store.online(APP.key, [ANN]) == [False]
    counts = await server.store.counts(APP.key)
    assert (counts.users, counts.total, counts.sweeping) == (0, 0, 0)
    assert not list(server.client.scan_iter(keys.base(APP.key) + b"held:*"))


async def test_nothing_is_dropped_while_sessions_are_being_swept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest epoch's may be the last: it must not be live again by coming back."""
    gateway = await Gateway(server.store, APP).lease()
    await gateway.open_many([ANN, b"bob"])
    await gateway.lease()
    await server.store.end_lease(APP.key, gateway.name, gateway.epoch)
    assert await server.tidied_at(DAY_LATER_MS) == 0
    monkeypatch.setattr(presence_module, "SWEPT_A_SCRIPT", 1)
    assert await server.store.sweep(APP.key) == (1, 1)
    assert await server.tidied_at(DAY_LATER_MS) == 0
    assert await server.store.sweep(APP.key) == (1, 0)
    assert await server.tidied_at(DAY_LATER_MS) == 1


@pytest.mark.parametrize("back_ms", [1, 3_600_000, 100 * LEASE_KEPT_MS])
async def test_after_a_clock_was_set_back_the_day_starts_again(server: Server, back_ms: int) -> None:
    gateway = await ended(server)
    assert await server.tidied_at(NOON_MS - back_ms) == 0
    assert await server.tidied_at(NOON_MS - back_ms + LEASE_KEPT_MS) == 0
    assert (await server.store.lease(APP.key, gateway.name, gateway.epoch)).holds is False
    assert await server.tidied_at(NOON_MS - back_ms + LEASE_KEPT_MS + 1) == 1


async def test_sessions_can_be_opened_under_what_was_dropped_only_after_a_lease(server: Server) -> None:
    gateway = await ended(server)
    await server.tidied_at(DAY_LATER_MS)
    opening = OpenSession(APP, gateway.name, gateway.epoch, ANN, "A" * 11, "iOS", "", 0, "", 0)
    (reply,) = await server.store.exchange(server.store.opening(opening))
    assert opened(reply) == "nolease"
