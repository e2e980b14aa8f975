"""`/client/v1/connect`: requests that are nearly a handshake, or one that shows two Tokens."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from harness.websocket import PATH, Refused, connect
from tests.http.test_client_blacklist import token_of
from tests.http.world import World

KEY = base64.b64encode(b"one of a test: 1").decode()
"""Always the same: it is in the names of tests, by which their runners agree on who runs what."""


async def answer_to(world: World, line: str, key: str = KEY) -> bytes:
    """The head of what a raw handshake with this request line is answered."""
    host, _, port = world.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = {
        "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key, "Authorization": f"Bearer {token_of(world.app, 'ann')}",
    }  # fmt: skip
    head = "\r\n".join([line, *(f"{name}: {value}" for name, value in fields.items()), "", ""])
    try:
        writer.write(head.encode("latin-1"))
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("line", "key"),
    [(f"HEAD {PATH} HTTP/1.1", KEY), (f"GET {PATH} HTTP/1.0", KEY), (f"GET {PATH} HTTP/1.1", "\xe9" * 24)],
)
async def test_what_only_looks_like_a_handshake_opens_nothing(world: World, line: str, key: str) -> None:
    assert b"101 " in await answer_to(world, f"GET {PATH} HTTP/1.1")
    before = (await world.presence.counts(world.app.key)).total
    assert b" 426 " in (await answer_to(world, line, key)).split(b"\r\n")[0]
    assert (await world.presence.counts(world.app.key)).total <= before


async def test_a_token_among_subprotocols_is_not_looked_at_and_not_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Where browsers' apps put what they can't put in a header."""
    caplog.set_level(logging.DEBUG)
    token = token_of(world.app, "ann")
    with pytest.raises(Refused, match="unauthorized"):
        await connect(world.url, headers={"Sec-WebSocket-Protocol": f"bearer, {token}"})
    (await connect(world.url, token, headers={"Sec-WebSocket-Protocol": f"bearer, {token}"})).drop()
    assert token not in caplog.text


async def test_two_tokens_that_differ_are_refused_whichever_is_good(world: World) -> None:
    ann, bob = token_of(world.app, "ann"), token_of(world.app, "bob")
    for shown, in_query in ((ann, bob), (ann, "junk"), ("junk", ann)):
        with pytest.raises(Refused) as caught:
            await connect(world.url, shown, token_in_query=in_query)
        assert (caught.value.status, caught.value.body["parameter"]) == (400, "token")
    (await connect(world.url, ann, token_in_query=ann)).drop()
    # A proxy's own password, which browsers send along by themselves, is no Token.
    (await connect(world.url, token_in_query=ann, headers={"Authorization": "Basic cHJveHk6cGFzcw=="})).drop()
