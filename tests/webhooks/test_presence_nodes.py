"""Presence webhooks where several nodes tell, die, lose Redis, and where thousands of Users come at once: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec

from gate.clock import wall_ms
from gate.core.presence import Cursor
from gate.store import presence_keys as keys
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.feed import Feed
from gate.store.store import Store
from gate.store.webhook_claims import CLAIM_MS
from gate.webhooks.presence import TRY_EVERY_MS
from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on, spread
from tests.webhooks.notifier import (
    IN_TIME_S,
    KEY,
    Deployment,
    HandClock,
    changes,
    heard,
    looked,
    notifying,
    online,
    watches,
)
from tests.webhooks.receiver import Receiver, receiving

BEGINNING = Cursor("0", 0, 0)
USERS = [b"u%d" % number for number in range(300)]


def end_of_claim(redis_server: RedisServer, key: str = KEY) -> None:
    """As if the others had watched it for long enough."""
    redis_server.client.hset(keys.hook(key), "free", 1)


async def test_one_of_two_nodes_delivers_and_the_other_continues_after_it(
    deployment: Deployment, listener: Receiver
) -> None:
    gateway = await deployment.add(listener.url)
    one, two = deployment.notifier("one"), deployment.notifier("two")
    async with notifying(two):
        async with notifying(one):
            await wait_until_async(
                lambda: KEY in two.receivers and KEY in one.receivers, IN_TIME_S, "both to know the App"
            )
            await wait_until_async(
                lambda: [bool(each.receivers[KEY].cursor) for each in (one, two)].count(True) == 1,
                IN_TIME_S,
                "a claim",
            )
            for at in range(0, 200, 20):
                await gateway.open_many(USERS[at : at + 20])
                await heard(listener, online(USERS[: at + 20]))
        await gateway.open_many(USERS[200:])
        await heard(listener, online(USERS))


async def test_a_node_that_died_is_replaced_once_its_claim_was_watched(
    deployment: Deployment, listener: Receiver
) -> None:
    gateway, dead = await deployment.add(listener.url), deployment.notifier("dead")
    await looked(dead)
    await gateway.open(b"ann")
    alive = deployment.notifier("alive", clock=(clock := HandClock()))
    async with alive.poster:
        for _ in range(CLAIM_MS // TRY_EVERY_MS):
            await looked(alive)
            clock.now_ms += TRY_EVERY_MS
        assert not listener.callbacks, "the claim holds"
        await looked(alive)
        await heard(listener, [("ann", "0")])


async def test_a_node_that_lost_its_claim_moves_nothing_and_delivers_nothing(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    """As one that was stopped for a while with an attempt under way."""
    listener.statuses = [0, 200]
    gateway, slow = await deployment.add(listener.url), deployment.notifier("slow")
    async with slow.poster:
        await slow.look()
        await gateway.open(b"ann")
        await slow.look()
        await wait_until_async(lambda: listener.callbacks, IN_TIME_S, "the attempt")
        end_of_claim(redis_server)
        async with notifying(deployment.notifier("quick")):
            await heard(listener, [("ann", "0"), ("ann", "0")])
            delivered_up_to = redis_server.client.hget(keys.hook(KEY), "cursor")
            running = slow.receivers[KEY].running
            assert running is not None
            await asyncio.wait_for(running, IN_TIME_S)
            slow.receivers[KEY].claim_at_ms = 0
            await slow.look()
            assert slow.receivers[KEY].cursor is None
            await gateway.open(b"bob")
            await heard(listener, [("ann", "0"), ("ann", "0"), ("bob", "0")])
            assert redis_server.client.hget(keys.hook(KEY), "cursor") != delivered_up_to


async def test_a_node_that_lost_its_claim_takes_over_once_the_other_is_gone(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    listener.statuses = [0, 200]
    gateway, slow = await deployment.add(listener.url), deployment.notifier("slow")
    async with notifying(slow):
        await watches(slow)
        await gateway.open(b"ann")
        await wait_until_async(lambda: listener.callbacks, IN_TIME_S, "the attempt")
        end_of_claim(redis_server)
        async with notifying(deployment.notifier("quick")):
            await heard(listener, [("ann", "0"), ("ann", "0")])
            await wait_until_async(lambda: slow.receivers[KEY].cursor is None, IN_TIME_S, "the loss to be noticed")
        await gateway.open(b"bob")
        await heard(listener, [("ann", "0"), ("ann", "0"), ("bob", "0")])


async def test_a_cursor_that_redis_lost_is_not_taken_for_a_new_webhook(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    """Redis came back empty, and the node that did not tell so far is the first to ask."""
    gateway, one, two = await deployment.add(listener.url), deployment.notifier("one"), deployment.notifier("two")
    async with one.poster, two.poster:
        await looked(one)
        await looked(two)
        redis_server.client.delete(keys.hook(KEY))
        await gateway.open(b"ann")
        two.receivers[KEY].claim_at_ms = 0
        await looked(two)
        await heard(listener, [("ann", "0")])


async def test_what_a_node_that_died_claimed_is_forgotten_when_its_claim_ends(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    """Or a webhook that comes back later would begin with all that it missed."""
    await deployment.add(listener.url)
    await looked(deployment.notifier("dead"))
    await deployment.set_url("")
    alive = deployment.notifier("alive", clock=(clock := HandClock()))
    await alive.look()
    clock.now_ms += CLAIM_MS - 1
    await alive.look()
    assert redis_server.client.exists(keys.hook(KEY)), "the claim holds"
    clock.now_ms += 1
    await alive.look()
    assert not redis_server.client.exists(keys.hook(KEY))


async def test_a_cut_to_redis_loses_nothing(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    gateway = await deployment.add(listener.url)
    with Cable(redis_server.port) as cable:
        client = client_of(parse_address(cable.url), 1_000, 1_000)
        notifier = deployment.notifier(client=client)
        async with notifying(notifier):
            await watches(notifier)
            for at in range(0, 300, 100):
                await gateway.open_many(USERS[at : at + 50])
                await wait_until_async(lambda: listener.callbacks, IN_TIME_S, "something")
                with cable.cut_off():
                    await gateway.open_many(USERS[at + 50 : at + 100])
                    await wait_until_async(lambda: not client.server_id, IN_TIME_S, "the cut to be seen")
            wanted = online(USERS)
            await wait_until_async(lambda: set(changes(listener)) == set(wanted), IN_TIME_S, "all of it")
            assert list(dict.fromkeys(changes(listener))) == wanted, "in order; some may come twice"
        await client.aclose()


async def test_a_receiver_gets_all_in_order_while_users_move_to_more_slices(
    deployment: Deployment, listener: Receiver
) -> None:
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        sessions = await gateway.open_many(USERS[:150])
        await spread(deployment.presence, KEY, 8)
        sessions += await gateway.open_many(USERS[150:])
        await deployment.presence.kick(KEY, USERS, "kicked")
        for at in range(8):
            while (await deployment.presence.announce(KEY, at))[0]:
                pass
        wanted = {(user.decode(), status) for user in USERS for status in "01"}
        await wait_until_async(lambda: set(changes(listener)) == wanted, IN_TIME_S, "all of it")
    heard = changes(listener)
    assert len(heard) == len(wanted) == 2 * len(sessions)
    assert all(heard.index((user.decode(), "0")) < heard.index((user.decode(), "1")) for user in USERS)
    # The next one goes on from the cursor of all slices that Redis keeps.
    async with notifying(deployment.notifier("next")):
        await gateway.open_many(USERS[:20])
        await wait_until_async(lambda: len(changes(listener)) == len(heard) + 20, IN_TIME_S, "what came then")
    assert deployment.counted["changes lost"] == 0


async def test_a_storm_of_reconnects_is_delivered_whole_and_in_order(
    deployment: Deployment, listener: Receiver
) -> None:
    users = [b"s%d" % number for number in range(2_000)]
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        for _ in range(2):
            await gateway.open_many(users)
            await gateway.store.kick(KEY, users, "kicked")
            while (await gateway.store.announce(KEY))[0]:
                pass
        await gateway.open_many(users)
        entries, after = [], BEGINNING
        while some := await Feed(deployment.presence.client, KEY).read(after, 1_000):
            entries += some
            after = some[-1].cursor
        wanted = [(one.user.decode(), "0" if one.kind == "online" else "1") for one in entries if one.kind != "kick"]
        assert len(wanted) == 5 * len(users)
        await heard(listener, wanted)
    assert deployment.counted["changes delivered"] == len(wanted)


class TestService:
    """A whole node."""

    async def test_a_killed_background_role_delivers_after_its_restart(
        self, start_service: Services, private_redis: RedisServer
    ) -> None:
        async with receiving() as listener:
            service = await asyncio.to_thread(start_service.start, redis_url=private_redis.url)
            gateway = await self.receiving_at(service, private_redis, listener.url)
            listener.statuses = [200, 0, 200]
            await gateway.open(b"first")
            await heard(listener, [("first", "0")])
            await gateway.open_many(USERS)
            await wait_until_async(lambda: len(listener.callbacks) == 2, IN_TIME_S, "an attempt under way")
            (background,) = [one for one in service.processes() if " background " in one.command]
            os.kill(background.pid, signal.SIGKILL)
            wanted = online([b"first", *USERS])
            await wait_until_async(lambda: set(changes(listener)) == set(wanted), 30, "all of it")
            assert list(dict.fromkeys(changes(listener))) == wanted, "in order; some come twice"
            await gateway.store.client.aclose()

    async def receiving_at(self, service: GateService, redis: RedisServer, url: str) -> Gateway:
        """A Gateway of the service's App, once the App's presence webhook goes to `url`."""
        store, presence = await Store.connect(redis.url, partitions=16), presence_on(redis.url)
        assert service.app_key is not None
        app, _ = await store.apps.update(
            service.app_key, lambda facts: msgspec.structs.replace(facts, presence_webhook_url=url), wall_ms()
        )
        await store.aclose()
        await wait_until_async(lambda: redis.client.hget(keys.hook(app.key), "cursor"), IN_TIME_S, "a claim")
        return await Gateway(presence, app).lease()
