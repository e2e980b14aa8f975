"""`--admin-http`: the paths for operators and monitoring have a port of their own, and are not served on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple

import pytest
import pytest_asyncio

from gate.console.site import Console
from gate.http.operators import OperatorAuth
from gate.http.options import HttpOptions
from gate.http.server import HttpServer, serve_http
from tests.http.lines import Line, a_request
from tests.http.test_server import deps_of
from tests.http.world import World, basic, signed

OF_OPERATORS = [
    "/", "/console", "/console/", "/console/console.css", "/console/none/online", "/v1/apps", "/v1/apps/key",
    "/v1/deployment-audit", "/metrics", "/docs", "/docs/start.js", "/openapi.json",
]  # fmt: skip
OF_CALLERS = [
    "/v1/check?from=a&to=b", "/v1/explain?from=a&to=b", "/v1/audit", "/v1/users/a", "/client/", "/client/v1/blacklist",
    "/client/v1/connect",
]  # fmt: skip


class Split(NamedTuple):
    public: HttpServer
    admin: HttpServer
    """The same server, by the address of its other port."""


@pytest_asyncio.fixture(loop_scope="module")
async def split(world: World) -> AsyncIterator[Split]:
    options = HttpOptions(port=0, admin=("127.0.0.1", 0), public_url="https://im.example/gate")
    door = OperatorAuth()
    server = await serve_http(
        replace(deps_of(world, options), metrics_text=lambda: b"gate_up 1\n"), door, [Console(door)]
    )
    yield Split(server, HttpServer([], server.host, server.admin_port))
    await server.drain(1.0)


async def answer(to: HttpServer, path: str, headers: dict[str, str], method: str = "GET") -> bytes:
    line = await Line.to(to)
    [answer] = await line.ask(a_request(f"{method} {path} HTTP/1.1", headers))
    line.end()
    return answer


@pytest.mark.parametrize("path", OF_OPERATORS)
async def test_what_is_for_operators_is_on_its_own_port(world: World, split: Split, path: str) -> None:
    assert b" 404 " not in (await answer(split.admin, path, {}))[:13]
    head = await answer(split.public, path, basic(world.app))
    assert b" 404 " in head[:13] and b"there is no endpoint" in head


@pytest.mark.parametrize("path", OF_CALLERS)
async def test_what_is_for_callers_stays(world: World, split: Split, path: str) -> None:
    if path != "/v1/users/a":
        assert b" 404 " not in (await answer(split.public, path, basic(world.app)))[:13]
    head = await answer(split.admin, path, basic(world.app))
    assert b" 404 " in head[:13] and b"there is no endpoint" in head


async def test_rongclouds_paths_are_on_the_ordinary_port_alone(world: World, split: Split) -> None:
    for path, code in (("/user/block.json", 1002), ("/message/publish.json", 1009)):
        assert b'"code":%d' % code in await answer(split.public, path, signed(world.app), "POST")
        assert b'"code":404' in await answer(split.admin, path, signed(world.app), "POST")


async def test_both_ports_answer_probes(split: Split) -> None:
    for server in split:
        assert b" 200 " in (await answer(server, "/healthz", {}))[:13]
        assert b"/readyz" not in await answer(server, "/readyz", {})


async def test_the_admin_port_leads_to_its_own_console(split: Split) -> None:
    assert b"\r\nLocation: /console/\r\n" in await answer(split.admin, "/", {})
    # The document still names where callers reach the API.
    assert b'"servers":[{"url":"https://im.example/gate"}]' in await answer(split.admin, "/openapi.json", {})


async def test_an_admin_port_in_use_leaves_nothing(world: World, split: Split) -> None:
    for options in (
        HttpOptions(port=0, admin=("127.0.0.1", split.admin.port)),
        HttpOptions(port=split.public.port, admin=("127.0.0.1", 0)),
    ):
        with pytest.raises(OSError, match="address already in use"):
            await serve_http(deps_of(world, options))
