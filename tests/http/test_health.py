"""The probes, and what is never logged."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession

from gate.core.revision import NOWHERE
from gate.errors import ReplicaMissing
from gate.http.app import readyz
from gate.http.context import Deps
from gate.http.options import HttpOptions
from gate.http.server import serve_http
from gate.readiness import Ready
from gate.replica.layout import BOARD_FILE, CURRENT_FILE, facts_name
from gate.replica.reading import Reading
from gate.replica.status_page import StatusPage
from gate.replica.writer import FactsFile
from tests.http.test_server import deps_of
from tests.http.world import PARTITIONS, World, basic


async def test_alive_ready_and_measured_without_credentials(world: World) -> None:
    reply = await world.send("GET", "/healthz")
    assert (reply.status, reply.body) == (200, {"status": "ok"})
    reply = await world.send("GET", "/readyz")
    assert (reply.status, reply.body) == (200, {"ready": True, "stale_ms": 0})
    reply = await world.send("GET", "/metrics")
    assert (reply.status, reply.body) == (200, b"gate_up 1\n")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert (await world.send("HEAD", "/readyz")).status == 200
    assert (await world.send("POST", "/readyz")).status == 405


async def test_a_slow_scrape_holds_up_no_other_probe(world: World) -> None:
    scraping, may_end = threading.Event(), threading.Event()

    def slow() -> bytes:
        scraping.set()
        assert may_end.wait(10)
        return b"gate_up 1\n"

    server = await serve_http(replace(deps_of(world, HttpOptions(port=0)), metrics_text=slow))
    try:
        async with ClientSession(f"http://{server.host}:{server.port}") as session:
            scrape = asyncio.create_task(session.get("/metrics"))
            await asyncio.to_thread(scraping.wait, 10)
            async with session.get("/healthz") as reply:
                assert reply.status == 200
            assert not scrape.done()
            may_end.set()
            async with await scrape as scraped:
                assert await scraped.read() == b"gate_up 1\n"
    finally:
        may_end.set()
        await server.drain(1)


def deps_on(world: World, replica: Ready[Reading]) -> Deps:
    """The world's own, with another Replica."""
    return replace(deps_of(world, HttpOptions()), replica_when_ready=replica)


async def test_not_ready_until_the_replica_has_caught_up(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    facts = FactsFile.create(other / facts_name(1), PARTITIONS)
    facts.finish([NOWHERE] * PARTITIONS, 0)
    facts.close_clean()
    (other / CURRENT_FILE).write_text(facts_name(1))
    status_page = StatusPage(other / BOARD_FILE, write=True)
    deps = deps_on(world, Ready(lambda: Reading(other)))
    reply = readyz(deps)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert reply.body == b'{"ready":false,"missing":["replica: catching up"]}'
    status_page.put(ready=1)
    assert readyz(deps).status == 200
    status_page.close()


async def test_a_warning_is_shown_and_keeps_no_traffic_away(world: World) -> None:
    replica = Ready(lambda: Reading(world.node.directory))
    reply = readyz(replace(deps_on(world, replica), warnings=lambda: ["clock of n1: 2.0 s ahead of Redis's"]))
    assert reply.status == 200
    assert reply.body == b'{"ready":true,"stale_ms":0,"warnings":["clock of n1: 2.0 s ahead of Redis\'s"]}'


async def test_every_role_that_does_not_answer_is_named(world: World) -> None:
    missing = ["worker 1"]
    replica = Ready(lambda: Reading(world.node.directory))
    deps = replace(deps_on(world, replica), roles_missing=lambda: list(missing))
    reply = readyz(deps)
    assert reply.status == 503
    assert reply.body == b'{"ready":false,"missing":["worker 1"]}'
    missing.clear()
    assert readyz(deps).status == 200


async def test_a_node_is_not_ready_until_its_replica_can_be_opened(world: World, tmp_path: Path) -> None:
    opened: list[Reading] = []

    def open_replica() -> Reading:
        if not opened:
            raise ReplicaMissing("no Replica here")
        return opened[0]

    deps = deps_on(world, Ready(open_replica))
    assert readyz(deps).body == b'{"ready":false,"missing":["replica: no Replica here"]}'
    opened.append(Reading(world.node.directory))
    assert readyz(deps).status == 200


async def test_the_log_shows_neither_query_nor_credentials(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await world.send("GET", "/v1/check?from=alice&to=bob&token=hush", headers=basic(world.app))
    await world.send("GET", "/nothing?token=hush")
    await world.user("block.json", [("userId", "carol"), ("minute", "1")])
    logged = "".join(capsys.readouterr())
    assert "path=/v1/check" in logged
    for secret in ("hush", "alice", "carol", "secret-1", basic(world.app)["Authorization"].split()[1]):
        assert secret not in logged
