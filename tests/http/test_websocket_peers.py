"""Peers of the WebSocket that break the protocol, vanish, or read nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gate.core.limits import MAX_RATE
from gate.http.client import websocket
from gate.http.client.messages import MAX_MESSAGE_BYTES
from gate.http.client.websocket import MAX_MESSAGES_A_SECOND
from harness.websocket import BINARY, CONTINUED, PING, PONG, TEXT, Socket, connect, connected
from tests.http.test_client_blacklist import token_of
from tests.http.test_websocket import is_online, until_offline
from tests.http.world import World

# Peers that misbehave


async def closed_for(world: World, misbehave: Any) -> tuple[Any, int | None]:
    """What happens to one that misbehaves; another one is there before and after."""
    async with connected(world.url, token_of(world.app, "good")) as good:
        bad = await connect(world.url, token_of(world.app, "bad"))
        misbehave(bad)
        closed = await bad.closed()
        bad.drop()
        assert await good.ask("ping") == {"type": "pong"}
        assert await is_online(world, b"good")
        await until_offline(world, b"bad")
    return closed


async def test_a_binary_frame(world: World) -> None:
    said, code = await closed_for(world, lambda bad: bad.send(BINARY, b"\0\1"))
    assert (said["reason"], code) == ("unsupported", 1003)
    assert (said["reconnect"], said["reconnect_ms"]) == (False, None)  # it would end the same


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        (lambda bad: bad.send(TEXT, b'"\xff\xfe"'), 1007),
        (lambda bad: bad.send(TEXT, b"x" * (MAX_MESSAGE_BYTES + 1)), 1009),
        (lambda bad: bad.send(TEXT, b" " * 1_000_000), 1009),
        (lambda bad: bad.send(0x3, b"reserved"), 1002),
        (lambda bad: bad.send(TEXT, b"{}", first=0xC0), 1002),
        (lambda bad: bad.send(PING, b"x" * 126), 1002),
        (lambda bad: bad.send(CONTINUED, b"of nothing"), 1002),
    ],
)
async def test_frames_that_break_the_protocol(world: World, misbehave: Any, code: int) -> None:
    assert await closed_for(world, misbehave) == (None, code)


async def test_a_message_in_ever_more_pieces_is_bounded_too(world: World) -> None:
    def misbehave(bad: Socket) -> None:
        bad.send(TEXT, b'"', first=0)
        for _ in range(MAX_MESSAGE_BYTES // 16_384 + 2):
            bad.send(CONTINUED, b"x" * 16_384, first=0)

    assert (await closed_for(world, misbehave))[1] == 1009


async def test_messages_without_end(world: World) -> None:
    def misbehave(bad: Socket) -> None:
        for _ in range(3 * MAX_MESSAGES_A_SECOND):
            bad.send(TEXT, b'{"type":"ping"}')

    said, code = await closed_for(world, misbehave)
    assert (said["reason"], said["reconnect"], code) == ("flooding", True, 4429)


async def test_pings_of_the_client_are_answered_with_what_they_carry(world: World) -> None:
    async with connected(world.url, token_of(world.app)) as client:
        client.send(PING, b"here")
        assert await client.frame() == (PONG, b"here")


async def test_one_that_vanishes_without_a_word(world: World) -> None:
    client = await connect(world.url, token_of(world.app, "ann"))
    client.writer.transport.abort()
    await until_offline(world, b"ann")


@pytest.mark.slow
async def test_one_that_takes_nothing_it_is_sent_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SEND_WITHIN_S", 0.2)
    # By default a User may ask for 200 Users a second, and refusals are too short to fill a socket's buffers in time.
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client-user-asked": MAX_RATE}))
    users = [str(number) for number in range(1_000)]  # short: what is read in a second is bounded
    slow = await connect(world.url, token_of(world.app, "slow"))
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with connected(world.url, token_of(world.app, "good")) as good:
        question = b'{"type":"presence","users":["' + '","'.join(users).encode() + b'"]}'

        async def is_cut_off() -> bool:
            assert await good.ask("ping") == {"type": "pong"}
            slow.send(TEXT, question)
            return not await is_online(world, b"slow")

        for _ in range(1_000):
            if await is_cut_off():
                break
            await asyncio.sleep(1 / MAX_MESSAGES_A_SECOND)  # more is flooding, which is another matter
        assert not await is_online(world, b"slow")
    slow.drop()
