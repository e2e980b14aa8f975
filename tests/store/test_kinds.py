"""A server of another kind than the URL specifies is refused in one line that names the right form, by every caller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.errors import StoreUnavailable
from gate.store.store import Store
from harness.sentinels import NAME, SentinelSetup
from harness.servers import Flavor, RedisServer
from harness.service import GateService, ServiceDied
from tests.cli.command import Command
from tests.store.test_cluster_slots import low_port

SENTINEL_FORM = "write redis+sentinel://HOST:PORT,HOST:PORT/MASTER-NAME"
CLUSTER_FORM = "write redis+cluster://HOST:PORT,HOST:PORT"


@pytest.fixture
def setup(redis_flavor: Flavor, tmp_path: Path) -> Iterator[SentinelSetup]:
    """One server, monitored by one Sentinel."""
    server = RedisServer.start(redis_flavor, tmp_path / "server")
    setup = SentinelSetup([server], [])
    try:
        setup.start_sentinels(redis_flavor, tmp_path, count=1)
        yield setup
    finally:
        setup.stop()


@pytest.fixture
def cluster_node(redis_flavor: Flavor, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start(redis_flavor, tmp_path / "node", low_port(), extra=["--cluster-enabled", "yes"])
    yield server
    server.stop()


async def refusal_of(url: str) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        await Store.connect(url)
    assert refused.value.outcome == "not-written"
    return str(refused.value)


@pytest.mark.parametrize("database", ["", "/3"])
async def test_a_sentinel_is_no_server(setup: SentinelSetup, database: str) -> None:
    url = f"redis://127.0.0.1:{setup.sentinels[0].port}{database}"
    assert await refusal_of(url) == f"{url} is a Sentinel, which holds no facts: {SENTINEL_FORM}"


async def test_a_server_is_no_sentinel(setup: SentinelSetup) -> None:
    port = setup.servers[0].port
    expected = f"redis://127.0.0.1:{port} is a Redis server, not a Sentinel: write redis://HOST:PORT"
    assert await refusal_of(f"redis+sentinel://127.0.0.1:{port}/{NAME}") == expected


@pytest.mark.parametrize("form", ["redis://127.0.0.1:{}", "redis://127.0.0.1:{}/3"])
async def test_a_node_of_a_cluster_is_refused(cluster_node: RedisServer, form: str) -> None:
    refusal = await refusal_of(form.format(cluster_node.port))
    assert refusal == f"redis://127.0.0.1:{cluster_node.port}{form[20:]} is a node of a Redis Cluster: {CLUSTER_FORM}"


async def test_a_server_is_no_node_of_a_cluster(setup: SentinelSetup) -> None:
    for port, kind in ((setup.servers[0].port, "a single Redis server"), (setup.sentinels[0].port, "a Sentinel")):
        refusal = await refusal_of(f"redis+cluster://127.0.0.1:{port}")
        assert refusal.startswith(f"redis://127.0.0.1:{port} is {kind}, ") and "write redis" in refusal


async def test_a_cluster_without_slots_is_refused(cluster_node: RedisServer) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster_node.port}"
    assert await refusal_of(url) == f"no server of {url} returned the slots: it has no master with slots"


async def test_the_masters_that_sentinels_know_are_named(setup: SentinelSetup) -> None:
    url = f"redis+sentinel://127.0.0.1:{setup.sentinels[0].port}/other"
    assert await refusal_of(url) == f"the Sentinels of {url} know no master of that name: they know {NAME}"


@pytest.mark.slow
@pytest.mark.parametrize("redis_flavor", ["redis-7"], indirect=True)
def test_a_start_and_every_command_say_so_in_one_line(setup: SentinelSetup, tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{setup.sentinels[0].port}"
    with pytest.raises(ServiceDied) as died:
        GateService.start(tmp_path / "node", redis_url=url)
    assert died.value.status == 1
    (line,) = died.value.output.splitlines()
    assert line == f"gate: Redis: {url} is a Sentinel, which holds no facts: {SENTINEL_FORM}"
    command = Command(tmp_path / "none", "app", url)
    for words in (["ban", "bob", "--for", "1h"], ["online", "bob"], ["app", "list"], ["sessions", "bob"]):
        (line,) = command(*words, status=3).err.splitlines()
        assert "is a Sentinel" in line, words
    found = command("doctor", status=1).out
    assert "fail Redis: redis://" in found and "knows where Redis is: --redis redis+sentinel://" in found
