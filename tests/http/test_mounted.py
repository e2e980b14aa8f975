"""Mounted pages have their prefix to themselves; their requests are counted and labelled, their bugs not shown."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from gate.errors import GateError, Refused
from gate.http.context import Deps
from gate.http.options import HttpOptions
from gate.http.server import serve_http
from tests.http.test_server import deps_of
from tests.http.world import World


class Wall:
    """Pages that answer with the request, and can be made to fail."""

    prefix = "/wall/"
    group = "wall"

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        if "refused" in request.path:
            raise Refused("not today")
        if "bug" in request.path:
            raise ZeroDivisionError("a secret detail")
        return web.Response(text=f"{request.method} {request.path}")

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        return web.Response(text=f"sorry: {fault}", status=418)


async def test_pages_answer_all_below_their_prefix_and_nothing_else(world: World) -> None:
    counted: list[tuple[str, int]] = []
    deps = replace(
        deps_of(world, HttpOptions(port=0)), count_request=lambda group, status, _: counted.append((group, status))
    )
    server = await serve_http(deps, mounted=[Wall()])
    there = World(
        world.store, world.node, server, world.session, world.presence, world.feeds, world.gateway, world.deps
    )
    for method, target in (("GET", "/wall/"), ("PUT", "/wall/a%0Ab"), ("GET", "/wall//x"), ("GET", "/wall")):
        reply = await there.send(method, target, headers={"X-Request-Id": "mine"})
        assert (reply.status, reply.body.decode().split()[0]) == (200, method)
        assert (reply.headers["Server"], reply.headers["X-Request-Id"]) == ("gate", "mine")
    assert (await there.send("GET", "/wall/refused")).body == b"sorry: not today"
    bug = await there.send("GET", "/wall/bug")
    assert (bug.status, b"ZeroDivisionError" in bug.body, b"secret" in bug.body) == (418, True, False)
    assert {*counted} == {("wall", 200), ("wall", 418)}
    assert (await there.send("GET", "/wallpaper")).status == 404
    assert counted[-1] == ("unknown", 404)
    await server.drain(1.0)
