"""The request's id: the caller's own where it is fit to be echoed. JSON in one write has the bytes that aiohttp would send."""

from __future__ import annotations

import re

import pytest
from aiohttp import web

from gate.http import responses
from gate.http.responses import JSON_TYPE, json_response, request_id_of
from tests.http.lines import Line, a_request, the_same
from tests.http.world import World, basic


@pytest.mark.parametrize("given", ["a" * 32, "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "x"])
def test_a_fit_id_is_echoed(given: str) -> None:
    assert request_id_of({"X-Request-Id": given}) == given


@pytest.mark.parametrize("given", ["", "a b", "é", "x" * 65, "a\tb"])
def test_another_is_replaced_by_32_hex_digits(given: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", request_id_of({"X-Request-Id": given}))
    assert request_id_of({}) != request_id_of({})


def test_json_is_labelled_as_rongcloud_labels_it() -> None:
    reply = json_response({"code": 200, "name": "你"})
    assert reply.headers["Content-Type"] == JSON_TYPE == "application/json;charset=UTF-8"
    assert reply.body == '{"code":200,"name":"你"}'.encode()


REQUESTS = (
    "GET /v1/explain?from=a&to=b",
    "GET /v1/explain?from=a",
    "GET /v1/nowhere",
    "PUT /v1/bans",
    "POST /user/block.json",
    "GET /v1/audit?count=x",
)


async def test_one_write_has_the_bytes_that_aiohttp_sends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [
        a_request(f"{line} {version}", {**basic(world.app), "X-Request-Id": "mine", **more})
        for line in REQUESTS
        for version, more in (("HTTP/1.1", {}), ("HTTP/1.1", {"Connection": "close"}), ("HTTP/1.0", {}))
    ]
    of_head = [request for request in sent if request.startswith(b"GET") and b" HTTP/1.1\r" in request]
    sent += [request.replace(b"GET", b"HEAD", 1) for request in of_head]

    async def answers() -> list[bytes]:
        found = []
        for request in sent:
            line = await Line.to(world.server)
            (answer,) = await line.ask(request)
            line.end()
            found.append(re.sub(rb'"now":\d+', b'"now":0', the_same(answer)))
        return found

    ours = await answers()
    monkeypatch.setattr(responses, "JsonResponse", web.Response)
    theirs = await answers()
    # aiohttp puts the two headers that `_label` adds in another order.
    assert [sorted(one.split(b"\r\n")) for one in ours] == [sorted(one.split(b"\r\n")) for one in theirs]


async def test_a_header_with_a_line_break_is_never_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: object, status: int = 200, headers: object = None) -> web.Response:
        return json_response(body, status, {"X-Gate-Test": "a\r\nSet-Cookie: b"})

    monkeypatch.setattr("gate.http.app.json_response", broken)
    line = await Line.to(world.server)
    assert await line.ask(a_request("POST /user/block.json HTTP/1.1", {"X-Request-Id": "mine"})) == []
    assert await line.is_ended()
