"""Listening and draining."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from aiohttp import ClientConnectionError

from gate.http.context import Deps
from gate.http.options import MAX_LINE_BYTES, HttpOptions
from gate.http.server import serve_http
from gate.readiness import Ready
from gate.replica.reading import Reading
from tests.http.world import World, basic


def deps_of(world: World, options: HttpOptions) -> Deps:
    return Deps(
        replica_when_ready=Ready(lambda: Reading(world.node.directory)),
        store_when_ready=Ready(lambda: world.store),
        acks_when_ready=Ready(lambda: world.node.acks),
        presence=world.presence,
        feeds=world.feeds,
        options=options,
    )


async def test_a_port_in_use_is_an_error_and_nothing_is_left(world: World) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await serve_http(deps_of(world, HttpOptions(port=world.server.port)))


@pytest.mark.slow
async def test_a_drain_finishes_what_is_in_flight_and_takes_nothing_new(world: World) -> None:
    server = await serve_http(deps_of(world, HttpOptions(port=0)))
    elsewhere = World(
        world.store, world.node, server, world.session, world.presence, world.feeds, world.gateway, world.deps
    )
    elsewhere.app = world.app
    await world.node.stop_following()  # so that the write waits for its acknowledgement
    writing = asyncio.create_task(elsewhere.v1("POST", "bans", {"users": ["a"], "seconds": 60}))
    written = asyncio.create_task(_until_written(world))
    await written
    draining = asyncio.create_task(server.drain(5.0))
    reply = await writing
    assert (reply.status, reply.body["applied"]) == (200, "pending")
    await draining
    with pytest.raises(ClientConnectionError):
        await elsewhere.send("GET", "/healthz", headers=basic(world.app))


async def test_a_drain_is_bounded(world: World) -> None:
    options = replace(HttpOptions(port=0), ack_timeout_ms=60_000)
    server = await serve_http(deps_of(world, options))
    elsewhere = World(
        world.store, world.node, server, world.session, world.presence, world.feeds, world.gateway, world.deps
    )
    elsewhere.app = world.app
    await world.node.stop_following()
    writing = asyncio.create_task(elsewhere.v1("POST", "bans", {"users": ["a"], "seconds": 60}))
    await _until_written(world)
    await asyncio.wait_for(server.drain(0.2), 10)
    with pytest.raises(ClientConnectionError):
        await writing


async def _until_written(world: World) -> None:
    while not (await world.v1("GET", "bans")).body["bans"]:
        await asyncio.sleep(0)


TOKEN = "gt1.this-is-nobodys-token"
HEAD = "HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        f"GET /healthz {HEAD}Authorization: Bearer {TOKEN}\0\r\n\r\n",
        f"GET /healthz {HEAD}Authorization {TOKEN}: Bearer\r\n\r\n",
        f"GET /healthz {HEAD}Content-Length: {TOKEN}\r\n\r\n",
        f"GET /healthz {HEAD}Authorization: Bearer {TOKEN}{'x' * MAX_LINE_BYTES}\r\n\r\n",
        f"GET /client/v1/connect?x={TOKEN} HTTP/9.9\r\n\r\n",
        f"G@T /client/v1/connect?x={TOKEN} {HEAD}\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_never_quoted_in_the_log(
    world: World, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reader, writer = await asyncio.open_connection(world.server.host, world.server.port)
    writer.write(sent.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    writer.close()
    assert TOKEN not in caplog.text and "Traceback" not in caplog.text
