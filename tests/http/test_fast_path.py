"""The fast path of checks: it answers as the application does, from one transaction, and leaves the rest to it."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest
from aiohttp.http import RawRequestMessage

from gate.core.model import AppFacts
from gate.http import responses
from gate.http.fast_path import FastPath
from gate.http.options import HttpOptions
from gate.http.server import serve_http
from gate.http.v1 import check
from gate.replica.reading import Reading
from harness.seeds import seed
from tests.http.lines import PROBE, WITHIN_S, Line, Sent, a_check, a_request, impose_facts, served, the_same
from tests.http.test_server import deps_of
from tests.http.world import World, basic, now_ms, signed

SEED = seed(20)
MANY = 500


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request that came to the short way: whether it answered."""
    seen: list[bool] = []
    reply = FastPath.reply

    def watched(self: FastPath, message: RawRequestMessage, protocol: Any) -> bytes | None:
        answer = reply(self, message, protocol)
        seen.append(answer is not None)
        return answer

    monkeypatch.setattr(FastPath, "reply", watched)
    return seen


def queries(rng: Random, revision: str) -> Iterator[str]:
    ids = [
        "a",
        "b",
        "banned",
        "muted",
        "a%20b",
        "a+b",
        "%FF%00",
        "%ff%0",
        "x" * 64,
        "x" * 65,
        "",
        "~._-",
        "é",
        "a%26b",
        "%",
    ]
    minima = ["", "&min=", f"&min={revision}", "&min=1", "&min=%ff", "&min=0:0123456789abcdef:1", "&other=1", "&from=c"]
    yield from (
        "",
        "from=a",
        "to=b",
        "=",
        "&&",
        "from=a&to=b#x",
        "to=b&from=a",
        "from=a&to=b&",
        "%66rom=a&to=b",
        "from=a;to=b",
    )
    yield "&".join(f"f{n}=" for n in range(4_097))
    for sender, recipient in rng.sample(list(product(ids, ids)), 60):
        yield f"from={sender}&to={recipient}{rng.choice(minima) if rng.random() < 0.3 else ''}"
    yield from (f"from=a&to=b{minimum}" for minimum in minima)


OTHERS: list[Sent] = [
    {},
    {"X-Request-Id": "mine-1"},
    {"X-Request-Id": "x" * 65},
    {"X-Request-Id": "é"},
    {"x-request-id": "!~"},
    {"Expect": "100-continue"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "identity"},
    {"Content-Length": "0"},
    {"Connection": "keep-alive"},
    {"Accept-Encoding": "gzip, deflate", "Cookie": "a=b"},
    {"Upgrade": "nothing"},
    {"Origin": "https://elsewhere"},
    {"X-Forwarded-For": "1.2.3.4"},
]
"""Headers besides those of the caller."""
LINES = ["GET /v1/check?{} HTTP/1.1"] * 12 + [
    "HEAD /v1/check?{} HTTP/1.1",
    "OPTIONS /v1/check?{} HTTP/1.1",
    "DELETE /v1/check?{} HTTP/1.1",
    "GET //v1//check?{} HTTP/1.1",
    "GET /v1/%63heck?{} HTTP/1.1",
    "GET /v1/check/?{} HTTP/1.1",
    "GET /v1/checks?{} HTTP/1.1",
    "GET http://gate/v1/check?{} HTTP/1.1",
    "GET /v1/check HTTP/1.1",
]


def requests_to(world: World, revision: str) -> Iterator[bytes]:
    rng = Random(SEED)
    good = basic(world.app)
    pair = f"{world.app.key}:{world.app.secrets[0]}"
    callers: list[Sent] = [
        good,
        signed(world.app),
        {f"RC-{name}": value for name, value in signed(world.app).items()},
        signed(world.app, secret="wrong"),
        signed(world.app, nonce="webhook-1"),
        {"App-Key": world.app.key},
        {},
        basic(world.app, "wrong"),
        basic(msgspec.structs.replace(world.app, key="stranger")),
        basic(msgspec.structs.replace(world.app, key="no key")),
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode().rstrip("=") + "A"},
        {"Authorization": "basic  " + base64.b64encode(pair.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:").decode()},
    ]
    many = list(queries(rng, revision))
    for query in many:
        yield a_request(f"GET /v1/check?{query} HTTP/1.1", good)
    for caller, other in product(callers, OTHERS):
        yield a_request("GET /v1/check?from=a&to=b HTTP/1.1", caller | other)
    for _ in range(MANY):
        line = rng.choice(LINES).format(rng.choice(many))
        yield a_request(line, (good if rng.random() < 0.7 else rng.choice(callers)) | rng.choice(OTHERS))


@pytest.mark.slow
async def test_both_ways_give_the_same_bytes(world: World, short: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    await impose_facts(world)
    revision = (await world.v1("GET", "check?from=a&to=b")).body["revision"]
    many = list(requests_to(world, revision))
    answers: list[list[bytes]] = []
    for way in ("short", "one transaction", "general"):
        line, these = await Line.to(world.server), []
        await line.ask(PROBE)
        short.clear()
        if way == "general":
            monkeypatch.setattr(check, "fast_check", lambda *_: None)
        for request in many:
            got = await line.ask(request) if way == "short" else (await line.ask(PROBE, request))[-1:]
            these.append(the_same(got[0]))
            if b"\r\nConnection: close" in got[0] or got[0].startswith(b"HTTP/1.0"):  # it could not be read
                line.end()
                line = await Line.to(world.server)
                await line.ask(PROBE)
        line.end()
        answers.append(these)
        assert sum(short) > 150 if way == "short" else not any(short), "it took the way that it was to take"
    statuses = {answer[9:12] for answer in answers[2]}
    assert statuses >= {b"200", b"400", b"401", b"404", b"405", b"409", b"413", b"415"}
    for request, *these in zip(many, *answers, strict=True):
        assert these[0] == these[1] == these[2], request


async def test_a_check_is_one_transaction(world: World, short: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    revision = (await world.v1("GET", "check?from=a&to=b")).body["revision"]
    begun: list[Reading] = []
    refresh = Reading.refresh

    def counted(self: Reading) -> None:
        begun.append(self)
        refresh(self)

    monkeypatch.setattr(Reading, "refresh", counted)
    line = await Line.to(world.server)
    short.clear()
    for request in (
        a_check(world),
        a_check(world, f"from=a&to=b&min={revision}"),
        a_check(world, "from=%61&to=b"),
        a_check(world, headers=basic(world.app) | {"Expect": "100-continue"}),
    ):
        begun.clear()
        (answer,) = await line.ask(request)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(begun) == 1
    assert short == [True, True, True, False]
    begun.clear()
    assert (await world.v1("POST", "check", {"pairs": [["a", "b"]] * 100})).status == 200
    assert len(begun) == 2, "who calls, before the body is read; and the answer"
    line.end()


async def test_what_changed_counts_for_the_next_request_of_a_kept_connection(world: World, short: list[bool]) -> None:
    line = await Line.to(world.server)
    await line.ask(PROBE)
    before = basic(world.app)

    async def status(headers: Sent) -> bytes:
        short.clear()
        (answer,) = await line.ask(a_check(world, "from=a&to=new", headers))
        assert short == [answer.startswith(b"HTTP/1.1 200 ")]
        return (
            answer[9:12] if b'"allowed":' not in answer else answer[answer.index(b'"verdict":') + 11 :].split(b'"')[0]
        )

    assert await status(before) == b"allowed"
    facts = world.app
    await world.set_app(msgspec.structs.replace(facts, secrets=("secret-2", "secret-1")))
    assert [await status(before), await status(basic(world.app))] == [b"allowed"] * 2
    await world.set_app(msgspec.structs.replace(facts, secrets=("secret-2",)))
    assert [await status(before), await status(basic(world.app))] == [b"401", b"allowed"]
    await world.set_app(msgspec.structs.replace(world.app, require_registered=True))
    assert await status(basic(world.app)) == b"sender-unknown"
    await world.set_app(msgspec.structs.replace(world.app, require_registered=False, rate_limits={"v1/check": 1}))
    answers = [await status(basic(world.app)) for _ in range(3)]
    assert answers.count(b"429") >= 1, answers
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={}, strict_signature=True))
    short.clear()
    fresh = signed(world.app, nonce="n-1")
    twice = [(await line.ask(a_check(world, headers=fresh)))[0][9:12] for _ in range(2)]
    assert (twice, short) == ([b"200", b"401"], [False, False]), "its nonce is used up, which Redis knows"
    written = await world.store.apps.remove(world.app.key, now_ms())
    await world.node.acks.wait(written, 5_000)
    assert await status(basic(world.app)) == b"401"
    line.end()


async def test_many_requests_in_one_write_are_answered_in_order(world: World, short: list[bool]) -> None:
    await impose_facts(world)
    line = await Line.to(world.server)
    await line.ask(PROBE)
    checks = [a_check(world, f"from={who}&to=x") for who in ("a", "banned", "muted")] * 70
    answers = await line.ask(*checks)
    words = [re.search(rb'"verdict":"([a-z-]+)"', answer) for answer in answers]
    assert [word and word[1] for word in words] == [b"allowed", b"sender-banned", b"sender-muted"] * 70
    assert sum(short) >= len(checks) // 2
    mixed = [a_check(world), PROBE, a_check(world), a_check(world, "from=a"), a_check(world)]
    assert [answer[9:12] for answer in await line.ask(*mixed)] == [b"200", b"200", b"200", b"400", b"200"]
    line.end()


async def test_a_request_that_comes_byte_by_byte(world: World, short: list[bool]) -> None:
    line = await Line.to(world.server)
    await line.ask(PROBE)
    short.clear()
    sent = a_check(world)
    for at in range(len(sent) - 1):
        await line.send(sent[at : at + 1])
        await asyncio.sleep(0)
    (answer,) = await line.ask(sent[-1:])
    assert (answer[9:12], short) == (b"200", [True])
    line.end()


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_waited_for(world: World, short: list[bool]) -> None:
    line = await Line.to(world.server)
    await line.ask(PROBE)
    many = 20_000
    sending = asyncio.create_task(line.ask(*[a_check(world)] * many))
    answers = await asyncio.wait_for(sending, 60)
    assert len(answers) == many
    assert len({the_same(answer) for answer in answers}) == 1
    assert not all(short), "past what the socket takes, the application waits until the client reads"
    line.end()


@pytest.mark.slow
async def test_checks_keep_a_connection_and_idling_ends_it(world: World, short: list[bool]) -> None:
    server, _ = await served(world, idle_s=1.0)
    line = await Line.to(server)
    began_s = asyncio.get_running_loop().time()
    await line.ask(PROBE)
    while asyncio.get_running_loop().time() - began_s < 2.5:
        (answer,) = await line.ask(a_check(world))
        assert answer.startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.2)
    assert short.count(False) == 1
    assert await line.is_ended()
    await server.drain(1.0)


async def test_a_drain_ends_a_connection_that_only_made_checks(world: World, short: list[bool]) -> None:
    server, _ = await served(world)
    line = await Line.to(server)
    await line.ask(PROBE, a_check(world))
    await line.ask(a_check(world))
    assert short[-1]
    draining = asyncio.create_task(server.drain(5.0))
    assert await line.is_ended()
    await asyncio.wait_for(draining, WITHIN_S)


@pytest.mark.parametrize(("share", "drawn", "lines"), [(0.0, 0.0, 0), (0.3, 0.2, 4), (0.3, 0.4, 0), (1.0, 0.999, 4)])
async def test_the_share_of_checks_that_is_logged(
    world: World,
    short: list[bool],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    drawn: float,
    lines: int,
) -> None:
    monkeypatch.setattr(responses, "random", lambda: drawn)
    server, _ = await served(world, log_checks=share)
    line = await Line.to(server)
    await line.ask(PROBE)
    capsys.readouterr()
    batch = b'{"pairs":[["a","b"]]}'
    posted = {"Content-Length": str(len(batch)), "X-Request-Id": "r-3"} | basic(world.app)
    for request in (
        a_check(world, headers=basic(world.app) | {"X-Request-Id": "r-1"}),
        a_check(world, headers=basic(world.app) | {"X-Request-Id": "r-2", "Expect": "100-continue"}),
        a_request("POST /v1/check HTTP/1.1", posted) + batch,
        a_check(world, headers=basic(world.app) | {"X-Request-Id": "r-4"}),
    ):
        (answer,) = await line.ask(request)
        assert answer.startswith(b"HTTP/1.1 200 ")
    logged = [one for one in "".join(capsys.readouterr()).splitlines() if "path=/v1/check" in one]
    assert len(logged) == lines
    for number, one in enumerate(logged, 1):
        assert f"request_id=r-{number}" in one and "client=127.0.0.1" in one and "status=200" in one
    await line.ask(a_check(world, headers={}))
    assert "status=401" in "".join(capsys.readouterr()), "a refusal is logged always"
    line.end()
    await server.drain(1.0)


async def test_what_is_counted_is_the_same_either_way(world: World, short: list[bool]) -> None:
    requests: list[tuple[str, int]] = []
    times: list[float] = []
    words: list[dict[str, int]] = []

    def count_request(group: str, status: int, seconds: float) -> None:
        requests.append((group, status))
        times.append(seconds)

    deps = replace(
        deps_of(world, HttpOptions(port=0)),
        count_request=count_request,
        count_verdicts=lambda given: words.append(dict(given)),
    )
    server = await serve_http(deps)
    await impose_facts(world)
    line = await Line.to(server)
    await line.ask(PROBE)
    for ahead in ([], [PROBE]):
        requests.clear()
        words.clear()
        await line.ask(*ahead, a_check(world, "from=banned&to=b"))
        await line.ask(*ahead, a_check(world, "from=banned"))
        assert [one for one in requests if one[0] != "probe"] == [("check", 200), ("check", 400)]
        assert words == [{"sender-banned": 1}]
    assert all(0 < seconds < 1 for seconds in times)
    assert short.count(True) == 1
    line.end()
    await server.drain(1.0)


async def test_facts_that_are_too_old_are_refused(world: World, short: list[bool]) -> None:
    server, _ = await served(world, max_staleness_ms=1, on_stale="refuse")
    line = await Line.to(server)
    await line.ask(PROBE)
    assert (await line.ask(a_check(world)))[0][9:12] == b"200"
    await world.node.stop_following()
    async with asyncio.timeout(WITHIN_S):
        while (await line.ask(a_check(world)))[0][9:12] != b"503":
            await asyncio.sleep(0.01)
    assert short[-1] is False
    line.end()
    await server.drain(1.0)


async def test_an_app_may_be_unknown_to_a_replica(world: World, short: list[bool]) -> None:
    stranger = AppFacts(key="stranger", secrets=("secret-1",))
    line = await Line.to(world.server)
    await line.ask(PROBE)
    assert (await line.ask(a_check(world, headers=signed(stranger))))[0][9:12] == b"401"
    assert short == [False, False]
    line.end()
