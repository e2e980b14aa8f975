"""A client that ends its own side once it has sent its requests: it gets their answers, and then the end."""

from __future__ import annotations

import asyncio

import pytest

from gate.http.options import HttpOptions
from gate.http.server import serve_http
from tests.http.test_server import deps_of
from tests.http.world import World, basic, signed

WITHIN_S = 10.0
FORM = "Content-Type: application/x-www-form-urlencoded"

EXPECTS = f"{FORM}\r\nExpect: 100-continue"


def request(world: World, path: str, body: bytes, length: int | None = None) -> bytes:
    headers = [f"{name}: {value}" for name, value in signed(world.app).items()]
    lines = [f"POST {path} HTTP/1.1", "Host: gate", FORM, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


async def half_closed(world: World, sent: bytes) -> bytes:
    """What came back to a client that ended its side right behind its last byte."""
    reader, writer = await asyncio.open_connection(world.server.host, world.server.port)
    writer.write(sent)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), WITHIN_S)
    finally:
        writer.close()


async def test_it_gets_the_answer_to_its_ban(world: World) -> None:
    answer = await half_closed(world, request(world, "/user/block.json", b"userId=u1&minute=1"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"code":200}')
    assert await world.word("u1", "x") == "sender-banned"


async def test_it_gets_it_behind_the_word_to_continue(world: World) -> None:
    await world.node.stop_following()  # so that the answer comes behind the end of the client's side
    reader, writer = await asyncio.open_connection(world.server.host, world.server.port)
    writer.write(request(world, "/user/block.json", b"userId=u1&minute=1").replace(FORM.encode(), EXPECTS.encode()))
    assert await asyncio.wait_for(reader.readline(), WITHIN_S) == b"HTTP/1.1 100 Continue\r\n"
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), WITHIN_S)
    writer.close()
    assert answer.startswith(b"\r\nHTTP/1.1 200 ") and answer.endswith(b'{"code":200}')


async def test_an_answer_that_takes_its_time_is_waited_for(world: World) -> None:
    await world.node.stop_following()  # so that the write waits for its acknowledgement
    answer = await half_closed(world, request(world, "/user/block.json", b"userId=u1&minute=1"))
    assert b"X-Gate-Applied: pending" in answer
    assert answer.endswith(b'{"code":200}')


async def test_it_gets_every_answer_of_a_pipeline(world: World) -> None:
    count = 20
    sent = b"".join(request(world, "/user/block.json", b"userId=u%d&minute=1" % number) for number in range(count))
    answers = await half_closed(world, sent)
    assert answers.count(b"HTTP/1.1 200 ") == count
    assert await world.word(f"u{count - 1}", "x") == "sender-banned"


async def test_a_long_body_is_read_to_its_end_first(world: World) -> None:
    fields = b"".join(b"&userId=u%d" % number for number in range(1_000))
    assert len(fields) > 2 * 4_096, "read in several turns"
    answer = await half_closed(world, request(world, "/user/chat/fb/set.json", b"state=1" + fields))
    assert answer.endswith(b'{"code":200}')
    assert await world.word("u999", "x") == "sender-muted"


@pytest.mark.parametrize("missing", ["body", "head", "everything"])
async def test_half_a_request_ends_at_once_and_does_nothing(world: World, missing: str) -> None:
    whole = request(world, "/user/block.json", b"userId=u1&minute=1", 40)
    sent = {"body": whole, "head": whole[:60], "everything": b""}[missing]
    assert await half_closed(world, sent) == b""
    assert await world.word("u1", "x") == "allowed"


async def test_a_stream_ends_with_its_clients_side(world: World) -> None:
    reader, writer = await asyncio.open_connection(world.server.host, world.server.port)
    head = "\r\n".join(f"{name}: {value}" for name, value in basic(world.app).items())
    writer.write(
        f"GET /v1/events?stream=1 HTTP/1.1\r\nHost: gate\r\nAccept: text/event-stream\r\n{head}\r\n\r\n".encode()
    )
    assert b" 200 " in await asyncio.wait_for(reader.readline(), WITHIN_S)
    writer.write_eof()
    await asyncio.wait_for(reader.read(), WITHIN_S)
    writer.close()


async def test_a_connection_is_kept_for_as_long_as_the_option_says(world: World) -> None:
    server = await serve_http(deps_of(world, HttpOptions(port=0, idle_s=1.0)))
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), WITHIN_S)
            await asyncio.sleep(0.6)  # each wait is its own: both together are past the limit
        began_s = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
        assert 0.1 < asyncio.get_running_loop().time() - began_s < 5
        writer.close()
    finally:
        await server.drain(1)


def test_the_default_outlasts_what_common_clients_keep() -> None:
    longest_s = {"Go": 90, "reqwest": 90, "Apache": 60, "ServicePoint of .NET": 100, "nginx": 60, "a load balancer": 60}
    assert HttpOptions().idle_s > max(longest_s.values())
