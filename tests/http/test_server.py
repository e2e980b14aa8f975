"""Listening and draining."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import ClientConnectionError

from gate.http.options import HttpOptions
from gate.http.ports import Deps
from gate.http.server import serve_http
from gate.replica.reader import NodeReplica
from tests.http.world import World, basic


def deps_of(world: World, options: HttpOptions) -> Deps:
    return Deps(
        replica=NodeReplica.open(world.node.directory),
        store=world.store,
        acks=world.node.acks,
        presence=world.presence,
        feeds=world.tails,
        options=options,
    )


async def test_a_port_in_use_is_an_error_and_nothing_is_left(world: World) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await serve_http(deps_of(world, HttpOptions(port=world.server.port)))


async def test_a_drain_finishes_what_is_in_flight_and_takes_nothing_new(world: World) -> None:
    server = await serve_http(deps_of(world, HttpOptions(port=0)))
    elsewhere = World(world.store, world.node, server, world.session, world.presence, world.tails)
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
    elsewhere = World(world.store, world.node, server, world.session, world.presence, world.tails)
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
