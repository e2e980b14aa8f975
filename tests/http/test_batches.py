"""`POST /v1/check`: pairs of text are looked at once, and answered as all others are; how a body is cut."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest

from gate.http.connection import Connection
from gate.http.context import AppRequest
from gate.http.options import BODY_TURN_BYTES, TURN_BYTES
from gate.http.v1 import check
from gate.replica.reader import app_of
from harness.seeds import seed
from tests.http.lines import Line, a_request, impose_facts, served, the_same
from tests.http.world import World, basic

SEED = seed(21)


def bodies() -> Iterator[bytes]:
    """Batches of every sort, from the usual one to what is no JSON."""
    rng = Random(SEED)
    usual = [[f"u{n % 50}", f"v{n}"] for n in range(1_000)]
    odd: list[Any] = [
        "", "x" * 64, "x" * 65, "é" * 32, "é" * 33, "\0", "banned", "muted",
        {"b64": "/wA="}, {"b64": "!"}, None, 1, ["a"], True,
    ]  # fmt: skip
    wrong: list[Any] = [[], ["a"], ["a", "b", "c"], {}, "ab", None, 1, {"from": "a"}, {"from": "a", "to": "banned"}]
    yield orjson.dumps({"pairs": usual})
    yield orjson.dumps({"pairs": [*usual, ["banned", "x"], ["x", "b"], ["a b", "b"]]})
    yield orjson.dumps({"pairs": [["a", "b"]] * 10_000})
    yield orjson.dumps({"pairs": [["a", "b"]] * 10_001})
    yield orjson.dumps({"from": "a", "to": ["b", "banned", "a b"] * 3_000})
    yield orjson.dumps({"from": "banned", "to": ["b"] * 10_001})
    yield orjson.dumps({"from": "a", "to": ["b"], "min": "0:0123456789abcdef:1"})
    for one in odd:
        yield orjson.dumps({"pairs": [["a", "b"], [one, "b"], ["a", "b"]]})
        yield orjson.dumps({"pairs": [["a", one]]})
        yield orjson.dumps({"from": one, "to": ["b", "banned"]})
        yield orjson.dumps({"from": "a", "to": ["b", one]})
        yield orjson.dumps({"from": one, "to": []})
        yield orjson.dumps({"from": "a", "to": one})
        yield orjson.dumps({"from": "a", "to": ["b"], "pairs": one})
        yield orjson.dumps({"pairs": one})
        yield orjson.dumps({"pairs": [["a", "b"]], "min": one})
    for pair in wrong:
        yield orjson.dumps({"pairs": [["a", "b"], pair]})
        yield orjson.dumps({"pairs": [pair] * 3, "min": "0:0123456789abcdef:1"})
        yield orjson.dumps({"pairs": pair})
    for _ in range(60):
        pairs = [[rng.choice(odd) if rng.random() < 0.1 else "a", "b"] for _ in range(5)]
        yield orjson.dumps(
            {"pairs": pairs, **rng.choice([{}, {}, {"other": 1}, {"from": "a"}, {"to": []}, {"min": None}])}
        )
    yield from (
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"pairs":[["a","\xff"]]}',
        b'{"pairs":[["a","\\ud800"]]}',
        b'{"pairs":[["a","\n"]]}',
    )
    yield b'{"pairs":[["a","b"]],"pairs":[["banned","b"]]}'
    yield b' {"pairs" : [ [ "a" , "b" ] ] } '


@pytest.mark.parametrize("core", [True, False])
@pytest.mark.slow
async def test_both_ways_of_a_batch_give_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch, core: bool
) -> None:
    await impose_facts(world)
    server, deps = await served(world)
    with deps.replica as snapshot:
        if not core:
            app_of(snapshot, world.app.key).checks = None
    prompt, given = check.batch_promptly, list[bool]()

    def watched(call: AppRequest, body: dict[str, object]) -> check.VerdictsAnswer | None:
        answer = prompt(call, body)
        given.append(answer is not None)
        return answer

    headers = basic(world.app) | {"Content-Type": "application/json"}
    answers: list[list[bytes]] = []
    for way in (watched, lambda *_: None):
        monkeypatch.setattr(check, "batch_promptly", way)
        line, these = await Line.to(server), []
        for body in bodies():
            (answer,) = await line.ask(
                a_request("POST /v1/check HTTP/1.1", headers | {"Content-Length": str(len(body))}) + body
            )
            these.append(the_same(answer))
        answers.append(these)
        line.end()
    for body, one, other in zip(bodies(), *answers, strict=True):
        assert one == other, body[:200]
    assert {answer[9:12] for answer in answers[0]} == {b"200", b"400", b"409"}
    assert given.count(True) > 20 and given.count(False) > 20
    await server.drain(1.0)


async def test_only_a_body_of_known_length_is_taken_in_large_pieces(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    feed = Connection.feed

    def watched(self: Connection, data: bytes) -> None:
        pieces.append(len(data))
        feed(self, data)

    monkeypatch.setattr(Connection, "feed", watched)
    headers = basic(world.app) | {"Content-Type": "application/json"}
    body = orjson.dumps({"pairs": [[f"user-{n:06}", f"user-{n:06}"] for n in range(5_000)]})
    known = a_request("POST /v1/check HTTP/1.1", headers | {"Content-Length": str(len(body))}) + body
    head = a_request("POST /v1/check HTTP/1.1", headers | {"Transfer-Encoding": "chunked"})
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body[:20_000].ljust(20_000)) + b"0\r\n\r\n"
    line = await Line.to(world.server)
    (answer,) = await line.ask(known)
    assert answer[9:12] == b"200"
    assert max(pieces) > TURN_BYTES and len(pieces) < len(body) / TURN_BYTES / 2
    pieces.clear()
    answers = await line.ask(head + chunks, known, head + chunks)
    assert [answer[9:12] for answer in answers] == [b"400", b"200", b"400"]
    total, sent = 0, len(head + chunks)
    for size in pieces:
        is_body = sent + TURN_BYTES < total + size <= sent + len(known)
        assert size <= (BODY_TURN_BYTES if is_body else TURN_BYTES)
        total += size
    assert total == 2 * sent + len(known)
    line.end()
