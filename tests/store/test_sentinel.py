"""Behind Sentinels: a failover is followed at once, replies of a demoted primary do not count, dead servers cost no time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.address import parse_address
from gate.store.link import LinkLost
from gate.store.sentinel import Sentinels, look_at_each
from gate.store.store import Store
from harness.ports import LOOPBACK, free_port
from harness.sentinels import NAME, SentinelSetup, Switches
from harness.servers import RedisServer
from harness.tls import make_certificate
from harness.waiting import NotInTime, wait_until_async
from tests.store.acl import PASSWORD, denied, documented_words, make_user

APP = "default"
WRITERS = 4
ACCEPTED_WITHIN_S = 2.0
"""After the election of the new primary; the bound for the worst of 20."""
SWITCH_TIMEOUT_S = 20.0
AT_ONCE_S = 1.0


def by_command(setup: SentinelSetup) -> None:
    setup.fail_over()


def by_kill(setup: SentinelSetup) -> None:
    setup.primary.kill()


def by_pause(setup: SentinelSetup) -> None:
    setup.primary.pause()


class Writing:
    """Bans of Users u0, u1, … by several writers at once; when each was acknowledged, on the monotonic clock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0
        self.acknowledged: dict[bytes, float] = {}
        self.outcomes: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def on(cls, store: Store) -> AsyncIterator[Writing]:
        writing = cls(store)
        tasks = [asyncio.create_task(writing._run()) for _ in range(WRITERS)]
        try:
            yield writing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def since(self, moment_s: float) -> list[bytes]:
        """The writes acknowledged after a moment."""
        return [user for user, at_s in self.acknowledged.items() if at_s > moment_s]

    async def _run(self) -> None:
        while True:
            user = b"u%d" % self._next
            self._next += 1
            try:
                await self._store.bans.impose(APP, [user], FOREVER_MS, 1)
            except StoreUnavailable as refused:
                self.outcomes[refused.outcome] = self.outcomes.get(refused.outcome, 0) + 1
                await asyncio.sleep(0.002)
            else:
                self.acknowledged[user] = time.monotonic()


def lost(server: RedisServer, users: list[bytes], partitions: int) -> list[bytes]:
    """Those Users that the server does not know."""
    pipeline = server.client.pipeline(transaction=False)
    for user in users:
        pipeline.exists(keys.user(partition_of(APP, user, partitions), APP, user).decode("latin-1"))
    return [user for user, is_there in zip(users, pipeline.execute(), strict=True) if not is_there]


@pytest.fixture
async def store(sentinel_setup: SentinelSetup) -> AsyncIterator[Store]:
    opened = await Store.connect(sentinel_setup.url)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("sentinel_setup", ["redis-7", "valkey-9"], indirect=True)
@pytest.mark.parametrize("fail", [by_command, by_kill, by_pause])
async def test_writes_go_on_at_the_new_primary(
    fail: Callable[[SentinelSetup], None], sentinel_setup: SentinelSetup, store: Store
) -> None:
    old = sentinel_setup.primary
    with Switches(sentinel_setup.sentinels) as switches:
        async with Writing.on(store) as writing:
            await wait_until_async(lambda: len(writing.acknowledged) > 50, 10, "writes")
            await asyncio.to_thread(fail, sentinel_setup)
            await wait_until_async(lambda: switches.are_all_heard, SWITCH_TIMEOUT_S, "every Sentinel to have switched")
            await wait_until_async(
                lambda: len(writing.since(switches.last_s)) > 50, ACCEPTED_WITHIN_S + 5, "writes at the new primary"
            )
        if fail is by_pause:
            old.resume()
            await asyncio.to_thread(sentinel_setup.wait_whole)
    new = sentinel_setup.primary
    assert new is not old
    gone = set(lost(new, list(writing.acknowledged), store.partitions))
    early = [user for user in writing.since(switches.first_s) if user not in gone]
    took_s = writing.acknowledged[early[0]] - switches.first_s
    print(f"accepted after {1_000 * took_s:.0f} ms; lost before the switch: {len(gone)}; refused: {writing.outcomes}")
    assert took_s <= ACCEPTED_WITHIN_S
    assert gone & set(writing.since(switches.first_s)) == set()


async def test_an_old_primary_that_goes_on_acknowledges_no_more(tmp_path: Path) -> None:
    """Sentinels demote it some ten seconds later; until then it takes writes of clients that still have a connection."""
    setup = await asyncio.to_thread(SentinelSetup.start, "redis-7", tmp_path, is_hasty=False)
    stores = [await Store.connect(setup.url) for _ in range(3)]
    try:
        old = setup.primary
        with Switches(setup.sentinels) as switches:
            async with Writing.on(stores[0]) as one, Writing.on(stores[1]) as two, Writing.on(stores[2]) as three:
                await wait_until_async(lambda: len(one.acknowledged) > 50, 10, "writes")
                await asyncio.to_thread(setup.fail_over)
                await wait_until_async(lambda: switches.are_all_heard, SWITCH_TIMEOUT_S, "the switch")
                old.client.set("still", "a primary")
                begun = len(one.acknowledged)
                await wait_until_async(lambda: len(one.acknowledged) > begun + 50, 10, "writes at the new primary")
        new = setup.primary
        for writing in (one, two, three):
            after = writing.since(switches.first_s)
            assert after and lost(new, after, stores[0].partitions) == []
    finally:
        for store in stores:
            await store.aclose()
        setup.stop()


async def test_a_primary_that_was_frozen_gets_no_more_acknowledgements(
    sentinel_setup: SentinelSetup, store: Store
) -> None:
    old = sentinel_setup.primary
    await ban(store, b"before")
    old.pause()
    new = await asyncio.to_thread(sentinel_setup.wait_switched, old)
    await wait_until_async(lambda: is_in(store, b"after"), 5, "a write at the new primary")
    old.resume()
    for number in range(200):
        await ban(store, b"after%d" % number)
    users = [b"before", b"after", *(b"after%d" % number for number in range(200))]
    assert lost(new, users, store.partitions) == []


async def test_without_any_sentinel_writes_go_on_and_connecting_fails_fast(
    sentinel_setup: SentinelSetup, store: Store
) -> None:
    await ban(store, b"one")
    for sentinel in sentinel_setup.sentinels:
        sentinel.kill()
    await wait_until_async(lambda: store.client.address_problem, 5, "the look at the address to fail")
    await ban(store, b"two")
    store.client.reconnect("a test")
    for _ in range(5):
        begun_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no Sentinel of redis\+sentinel://") as refused:
            await ban(store, b"three")
        assert refused.value.outcome == "not-written"
        assert time.monotonic() - begun_s < AT_ONCE_S
    sentinel_setup.sentinels[1].launch()
    await wait_until_async(lambda: is_in(store, b"three"), 5, "one Sentinel to suffice")


async def test_sentinels_that_hang_cost_no_more_than_connecting_may_take(sentinel_setup: SentinelSetup) -> None:
    for sentinel in sentinel_setup.sentinels[:2]:
        sentinel.pause()
    store = await Store.connect(sentinel_setup.url)  # most do not answer: the one that does counts
    sentinel_setup.sentinels[0].resume()
    store.client.reconnect("a test")
    begun_s = time.monotonic()
    await ban(store, b"one")
    assert time.monotonic() - begun_s < AT_ONCE_S
    await store.aclose()


async def test_a_sentinel_that_was_cut_off_is_not_believed(sentinel_setup: SentinelSetup, tmp_path: Path) -> None:
    """It names a dead primary. A client that just starts has no other knowledge, and asks most of them."""
    old = sentinel_setup.primary
    old.kill()
    await asyncio.to_thread(sentinel_setup.wait_switched, old)
    cut_off = SentinelSetup([old], [])
    try:
        cut_off.start_sentinels("redis-7", tmp_path / "cut-off", count=1, is_waited_for=False)
        both = f"{LOOPBACK}:{cut_off.sentinels[0].port},{sentinel_setup.url.partition('://')[2]}"
        store = await Store.connect(f"redis+sentinel://{both}")
        await ban(store, b"one")
        await store.aclose()
    finally:
        cut_off.sentinels[0].kill()


async def test_an_answer_older_than_what_is_known_is_not_taken(sentinel_setup: SentinelSetup) -> None:
    moves: list[str] = []
    asking = Sentinels(parse_address(sentinel_setup.url), 500, moves.append, bool)
    before = await asking.primary()
    asking.epoch += 5
    with pytest.raises(LinkLost, match="have older knowledge than others had before"):
        for sentinel in sentinel_setup.sentinels[:2]:
            sentinel.kill()
        await asking.primary()
    for sentinel in sentinel_setup.sentinels[:2]:
        sentinel.launch()
    assert await asking.primary() == before, "most of them say so"
    assert moves == []
    await asking.aclose()


async def test_a_failover_is_followed_without_any_message(sentinel_setup: SentinelSetup) -> None:
    for sentinel in sentinel_setup.sentinels:
        words = ("ACL", "SETUSER", "deaf", "on", ">secret", "+@all", "-subscribe")
        sentinel.client.execute_command(*words)
    store = await Store.connect(f"{sentinel_setup.url}?sentinel_username=deaf&sentinel_password=secret")
    old = sentinel_setup.primary
    await ban(store, b"one")
    await asyncio.to_thread(sentinel_setup.fail_over)
    new = await asyncio.to_thread(sentinel_setup.wait_switched, old)
    new_id = new.client.info("server")["run_id"]

    async def is_followed() -> bool:
        return await is_in(store, b"two") and store.client.server_id.startswith(new_id)

    await wait_until_async(is_followed, ACCEPTED_WITHIN_S, "a write at the new primary")
    await store.aclose()


async def test_host_names_are_used_as_announced(tmp_path: Path) -> None:
    lines = ["sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"]
    setup = await asyncio.to_thread(SentinelSetup.start, "redis-7", tmp_path, (), lines, host="localhost")
    try:
        store = await Store.connect(setup.url)
        await ban(store, b"one")
        sentinels = store.client.sentinels
        assert sentinels is not None and sentinels.named is not None
        assert sentinels.named.host == "localhost"
        await store.aclose()
    finally:
        setup.stop()


async def test_closing_the_store_ends_what_listens(sentinel_setup: SentinelSetup) -> None:
    store = await Store.connect(sentinel_setup.url)
    await wait_until_async(lambda: all(map(listens, sentinel_setup.sentinels)), 5, "it to listen to all of them")
    await store.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await wait_until_async(lambda: not any(map(listens, sentinel_setup.sentinels)), 5, "its connections to end")


@pytest.mark.parametrize("sentinel_setup", ["redis-7", "valkey-9"], indirect=True)
async def test_a_planned_failover_loses_nothing(sentinel_setup: SentinelSetup, store: Store) -> None:
    """As documented in docs/operations.md: writes are stopped at the old primary first."""
    old = sentinel_setup.primary
    await asyncio.to_thread(sentinel_setup.wait_whole)
    async with Writing.on(store) as writing:
        await wait_until_async(lambda: len(writing.acknowledged) > 50, 10, "writes")
        old.client.client_pause(4_000, all=False)
        sentinel_setup.fail_over(is_whole=True)
        new = await asyncio.to_thread(sentinel_setup.wait_switched, old)
        begun = len(writing.acknowledged)
        await wait_until_async(lambda: len(writing.acknowledged) > begun + 50, 10, "writes at the new primary")
    assert lost(new, list(writing.acknowledged), store.partitions) == []


@pytest.fixture
def with_rights(sentinel_setup: SentinelSetup) -> str:
    """The documented users on the servers and at the Sentinels; the URL that uses both."""
    for server in sentinel_setup.servers:
        make_user(server)
    for sentinel in sentinel_setup.sentinels:
        sentinel.client.execute_command("ACL", "SETUSER", *documented_words("acl-sentinel"))
    hosts = sentinel_setup.url.removeprefix("redis+sentinel://")
    return f"redis+sentinel://gate:{PASSWORD}@{hosts}?sentinel_username=gate&sentinel_password={PASSWORD}"


async def test_the_documented_rights_suffice(sentinel_setup: SentinelSetup, with_rights: str) -> None:
    store = await Store.connect(with_rights, tries_rights=True)
    old = sentinel_setup.primary
    await ban(store, b"one")
    await asyncio.to_thread(sentinel_setup.fail_over)
    await asyncio.to_thread(sentinel_setup.wait_switched, old)
    await wait_until_async(lambda: is_in(store, b"two"), 5, "a write at the new primary")
    looks = await look_at_each(store.client.address, 1_000)
    assert [look.problem for look in looks] == [""] * 3
    with pytest.raises(StoreUnavailable, match=f"they know {NAME}"):
        await Store.connect(with_rights.replace(f"/{NAME}?", "/other?"))
    await store.aclose()
    assert [denied(server) for server in [*sentinel_setup.sentinels, *sentinel_setup.servers]] == [set()] * 6


@pytest.mark.parametrize("sentinel_setup", ["redis-7"], indirect=True)
async def test_no_documented_right_is_for_nothing(sentinel_setup: SentinelSetup, with_rights: str) -> None:
    sentinel = sentinel_setup.sentinels[0]
    words = documented_words("acl-sentinel")
    only = f"{LOOPBACK}:{sentinel.port}/{NAME}?{with_rights.partition('?')[2]}"
    address = parse_address(f"redis+sentinel://{only}")

    async def everything() -> None:
        asking = Sentinels(address, 500, bool, bool)
        following = asyncio.create_task(asking.follow())
        other = Sentinels(address._replace(master_name="other"), 500, bool, bool)
        with contextlib.suppress(LinkLost):
            await asking.primary()
        with contextlib.suppress(LinkLost):
            await other.primary()
        await look_at_each(address, 500)
        with contextlib.suppress(NotInTime):  # if the right to listen is the missing one
            await wait_until_async(lambda: listens(sentinel), 0.3, "it to listen")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await asking.aclose()
        await other.aclose()

    await everything()
    assert denied(sentinel) == set()
    for word in words:
        if word[0] not in "+&":
            continue
        # Without a channel: all of them but this one.
        fewer = [each for each in words if each != word]
        sentinel.client.execute_command("ACL", "DELUSER", "gate")
        sentinel.client.execute_command("ACL", "SETUSER", *fewer)
        await everything()
        assert denied(sentinel), word


async def test_sentinels_and_servers_over_tls(tmp_path: Path) -> None:
    certificate, port, sentinel_port = make_certificate(tmp_path), free_port(), free_port()
    server = RedisServer.start("redis-7", tmp_path / "server", extra=certificate.server_options(port))
    setup = SentinelSetup([server], [])
    options = certificate.server_options(sentinel_port)
    lines = [f"{name.removeprefix('--')} {value}" for name, value in zip(options[::2], options[1::2], strict=True)]
    try:
        setup.start_sentinels(
            "redis-7", tmp_path, [*lines, "tls-replication yes"], 1, server_port=port, is_waited_for=False
        )
        authority = f"ssl_ca_certs={certificate.certificate}"
        store = await Store.connect(f"rediss+sentinel://{LOOPBACK}:{sentinel_port}/{NAME}?{authority}")
        await ban(store, b"one")
        assert store.client.address.tls
        await store.aclose()
        with pytest.raises(StoreUnavailable, match="no Sentinel of"):
            await Store.connect(f"redis+sentinel://{LOOPBACK}:{sentinel_port}/{NAME}")
    finally:
        setup.stop()


async def test_credentials_that_sentinels_want_are_named(sentinel_setup: SentinelSetup) -> None:
    for sentinel in sentinel_setup.sentinels:
        sentinel.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
    for query in ("", "?sentinel_password=wrong"):
        with pytest.raises(StoreUnavailable, match=r"(NOAUTH|WRONGPASS).*its credentials are sentinel_username"):
            await Store.connect(f"{sentinel_setup.url}{query}")
    store = await Store.connect(f"{sentinel_setup.url}?sentinel_password=other")
    await store.aclose()


def listens(server: RedisServer) -> bool:
    """Whether all channels have a subscriber."""
    clients: list[dict[str, str]] = server.client.client_list()
    return any(each["sub"] == "3" for each in clients)


async def ban(store: Store, user: bytes) -> None:
    await store.bans.impose(APP, [user], FOREVER_MS, 1)


async def is_in(store: Store, user: bytes) -> bool:
    with contextlib.suppress(StoreUnavailable):
        await ban(store, user)
        return True
    return False
