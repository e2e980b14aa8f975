"""What the model once found to be wrong with the scripts of Presence, each by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec import msgpack

from gate.core.model import AppFacts
from gate.core.presence import session_id, session_parts
from gate.core.sessions import OpenSession
from gate.store import presence as presence_module
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.presence import LogPosition, PresenceStore, closed, opened
from harness.servers import RedisServer
from tests.presence.played import Gateway, presence_on
from tests.store.presence_model import BAR_MS

APP = AppFacts(key="default", secrets=("s",))
ANN = b"ann"


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(each_redis.url)
    yield store
    await store.client.aclose()


@pytest.fixture
async def gateway(store: PresenceStore) -> Gateway:
    return await Gateway(store, APP).lease()


async def opening_at(store: PresenceStore, gateway: Gateway, log_epoch: str, log_seq: int) -> str:
    stored_id = session_parts(session_id(b"12345678", ANN))[0]
    one = OpenSession(APP, gateway.name, gateway.epoch, ANN, stored_id, "iOS", "", 0, log_epoch, log_seq)
    (reply,) = await store.exchange(store.opening(one))
    return opened(reply)


async def test_a_session_is_brought_back_under_the_next_lease_before_it_is_swept(
    store: PresenceStore, gateway: Gateway
) -> None:
    session = await gateway.open(ANN)
    await gateway.lease()
    stored_id = session_parts(session)[0]
    again = OpenSession(APP, gateway.name, gateway.epoch, ANN, stored_id, "iOS", "", 0, "", 0, since_ms=7)
    (reply,) = await store.exchange(store.opening(again))
    assert opened(reply) == "ok"
    await store.sweep(APP.key)
    (presence,) = await store.presences(APP.key, [ANN])
    assert [(one.id, one.epoch, one.since_ms) for one in presence.sessions] == [(session, 2, 7)]
    counts = await store.counts(APP.key)
    assert (counts.total, counts.sweeping, counts.users) == (1, 0, 1)


async def test_a_node_that_lags_does_not_lower_the_bar_of_one_that_is_ahead(
    store: PresenceStore, gateway: Gateway
) -> None:
    await store.kick(APP.key, [ANN], "banned", up_to=LogPosition("e", 10))
    await store.kick(APP.key, [ANN], "token-revoked", up_to=LogPosition("e", 5))
    assert await opening_at(store, gateway, "e", 7) == "barred"
    assert await opening_at(store, gateway, "e", 10) == "ok"


async def set_bar_back(store: PresenceStore, redis: RedisServer, by_ms: int) -> None:
    """As if all bars had been set so much earlier."""
    barred = keys.base(APP.key) + b"barred"
    for user, _ in redis.client.zscan(barred)[1]:
        redis.client.zincrby(barred, -by_ms, user)


async def test_a_bar_of_a_clock_that_was_set_back_goes_too(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    await store.kick(APP.key, [ANN], "banned", up_to=LogPosition("e", 10))
    assert await store.drop_bars(APP.key) == 0
    await set_bar_back(store, each_redis, -10 * BAR_MS)
    assert await opening_at(store, gateway, "f", 1) == "barred"
    assert await store.drop_bars(APP.key) == 1
    assert await opening_at(store, gateway, "f", 1) == "ok"


async def test_a_node_that_lags_longer_than_bars_are_kept_opens_nothing_closed(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    await store.kick(APP.key, [ANN], "banned", up_to=LogPosition("e", 10))
    await set_bar_back(store, each_redis, 2 * BAR_MS)
    assert await store.drop_bars(APP.key) == 1
    assert await opening_at(store, gateway, "e", 9) == "barred"
    assert await opening_at(store, gateway, "e", 10) == "ok"


async def test_floors_take_the_place_of_bars_and_of_floors(store: PresenceStore, gateway: Gateway) -> None:
    """As after the Changelog was replaced: bars of the old one do not stop clients that no longer use it."""
    await store.set_floors(APP.key, {"e": 5, "d": 100})
    await store.kick(APP.key, [ANN], "banned", up_to=LogPosition("e", 10))
    await store.set_floors(APP.key, {"e": 99, "f": 3})
    assert await opening_at(store, gateway, "e", 98) == "barred"
    assert await opening_at(store, gateway, "f", 2) == "barred"
    assert await opening_at(store, gateway, "f", 3) == "ok"
    assert await opening_at(store, gateway, "d", 1) == "ok"


async def test_an_app_without_gateways_keeps_no_bars_for_long(store: PresenceStore, each_redis: RedisServer) -> None:
    """Every Ban leaves a bar, and an App without a lease is never swept."""
    base = keys.base(APP.key)
    await store.kick(APP.key, [b"u%d" % nth for nth in range(10)], "banned", up_to=LogPosition("e", 10))
    assert all(BAR_MS < each_redis.client.pttl(base + noun) <= 2 * BAR_MS for noun in (b"bars", b"barred"))
    await set_bar_back(store, each_redis, 2 * BAR_MS)
    await store.kick(APP.key, [b"v%d" % nth for nth in range(10)], "banned", up_to=LogPosition("e", 11))
    assert each_redis.client.hlen(base + b"bars") == each_redis.client.zcard(base + b"barred") == 10
    await Gateway(store, APP).lease()
    await store.kick(APP.key, [ANN], "banned", up_to=LogPosition("e", 12))
    assert all(each_redis.client.pttl(base + noun) == -1 for noun in (b"bars", b"barred"))


async def test_departures_dated_ahead_by_a_clock_set_back_are_announced_at_once(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: each script takes some of them."""
    monkeypatch.setattr(presence_module, "SWEPT_A_SCRIPT", 2)
    users = [b"u%d" % nth for nth in range(6)]
    for session in await gateway.open_many(users):
        await gateway.close(session)
    base = keys.base(APP.key)
    for user in users:
        packed = each_redis.client.hget(base + b"left", user)
        assert isinstance(packed, bytes)
        ((platform, left),) = msgpack.decode(packed).items()
        later = [left[0] + 3_600_000, *left[1:]]
        each_redis.client.hset(base + b"left", user, msgpack.encode({platform: later}))
        each_redis.client.zadd(base + b"leaving", {user: later[0]})
    assert [await store.announce(APP.key) for _ in range(3)] == [(2, 0), (2, 0), (2, None)]


async def test_a_session_of_an_ended_lease_is_gone_for_its_gateway_too(store: PresenceStore, gateway: Gateway) -> None:
    session = await gateway.open(ANN)
    stored_id = session_parts(session)[0]
    assert await store.end_lease(APP.key, gateway.name, gateway.epoch)
    touching = store.touching(APP.key, [(ANN, stored_id)])
    closing = store.closing(APP.key, gateway.name, gateway.epoch, ANN, stored_id, "closed")
    touched, reply = await store.exchange(touching, closing)
    assert (touched, closed(reply)) == ([0], "gone")
    assert await store.sweep(APP.key) == (1, 0)


async def test_a_close_and_an_open_in_one_pipeline_keep_order_after_a_restart(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    session = await gateway.open(ANN)
    leaving = store.closing(APP.key, gateway.name, gateway.epoch, ANN, session_parts(session)[0], "closed")
    back = OpenSession(
        APP, gateway.name, gateway.epoch, ANN, session_parts(session_id(b"87654321", ANN))[0], "iOS", "", 0, "", 0
    )
    each_redis.client.script_flush()  # as a restart does; and somebody else was faster with one of the two
    each_redis.client.script_load(scripts.PRESENCE_OPEN.source)
    reconnected = presence_on(each_redis.url)
    try:
        replies = await reconnected.exchange(leaving, reconnected.opening(back))
    finally:
        await reconnected.client.aclose()
    assert (closed(replies[0]), opened(replies[1])) == ("closed", "ok")
    (presence,) = await store.presences(APP.key, [ANN])
    assert len(presence.sessions) == 1
    assert presence.last_seen_ms > 0, "it came back before it had left"


async def test_an_open_and_a_close_in_one_pipeline_survive_a_flush_of_scripts(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    """In the wrong order the close finds no Session, and the open then creates one that is never closed."""
    await gateway.close(await gateway.open(b"bob"))  # both scripts went over this connection
    stored_id = session_parts(session_id(b"12345678", ANN))[0]
    coming = store.opening(OpenSession(APP, gateway.name, gateway.epoch, ANN, stored_id, "iOS", "", 0, "", 0))
    leaving = store.closing(APP.key, gateway.name, gateway.epoch, ANN, stored_id, "closed")
    each_redis.client.script_flush()
    each_redis.client.script_load(scripts.PRESENCE_CLOSE.source)  # as another connection that was faster
    came, online, left = await store.exchange(coming, store.asking_online(APP.key, [ANN]), leaving)
    assert (opened(came), online, closed(left)) == ("ok", [1], "closed")
    assert await store.online(APP.key, [ANN]) == [False]


async def test_the_last_activity_is_the_users_whichever_session_ends_last(
    store: PresenceStore, gateway: Gateway
) -> None:
    phone, desk = await gateway.open(ANN, "iOS"), await gateway.open(ANN, "Desktop")
    await store.exchange(store.touching(APP.key, [(ANN, session_parts(phone)[0])]))
    (before,) = await store.presences(APP.key, [ANN])
    await gateway.close(phone)
    await gateway.close(desk)
    (after,) = await store.presences(APP.key, [ANN])
    assert after.last_active_ms == before.last_active_ms >= before.sessions[1].since_ms
    assert after.last_seen_ms >= after.last_active_ms


async def test_to_ask_nothing_costs_nothing(store: PresenceStore, gateway: Gateway) -> None:
    """It once waited for a reply that could not come, and took the server for dead."""
    server_id = store.client.server_id
    assert await store.online(APP.key, []) == []
    assert await store.presences(APP.key, []) == []
    assert await store.kick(APP.key, [], "banned") == 0
    assert await store.client.write_each([]) == []
    assert store.client.server_id == server_id != ""


async def test_a_removed_app_leaves_nothing_and_no_call_waits_for_it(
    store: PresenceStore, each_redis: RedisServer
) -> None:
    """Not even where it is called as a Partition is, whose keys have the same tag; however many keys of others there are."""
    app = AppFacts(key="3", secrets=("s",))
    gateway, other = await Gateway(store, app, b"a:b").lease(), await Gateway(store, APP).lease()
    await gateway.open(b"of an old epoch")
    await gateway.lease()
    await gateway.open_many([ANN, b"bob"])
    await store.kick(app.key, [ANN], "banned", up_to=LogPosition("e", 1))
    await store.sample(app.key)
    await other.open(ANN)
    each_redis.client.set("gate:{3}:meta", "of the Partition")
    each_redis.client.config_resetstat()
    await store.remove_app(app.key)
    assert each_redis.client.keys("gate:{3}:*") == [b"gate:{3}:meta"]
    assert "cmdstat_scan" not in each_redis.client.info("commandstats")
    assert await store.apps() == [APP.key]
    assert await store.online(APP.key, [ANN]) == [True]
    each_redis.client.delete("gate:{3}:meta")


async def test_a_kick_of_very_many_is_done_in_short_steps(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    users = [b"u%d" % nth for nth in range(900)]
    await gateway.open_many(users)
    each_redis.client.config_resetstat()
    assert await store.kick(APP.key, users, "kicked") == len(users)
    stats = each_redis.client.info("commandstats")  # once by the script's source, then by its SHA-1
    scripts_run = sum(stats[name]["calls"] for name in ("cmdstat_eval", "cmdstat_evalsha"))
    assert scripts_run >= len(users) / presence_module.SWEPT_A_SCRIPT


@pytest.mark.parametrize("many", [1, 2, 15, 16, 64])
async def test_who_has_any_live_session_among_many_is_online(store: PresenceStore, gateway: Gateway, many: int) -> None:
    other = await Gateway(store, APP, b"edge-2").lease()
    other.epoch = 1_795_401_494_233
    await store.lease(APP.key, other.name, other.epoch)
    if many > 1:
        await gateway.open_many([ANN] * (many - 1))
    await other.open(ANN)
    assert await store.online(APP.key, [ANN, b"bob", ANN]) == [True, False, True]
    await store.end_lease(APP.key, gateway.name, gateway.epoch)
    assert await store.online(APP.key, [ANN, b"bob"]) == [True, False], "the last of them is live"
    await store.end_lease(APP.key, other.name, other.epoch)
    assert await store.online(APP.key, [ANN, b"bob"]) == [False, False]
