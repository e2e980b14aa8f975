"""A check that repeats the head of the one before is answered without the parser; nothing else is taken for one."""

from __future__ import annotations

import asyncio

import pytest

from gate.http.connection import Parser
from tests.http.lines import PROBE, WITHIN_S, Line, a_check, impose_facts
from tests.http.world import World, basic


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each piece of bytes that came: whether it was answered without the parser."""
    seen: list[bool] = []
    answer = Parser.answer_again

    def watched(self: Parser, data: bytes) -> bool:
        seen.append(answer(self, data))
        return seen[-1]

    monkeypatch.setattr(Parser, "answer_again", watched)
    return seen


async def test_a_repeated_head_is_not_parsed_again(world: World, again: list[bool]) -> None:
    await impose_facts(world)
    line = await Line.to(world.server)
    for query, verdict in (
        ("from=a&to=b", b"allowed"),
        ("from=banned&to=b", b"sender-banned"),
        ("from=a&to=c", b"allowed"),
    ):
        (answer,) = await line.ask(a_check(world, query))
        assert b'"verdict":"' + verdict + b'"' in answer
    assert again == [False, True, True]
    wrong = a_check(world, "from=a&to=b", basic(world.app, "wrong"))
    (refused,) = await line.ask(wrong)
    assert refused[9:12] == b"401"
    for repeated in (False, False, True):
        (answer,) = await line.ask(a_check(world))
        assert (answer[9:12], again[-1]) == (b"200", repeated)
    for other in ("from=a%20b&to=b", "from=a&to=" + "x" * 65, "from=a&to=b&min=1", "to=b&from=a"):
        await line.ask(a_check(world, other))
        assert not again[-1]
    line.end()


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        ("GET /healthz HTTP/1.1\r\nX-Note: ", b"200"),
        ("POST /v1/check HTTP/1.1\r\nHost: gate\r\nContent-Length: {}\r\n\r\n", b"401"),
    ],
)
async def test_a_head_inside_another_request_is_no_request(
    world: World, again: list[bool], beginning: str, status: bytes
) -> None:
    line = await Line.to(world.server)
    check_again = a_check(world)
    await line.ask(check_again)
    await line.ask(check_again)
    assert again == [False, True]
    await line.send(beginning.format(len(check_again)).encode())
    async with asyncio.timeout(WITHIN_S):
        while len(again) < 3:
            await asyncio.sleep(0.001)
    (answer,) = await line.ask(check_again)
    assert (answer[9:12], again[2:]) == (status, [False, False])
    (answer,) = await line.ask(PROBE)
    assert answer.endswith(b'{"status":"ok"}')
    line.end()
