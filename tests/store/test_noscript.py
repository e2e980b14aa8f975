from __future__ import annotations

import asyncio
import re
from pathlib import Path

from gate.core.model import ListKind
from gate.store import scripts
from gate.store.store import Store
from harness.servers import RedisServer
from tests.store.conftest import APP
from tests.store.following import Follower
from tests.store.touring import tour


async def test_every_operation_works_on_a_server_that_knows_no_script(
    each_redis: RedisServer, store: Store, follower: Follower
) -> None:
    await tour(store)
    await follower.read_new()


async def test_scripts_may_be_flushed_at_any_time(each_redis: RedisServer, store: Store, follower: Follower) -> None:
    async def write(number: int) -> None:
        for step in range(20):
            await store.bans.impose(APP, [b"u%d" % number, b"v%d" % step], 5_000, 1)

    async def flush() -> None:
        for _ in range(30):
            await asyncio.to_thread(each_redis.client.script_flush)

    await asyncio.gather(flush(), *(write(number) for number in range(5)))
    assert len(await follower.read_new()) == 200, "each write once"


async def test_live_nodes_are_read_behind_the_script_even_if_it_was_unknown(
    each_redis: RedisServer, store: Store, follower: Follower
) -> None:
    await store.announcer("n1").renew({})
    each_redis.client.script_flush()
    each_redis.client.script_load(scripts.LIVE_NODES.source)
    written = await store.bans.impose(APP, [b"ann"], 5_000, 1)
    assert written.live_nodes == {"n1"}


async def test_reads_survive_a_flush_of_scripts(each_redis: RedisServer, store: Store) -> None:
    await store.announcer("n1").renew({})
    for _ in range(2):
        assert (await store.writer.registry()).live == {"n1"}
        each_redis.client.script_flush()


async def test_bulk_survives_a_flush_of_scripts(each_redis: RedisServer, store: Store, follower: Follower) -> None:
    async with store.bulk(APP, 1) as bulk:
        for number in range(60):
            await bulk.add(ListKind.BLACKLIST, b"o%d" % number, [b"m%d" % n for n in range(999)])
            if number % 20 == 0:
                await asyncio.to_thread(each_redis.client.script_flush)
        result = await bulk.flush()
    assert result.facts == 60 * 999
    await follower.read_new()
    assert sum(len(entries) for entries in follower.facts.lists.values()) == 60 * 999
    assert follower.stands_at(result.written.revisions)


def test_scripts_open_with_their_contract() -> None:
    for script in scripts.ALL:
        head = script.source.split("\nlocal", 1)[0]
        for word in ("KEYS", "ARGV", "returns"):
            assert word in head, f"{script.name}.lua does not say its {word}"
        assert "--!include" not in script.source


def test_every_lua_file_is_a_script_or_included_by_one() -> None:
    files = {path.stem: path.read_text() for path in (Path(scripts.__file__).parent / "lua").rglob("*.lua")}
    included = {name for text in files.values() for name in re.findall(r"^--!include (\w+)$", text, re.MULTILINE)}
    assert {script.name for script in scripts.ALL} | included == files.keys()
