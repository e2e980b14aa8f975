"""Who may hold a connection slot: strangers for a while and nine of ten, clients and the unix socket all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gate.wire import replies
from gate.wire.refusals import TOO_MANY
from gate.wire.slots import FULL
from harness.waiting import wait_until_async
from tests.wire.test_listener import DEADLINE_S, Serve, Wire, event_loop_policy, serve

__all__ = ["event_loop_policy", "serve"]

MOST = 20
LAST_FREE = MOST - MOST // 10


async def clients(server: object, count: int) -> list[Wire]:
    made = [await Wire.to(server) for _ in range(count)]  # type: ignore[arg-type]
    for wire in made:
        await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    return made


async def test_the_oldest_stranger_makes_room_for_every_newcomer(serve: Serve) -> None:
    server = await serve(max_connections=MOST)
    strangers = [await Wire.to(server) for _ in range(LAST_FREE)]
    for wire in strangers:
        await wire.asked(b"+PONG\r\n", "PING")
    known = await clients(server, 3)
    for wire in strangers[:3]:
        assert await wire.rest() == replies.error(FULL)
    await strangers[3].asked(b"+PONG\r\n", "PING")
    await known[0].asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    for wire in [*strangers, *known]:
        wire.close()


async def test_clients_may_take_every_slot_while_strangers_keep_coming(serve: Serve) -> None:
    server = await serve(max_connections=MOST)
    known = list[Wire]()
    strangers = list[Wire]()
    for _ in range(MOST):
        strangers += [await Wire.to(server) for _ in range(2)]
        known += await clients(server, 1)
    for wire in known:
        await wire.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    late = await Wire.to(server)
    assert await late.rest() == b"-%b\r\n" % TOO_MANY.encode()
    await wait_until_async(lambda: server.worker.connections == MOST, DEADLINE_S, "the strangers to be gone")
    for wire in [*strangers, *known, late]:
        wire.close()


async def test_the_unix_socket_never_makes_room(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "gate.sock")
    server = await serve(max_connections=MOST, unix_path=path)
    local = [Wire(*await asyncio.open_unix_connection(path)) for _ in range(LAST_FREE)]
    for wire in local:
        await wire.asked(b"+PONG\r\n", "PING")
    strangers = [await Wire.to(server) for _ in range(MOST)]
    late = Wire(*await asyncio.open_unix_connection(path))
    for wire in [*local, late]:
        await wire.asked(b"+PONG\r\n", "PING")
    for wire in [*strangers, *local, late]:
        wire.close()


async def test_a_stranger_is_closed_after_its_time_and_a_client_is_not(serve: Serve) -> None:
    server = await serve(auth_within_ms=60, tick_s=0.01)
    stranger = await Wire.to(server)
    (client,) = await clients(server, 1)
    await stranger.asked(b"+PONG\r\n", "PING")
    assert await stranger.rest() == b"-NOAUTH No AUTH within 0.06 s: send AUTH app-key app-secret first\r\n"
    await client.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    await client.asked(b"+RESET\r\n", "RESET")
    assert (await client.rest()).startswith(b"-NOAUTH No AUTH within")
    for wire in (stranger, client):
        wire.close()


@pytest.mark.parametrize("most", [1, 9])
async def test_with_fewer_than_ten_slots_the_newcomer_is_refused(serve: Serve, most: int) -> None:
    server = await serve(max_connections=most)
    strangers = [await Wire.to(server) for _ in range(most)]
    for wire in strangers:
        await wire.asked(b"+PONG\r\n", "PING")
    late = await Wire.to(server)
    assert await late.rest() == b"-%b\r\n" % TOO_MANY.encode()
    await strangers[0].asked(b"+PONG\r\n", "PING")
    for wire in [*strangers, late]:
        wire.close()
