"""The server stopped, killed, cut off, full or demoted: every call ends in time, reports what is known, and recovers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from gate.core.changes import Change
from gate.core.model import FOREVER_MS, ListKind
from gate.core.revision import Position
from gate.errors import AppUnknown, StoreUnavailable
from gate.store import keys
from gate.store.address import parse_address
from gate.store.link import ReplyError, open_link, raise_if_error
from gate.store.store import Store
from gate.store.subscription import Subscription
from harness.cable import Cable
from harness.servers import Flavor, RedisServer
from harness.waiting import TIMER_EARLY_S, wait_until_async
from tests.store.following import Follower
from tests.store.touring import APP, FACTS, READS, WRITES

DEADLINE_MS = 300
AT_ONCE_S = 2.0
"""Far above what a busy machine needs; the outcome shows that no call waited for the deadline."""
BACK_S = 5.0


@pytest.fixture
async def fragile(private_redis: RedisServer) -> AsyncIterator[Store]:
    store = await Store.connect(private_redis.url, deadline_ms=DEADLINE_MS, connect_ms=DEADLINE_MS)
    yield store
    await store.aclose()


@pytest.fixture
def cable(private_redis: RedisServer) -> Iterator[Cable]:
    with Cable(private_redis.port) as between:
        yield between


@pytest.fixture
async def cabled(cable: Cable) -> AsyncIterator[Store]:
    url = f"redis://127.0.0.1:{cable.port}/0"
    store = await Store.connect(url, deadline_ms=DEADLINE_MS, connect_ms=DEADLINE_MS)
    yield store
    await store.aclose()


async def ban(store: Store, until_ms: int = 5_000) -> None:
    await store.bans.impose(APP, [b"ann"], until_ms, 1)


async def is_back(store: Store) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def back(store: Store) -> None:
    await wait_until_async(lambda: is_back(store), BACK_S, "the store to be back")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_reply_that_came_in_time_counts_however_late_the_loop_reads_it(
    private_redis: RedisServer, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def held_up() -> None:
        link = await open_link(parse_address(private_redis.url), 5_000)
        asked = [asyncio.create_task(link.exchange([("PING",)], DEADLINE_MS)) for _ in range(2)]
        await asyncio.sleep(0)  # they are sent
        time.sleep(2 * DEADLINE_MS / 1_000)
        assert await asyncio.gather(*asked) == [[b"PONG"]] * 2
        assert link.is_open, "what others have on their way is not lost"
        await link.aclose()

    run(held_up())


async def refusal_of(store: Store) -> tuple[str, float]:
    """Return the outcome of a write that must fail, and the seconds it took."""
    begun_s = time.monotonic()
    with pytest.raises(StoreUnavailable) as refused:
        await ban(store)
    return refused.value.outcome, time.monotonic() - begun_s


async def test_a_server_that_hangs_costs_one_deadline_and_then_nothing(
    private_redis: RedisServer, fragile: Store
) -> None:
    with private_redis.paused():
        outcome, took_s = await refusal_of(fragile)
        assert outcome == "unknown"
        assert DEADLINE_MS / 1000 - TIMER_EARLY_S <= took_s < DEADLINE_MS / 1000 + 3
        for _ in range(20):
            outcome, took_s = await refusal_of(fragile)
            assert (outcome, took_s < AT_ONCE_S) == ("not-written", True)
    await back(fragile)
    await ban(fragile)


async def test_callers_in_flight_fail_together_not_one_after_another(
    private_redis: RedisServer, fragile: Store
) -> None:
    with private_redis.paused():
        begun_s = time.monotonic()
        outcomes = await asyncio.gather(*(ban(fragile) for _ in range(200)), return_exceptions=True)
        assert time.monotonic() - begun_s < DEADLINE_MS / 1000 + 5, "one deadline for all, not one for each"
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    await back(fragile)


async def test_no_operation_hangs(private_redis: RedisServer, fragile: Store) -> None:
    await fragile.apps.create(FACTS, 1)
    operations = {**WRITES, **READS}
    with private_redis.paused():
        begun_s = time.monotonic()
        outcomes = await asyncio.gather(*(each(fragile) for each in operations.values()), return_exceptions=True)
        took_s = time.monotonic() - begun_s
    assert dict(zip(operations, map(type, outcomes), strict=True)) == dict.fromkeys(operations, StoreUnavailable)
    assert took_s < 5 + 3 * DEADLINE_MS / 1000


async def test_a_hung_server_ends_a_blocking_read_in_time(private_redis: RedisServer, fragile: Store) -> None:
    heads = await fragile.changelog.heads()
    await fragile.changelog.read(heads, 10)
    with private_redis.paused():
        begun_s = time.monotonic()
        for _ in range(2):  # on an open connection, and while connecting
            with pytest.raises(StoreUnavailable):
                await fragile.changelog.read(heads, 100)
        assert time.monotonic() - begun_s < 2 * (DEADLINE_MS + 100) / 1000 + 5
    await wait_until_async(lambda: is_back(fragile), BACK_S, "the store to be back")
    assert await fragile.changelog.read(heads, 10) == {}


async def test_a_killed_server_is_noticed_at_once(private_redis: RedisServer, fragile: Store) -> None:
    private_redis.kill()
    _, took_s = await refusal_of(fragile)  # it may hit the connection while it closes: either outcome
    assert took_s < AT_ONCE_S
    for _ in range(5):
        assert (await refusal_of(fragile))[0] == "not-written"
    private_redis.restart()
    await back(fragile)
    await ban(fragile)


async def test_killed_under_a_write_the_outcome_is_unknown(private_redis: RedisServer, fragile: Store) -> None:
    private_redis.pause()
    writing = asyncio.ensure_future(ban(fragile))
    await asyncio.sleep(0)
    private_redis.kill()
    with pytest.raises(StoreUnavailable) as refused:
        await writing
    assert refused.value.outcome == "unknown"


async def test_a_read_never_has_an_unknown_outcome(private_redis: RedisServer, fragile: Store) -> None:
    with private_redis.paused(), pytest.raises(StoreUnavailable) as refused:
        await fragile.bans.count(APP, 1)
    assert refused.value.outcome == "not-written"


async def test_a_write_that_timed_out_may_land_and_may_be_repeated(private_redis: RedisServer, fragile: Store) -> None:
    follower = await Follower.start(fragile.changelog)
    with private_redis.paused():
        assert (await refusal_of(fragile))[0] == "unknown"
    await back(fragile)
    await ban(fragile)
    changes = await follower.read_new()
    assert {(change.kind, change.until_ms) for change in changes} == {("ban-imposed", 5_000)}
    assert await fragile.bans.count(APP, 1) == 1


async def test_a_cut_cable_fails_writes_at_once_and_heals(cable: Cable, cabled: Store) -> None:
    await ban(cabled)
    cable.cut()
    assert (await refusal_of(cabled))[1] < AT_ONCE_S
    outcome, took_s = await refusal_of(cabled)
    assert (outcome, took_s < AT_ONCE_S) == ("not-written", True)
    cable.mend()
    await back(cabled)
    await ban(cabled)


async def test_a_black_hole_is_left_as_soon_as_bytes_flow(cable: Cable, cabled: Store) -> None:
    cable.freeze()
    assert (await refusal_of(cabled))[0] == "unknown"
    assert (await refusal_of(cabled))[1] < AT_ONCE_S
    cable.thaw()
    await back(cabled)
    await ban(cabled)


async def test_a_slow_cable_is_only_slow(cable: Cable, cabled: Store) -> None:
    await ban(cabled)  # otherwise each of them would carry the script's source
    cable.delay_ms = 40
    begun_s = time.monotonic()
    await asyncio.gather(*(ban(cabled) for _ in range(50)))
    assert 0.08 - 2 * TIMER_EARLY_S <= time.monotonic() - begun_s < 3, "they travel together, not one after another"


async def test_an_idle_connection_that_was_closed_is_opened_again(private_redis: RedisServer, fragile: Store) -> None:
    private_redis.client.client_kill_filter(_type="normal", skipme=True)
    await wait_until_async(lambda: is_back(fragile), BACK_S, "the store to be back")
    await ban(fragile)


async def test_closing_the_store_ends_its_probe_and_its_connections(private_redis: RedisServer, fragile: Store) -> None:
    await fragile.changelog.read(await fragile.changelog.heads(), 1)
    with private_redis.paused():
        await refusal_of(fragile)
        await fragile.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(StoreUnavailable, match="closed"):
        await ban(fragile)


def everything(server: RedisServer) -> dict[bytes, bytes]:
    return {bytes(key): server.client.dump(key) or b"" for key in cast("list[bytes]", server.client.keys("*"))}


async def test_a_full_server_writes_nothing_by_halves(each_redis: RedisServer, store: Store) -> None:
    await store.lists.add(APP, ListKind.BLACKLIST, b"o", [b"old", b"b"], 2_000, 1, None)
    await store.apps.create(FACTS, 1)
    before = everything(each_redis)
    each_redis.client.config_set("maxmemory", "1")
    try:
        writes: dict[str, Callable[[Store], Awaitable[object]]] = {
            "ban": WRITES["ban"],
            "list add": lambda store: store.lists.add(APP, ListKind.BLACKLIST, b"o", [b"new"], FOREVER_MS, 3_000, 9),
            "list remove": lambda store: store.lists.remove(APP, ListKind.BLACKLIST, b"o", [b"old"], 1),
            "switch": WRITES["switch"],
            "app put": WRITES["app put"],
            "new partition": lambda store: store.changelog.prepare(),
        }
        for name, write in writes.items():
            with pytest.raises(StoreUnavailable) as refused:
                await write(store)
            assert refused.value.outcome == "not-written", name
            assert everything(each_redis) == before, name
        assert await store.bans.count(APP, 1) == 0, "reads go on"
    finally:
        each_redis.client.config_set("maxmemory", "0")
    await ban(store)


async def test_a_demoted_server_refuses_writes(each_redis: RedisServer, store: Store) -> None:
    each_redis.client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="READONLY") as refused:
            await ban(store)
        assert refused.value.outcome == "not-written"
    finally:
        each_redis.client.replicaof("NO", "ONE")
    await ban(store)


@pytest.fixture
def doomed_redis(redis_flavor: Flavor, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start(redis_flavor, tmp_path / "doomed")
    yield server
    server.kill()


async def test_a_server_that_cannot_save_refuses_writes(doomed_redis: RedisServer) -> None:
    store = await Store.connect(doomed_redis.url)
    client = doomed_redis.client
    client.config_set("save", "900 1")
    shutil.rmtree(doomed_redis.directory)
    client.bgsave()
    await wait_until_async(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "a failed save")
    with pytest.raises(StoreUnavailable, match="MISCONF") as refused:
        await ban(store)
    assert refused.value.outcome == "not-written"
    await store.aclose()


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "CLUSTERDOWN Hash slot not served",
        "ERR Error running script (call to f_1): @user_script:41: @user_script: 41: -OOM command not allowed",
    ],
)
def test_what_a_server_says_that_cannot_serve_now(text: str) -> None:
    with pytest.raises(StoreUnavailable):
        raise_if_error(ReplyError(text))


def test_an_error_that_shows_a_bug_is_not_hidden() -> None:
    with pytest.raises(ReplyError):
        raise_if_error(ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value"))


async def test_a_refusal_is_not_an_outage(fragile: Store) -> None:
    with pytest.raises(AppUnknown):
        await fragile.apps.get("no")
    await ban(fragile)


async def test_a_subscription_that_is_refused_leaves_no_connection(private_redis: RedisServer) -> None:
    private_redis.client.execute_command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "&*", "+@all", "-subscribe")
    store = await Store.connect(private_redis.url.replace("://", "://deaf:secret@"))
    before = len(private_redis.client.client_list())
    for _ in range(3):
        async with Subscription(store.client, keys.ASK_CHANNEL, lambda *_: None) as subscription:
            with pytest.raises((StoreUnavailable, ReplyError), match="subscribe"):
                await subscription.begin()
    await wait_until_async(lambda: len(private_redis.client.client_list()) <= before, 5, "its connections to end")
    await store.aclose()


async def test_a_follower_that_was_not_answered_in_time_asks_for_less(cabled: Store, cable: Cable) -> None:
    await cabled.changelog.prepare()
    start = await cabled.changelog.heads()
    async with cabled.bulk(APP, 1) as bulk:
        for number in range(8_000):
            await bulk.register(b"u%d" % number)
        await bulk.flush()
    assert max(map(len, (await in_time(cabled, start)).values())) > 250
    with cable.frozen(), pytest.raises(StoreUnavailable):
        await cabled.changelog.read(start, 1)
    sizes, at = [], list(start)
    while changes := await in_time(cabled, at):
        # Partition 0, which holds the Apps, is always read to its end.
        sizes.append(max((len(some) for partition, some in changes.items() if partition), default=0))
        for partition, some in changes.items():
            at[partition] = at[partition]._replace(seq=some[-1].seq)
    assert sizes[0] <= 250
    assert [position.seq for position in at] == [head.seq for head in await cabled.changelog.heads()]


async def in_time(store: Store, after: list[Position]) -> dict[int, list[Change]]:
    """Return the answer to a read, however busy this machine is: the deadline here is short."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await store.changelog.read(after, 1)
