"""Request bodies and connections of strangers: what is not read, what is not decoded, and what waits for its turn."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from gate.http import bodies, connection
from gate.http.bodies import MAX_BATCH_BYTES, MAX_CLIENT_BYTES, MAX_JSON_BYTES, Bodies, BodiesFull, Payer
from gate.http.client.websocket import PATH as CONNECT
from harness.websocket import CONTINUED, TEXT, connect
from tests.http.test_client_blacklist import client, token_of
from tests.http.world import World, basic, signed

SOON_S = 5.0
PATIENT_S = 15.0
MOST_HELD_S = 0.1
"""Of the test's own loop, which serves and attacks at once; without turns it is held for 0.3 s and more."""
BOMB = gzip.compress(bytes(1_000_000))


class Raw:
    """A connection by the byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, world: World) -> Raw:
        return cls(*await asyncio.open_connection(world.server.host, world.server.port))

    def send(self, *lines: str, body: bytes = b"") -> None:
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self, timeout_s: float = SOON_S) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), timeout_s)).decode()

    async def rest(self, timeout_s: float = SOON_S) -> str:
        return (await asyncio.wait_for(self.reader.read(), timeout_s)).decode()


def lines_of(headers: dict[str, str]) -> list[str]:
    return ["Host: x", *(f"{name}: {value}" for name, value in headers.items())]


ENCODINGS = ("gzip", "deflate", "br", "identity, gzip", "GZIP", "made-up")
REFUSED_AS = {
    "/user/block.json": '"code":1002',
    "/v1/check": '"error":"body-encoded"',
    "/client/v1/blacklist": '"error":"body-encoded"',
    "/console/sign-in": "uncompressed",
    "/nowhere": '"error":"body-encoded"',
}


@pytest.mark.parametrize("framing", [{"Content-Length": "1000000"}, {"Transfer-Encoding": "chunked"}])
async def test_an_encoded_body_is_refused_before_it_is_read(world: World, framing: dict[str, str]) -> None:
    async def refused(path: str, encoding: str) -> None:
        peer = await Raw.to(world)
        peer.send(f"POST {path} HTTP/1.1", *lines_of({"Content-Encoding": encoding, **framing}))
        assert " 415 " in await peer.head(), encoding
        peer.writer.write_eof()
        assert REFUSED_AS[path] in await peer.rest(), encoding
        peer.writer.close()

    # Together, as each connection lingers for the body that was announced.
    await asyncio.gather(*(refused(path, encoding) for path in REFUSED_AS for encoding in ENCODINGS))


async def test_what_looks_like_gzip_is_taken_as_it_is(world: World) -> None:
    reply = await world.v1("POST", "check", BOMB)
    assert (reply.status, reply.body["parameter"]) == (400, "body")
    sent = {**basic(world.app), "Content-Type": "application/json", "Content-Encoding": "identity"}
    assert (await world.send("POST", "/v1/check", b'{"pairs":[["a","b"]]}', sent)).status == 200


async def test_gzip_as_a_transfer_encoding_is_refused(world: World) -> None:
    peer = await Raw.to(world)
    head = {**basic(world.app), "Content-Type": "application/json", "Transfer-Encoding": "gzip, chunked"}
    peer.send("POST /v1/check HTTP/1.1", *lines_of(head), body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOMB), BOMB))
    assert " 400 " in await peer.head()
    peer.writer.close()


async def test_each_endpoint_has_its_own_limit(world: World) -> None:
    async def v1(path: str, many: int) -> int:
        return (await world.v1("POST", path, b'"' + b" " * (many - 2) + b'"')).status

    assert (await client(world, "POST", body=b" " * (MAX_CLIENT_BYTES + 1))).status == 413
    assert (await client(world, "POST", body=b" " * MAX_CLIENT_BYTES)).status == 400
    assert (await v1("bans", MAX_JSON_BYTES + 1), await v1("bans", MAX_JSON_BYTES)) == (413, 400)
    for path in ("check", "bulk", "presence", "events"):
        assert (await v1(path, MAX_BATCH_BYTES + 1), await v1(path, 2 * MAX_JSON_BYTES)) == (413, 400)


async def test_a_body_of_very_many_parts_is_not_decoded(world: World) -> None:
    for path in ("check", "bulk", "presence", "events"):
        reply = await world.v1("POST", path, b'{"pairs":[' + b"[]," * 1_000_000 + b"[]]}")
        assert (reply.status, reply.body["parameter"]) == (400, "body")
        assert "commas and opening brackets" in reply.body["message"]
    pairs = [[f"a,{n}", "b"] for n in range(10_000)]
    assert (await world.v1("POST", "check", {"pairs": pairs})).status == 200


def test_the_budgets_of_a_class_and_of_one_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BUDGETS, "client", (100, 60))
    counted, ann, bob = Bodies(), Payer("client", ("app", b"ann")), Payer("client", ("app", b"bob"))
    counted.take(ann, 60)
    with pytest.raises(BodiesFull, match="of yours"):
        counted.refuse_past_budget(ann, 1)
    counted.refuse_past_budget(bob, 40)
    with pytest.raises(BodiesFull, match="this node"):
        counted.refuse_past_budget(bob, 41)
    counted.refuse_past_budget(Payer("app", ("app", b"")), 1_000)
    counted.give_back(ann, 60)
    counted.refuse_past_budget(ann, 60)


async def test_bodies_in_flight_are_bounded_and_given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BUDGETS, "client", (1_000, 100))
    head = lines_of({"Authorization": f"Bearer {token_of(world.app)}", "Content-Length": "90"})
    peer = await Raw.to(world)
    peer.send("POST /client/v1/blacklist HTTP/1.1", *head, body=b" " * 80)
    async with asyncio.timeout(SOON_S):  # until the node has read those
        while (reply := await client(world, "POST", body=b" " * 60)).status != 503:
            assert reply.status == 400
    assert (reply.body["error"], reply.headers["Retry-After"]) == ("unavailable", "1")
    other = token_of(world.app, "another")
    assert (await client(world, "POST", body=b'{"users":["x"]}', shown=other)).status == 200
    peer.writer.write(b" " * 10)
    assert " 400 " in await peer.head()
    assert (await client(world, "POST", body=b'{"users":["x"]}')).status == 200
    peer.writer.close()


async def test_no_body_is_read_before_the_credentials(world: World) -> None:
    expect = {"Content-Length": "20", "Content-Type": "application/json", "Expect": "100-continue"}
    peer = await Raw.to(world)
    peer.send("POST /v1/check HTTP/1.1", *lines_of({**basic(world.app, "wrong"), **expect}))
    assert " 401 " in await peer.head()
    peer.writer.close()
    peer = await Raw.to(world)
    peer.send("POST /v1/check HTTP/1.1", *lines_of({**basic(world.app), **expect}))
    assert await peer.head() == "HTTP/1.1 100 Continue\r\n\r\n"
    peer.writer.write(b'{"pairs":[["a","b"]]')
    peer.writer.write(b"}")
    assert " 400 " in await peer.head()  # one byte fewer was announced
    peer.writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_never_ends_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.2)
    peer = await Raw.to(world)
    peer.writer.write(begun)
    assert await peer.rest() == ""
    peer.writer.close()


async def test_a_later_head_has_the_same_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.2)
    peer = await Raw.to(world)
    peer.send("GET /healthz HTTP/1.1", "Host: x")
    assert " 200 " in await peer.head()
    await peer.reader.readuntil(b"}")
    peer.writer.write(b"GET /healthz HT")
    assert await peer.rest() == ""


async def test_an_idle_connection_outlives_the_deadline_of_heads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.1)
    peer = await Raw.to(world)
    for _ in range(2):
        peer.send("GET /healthz HTTP/1.1", "Host: x")
        assert " 200 " in await peer.head()
        await peer.reader.readuntil(b"}")
        await asyncio.sleep(0.2)  # longer than a head may take
    peer.writer.close()


async def test_no_answer_names_the_version_of_a_library(world: World) -> None:
    for sent in (b"\0\1\2\r\n\r\n", b"G@T / HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"):
        peer = await Raw.to(world)
        peer.writer.write(sent)
        answer = await peer.rest()
        assert "Server: gate\r\n" in answer and "aiohttp" not in answer
        peer.writer.close()


class Lag:
    """The longest time for which the loop was held."""

    def __init__(self) -> None:
        self.most_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lag:
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(0.001)
            self.most_s = max(self.most_s, clock() - before)


async def test_chunks_of_a_byte_are_taken_in_turns(world: World) -> None:
    head = lines_of({**signed(world.app), "Transfer-Encoding": "chunked"})
    chunks = b"1\r\nx\r\n" * 100_000
    peer = await Raw.to(world)
    async with Lag() as lag:
        peer.send("POST /user/block.json HTTP/1.1", *head, body=chunks + b"0\r\n\r\n")
        assert " 400 " in await peer.head(PATIENT_S)
    assert lag.most_s < MOST_HELD_S
    peer.writer.close()


async def test_frames_that_make_no_message_are_bounded_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_WEBSOCKET_BYTES_A_SECOND", 32 * 1024)
    ann = await connect(world.url, token_of(world.app, "ann"))
    ann.send(TEXT, b"", first=0)
    empty = bytes([CONTINUED, 0x80, 0, 0, 0, 0])
    began_s = asyncio.get_running_loop().time()
    async with Lag() as lag:
        ann.writer.write(empty * 12_000)  # 72 kB: more than two seconds' worth
        ann.send(CONTINUED, b'{"type":"ping"}')
        assert await ann.next_message() == {"type": "pong"}
    assert asyncio.get_running_loop().time() - began_s > 1.5
    assert lag.most_s < MOST_HELD_S
    ann.drop()


async def test_a_compressed_frame_is_a_breach_of_protocol(world: World) -> None:
    peer = await Raw.to(world)
    head = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Extensions": "permessage-deflate",
    }  # fmt: skip
    peer.send(f"GET {CONNECT}?token={token_of(world.app)} HTTP/1.1", *lines_of(head))
    answer = await peer.head()
    assert " 101 " in answer and "deflate" not in answer
    peer.writer.write(bytes([0xC0 | TEXT, 0x80, 0, 0, 0, 0]))  # the bit that says compressed
    read = await asyncio.wait_for(peer.reader.read(), SOON_S)
    assert (1002).to_bytes(2, "big") in read
    peer.writer.close()
