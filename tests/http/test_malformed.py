"""Bytes that are no HTTP, or no JSON that can be decoded: a fixed refusal, counted, and never a 500."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gate.console.site import Console
from gate.http.operators import OperatorAuth
from gate.http.options import MAX_LINE_BYTES, HttpOptions
from gate.http.server import HttpServer, serve_http
from tests.http.lines import Line, a_request
from tests.http.test_server import deps_of
from tests.http.world import World, basic

WORD = "not-to-be-repeated"
HEAD = f"GET /healthz HTTP/1.1\r\nHost: {WORD}\r\n"
POST = "POST /healthz HTTP/1.1\r\nHost: gate\r\n"
DEEP = 9_000
"""Brackets: past what msgspec and orjson go down, within what a body may hold."""

MALFORMED = {
    "a version that does not exist": f"GET /{WORD} HTTP/9.9\r\n\r\n",
    "a method with a bracket": f"G[T /{WORD} HTTP/1.1\r\n\r\n",
    "a header without a colon": f"{HEAD}Authorization {WORD}\r\n\r\n",
    "a NUL in a header": f"{HEAD}Authorization: Basic {WORD}\0\r\n\r\n",
    "a header that is too long": f"{HEAD}Authorization: {WORD}{'x' * MAX_LINE_BYTES}\r\n\r\n",
    "a request line that is too long": f"GET /{WORD}{'x' * MAX_LINE_BYTES} HTTP/1.1\r\n\r\n",
    "a port past the last": f"GET http://user:{WORD}@host:99999/ HTTP/1.1\r\n\r\n",
    "a path without a slash": f"GET {WORD} HTTP/1.1\r\n\r\n",
    "two lengths": f"{POST}X: {WORD}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is no number": f"{POST}Content-Length: {WORD}\r\n\r\n",
    "a length and chunks": f"{POST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{WORD}",
    "a chunk without a size": f"{POST}Transfer-Encoding: chunked\r\n\r\n{WORD}\r\n",
    "TLS": f"\x16\x03\x01\x02\x00{WORD}",
    "RESP": f"*1\r\n$18\r\n{WORD}\r\n",
}


@pytest_asyncio.fixture(loop_scope="module")
async def counted(world: World) -> AsyncIterator[tuple[HttpServer, list[tuple[str, int]]]]:
    """A server, and the group and status of each request that it counted."""
    counts: list[tuple[str, int]] = []
    deps = replace(
        deps_of(world, HttpOptions(port=0)), count_request=lambda group, status, _: counts.append((group, status))
    )
    door = OperatorAuth()
    server = await serve_http(deps, door, [Console(door)])
    yield server, counts
    await server.drain(1.0)


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_no_http_is_refused_in_fixed_words_and_counted(
    counted: tuple[HttpServer, list[tuple[str, int]]], sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, counts = counted
    caplog.set_level("DEBUG")
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent.encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"\r\nServer: gate\r\n" in head
    assert body.startswith(b'{"error":"invalid","message":"this is no HTTP/1.1 request that can be read')
    assert WORD.encode() not in answer and b"aiohttp" not in answer and b"Python" not in answer
    assert counts[-1:] == [("malformed", 400)]
    assert WORD not in caplog.text and "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["bulk", "check", "bans", "tokens", "presence"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"operations":[' + b"[" * DEEP + b"]" * DEEP + b"]}",
        b'{"operations":[{"op":"ban","users":' + b"[" * DEEP + b"]" * DEEP + b"}]}",
        b'{"operations":[' + b'{"a":' * DEEP,
        b'{"users":["a"],"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"users":["a"],"seconds":' + b"9" * 5_000 + b"}",
        b'{"users":["\\ud800"],"seconds":1}',
        b'{"users":["\xed\xa0\x80"],"seconds":1}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
async def test_json_that_cannot_be_decoded_is_a_400(world: World, path: str, body: bytes) -> None:
    reply = await world.v1("POST", path, body)
    assert (reply.status, reply.body["error"]) == (400, "invalid")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "x", "identity, br"])
@pytest.mark.parametrize(
    "path", ["/v1/bulk", "/user/block.json", "/console/sign-in", "/client/v1/blacklist", "/v1/apps"]
)
async def test_an_encoded_body_is_never_read(world: World, path: str, encoding: str) -> None:
    headers = {**basic(world.app), "Content-Type": "application/json", "Content-Encoding": encoding}
    assert (await world.send("POST", path, b"\x1b\x00", headers)).status == 415


@pytest.mark.parametrize("target", ["/v1/check?from=a&to=b", "/user/block.json", "gate:80"])
async def test_a_connect_is_no_bug(world: World, target: str) -> None:
    line = await Line.to(world.server)
    [answer] = await line.ask(a_request(f"CONNECT {target} HTTP/1.1", basic(world.app)))
    assert answer[:13] in (b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")
    line.end()


async def test_an_origin_that_is_no_address_is_another_site(world: World) -> None:
    headers = {"Origin": "http://[", "Content-Type": "application/x-www-form-urlencoded"}
    assert (await world.send("POST", "/console/sign-in", b"name=a&password=b", headers)).status == 403
