"""Features that only RongCloud has: each path answers 1009 / 430 and names the feature."""

from __future__ import annotations

import pytest

from gate.http import rongcloud
from gate.http.routing import FAMILIES, UNSUPPORTED
from tests.http.world import World, signed


@pytest.mark.parametrize("path", sorted(UNSUPPORTED))
async def test_it_is_named(world: World, path: str) -> None:
    reply = await world.user(path.removeprefix("/user/"), [("userId", "u1")])
    assert reply.status == 430
    assert reply.body == {"code": 1009, "errorMessage": f"Gate does not offer {UNSUPPORTED[path]}.", "url": path}


async def test_a_json_body_is_no_other_mistake(world: World) -> None:
    headers = {"Content-Type": "application/json", **signed(world.app)}
    reply = await world.send("POST", "//user/tag/set.json", b'{"userId":"u1","tags":["a"]}', headers)
    assert (reply.status, reply.body["code"]) == (430, 1009)


async def test_the_signature_comes_first(world: World) -> None:
    reply = await world.send("POST", "/user/tag/set.json", b"", signed(world.app, secret="wrong"))
    assert (reply.status, reply.body["code"]) == (401, 1004)
    assert (await world.send("GET", "/user/tag/set.json", headers=signed(world.app))).status == 405


@pytest.mark.parametrize("path", [
    "/group/create.json", "/group/user/gag/add.json", "/chatroom/create_new.json", "/message/private/publish.json",
    "/message/history/delete.json", "/statusmessage/group/publish.json", "/conversation/notification/set.json",
    "/friend/add.json", "/push.json", "/push/user.json", "/ultragroup/channel/create.json", "/sensitiveword/add.json",
    "/sensitiveword/batch/delete.json", "/wordfilter/list.json", "/entrust/group/member/kick/all.json",
    "//group/join.json", "/v2/message/broadcast.json",
])  # fmt: skip
async def test_any_path_of_a_family_of_rongclouds_is_1009(world: World, path: str) -> None:
    headers = {"Content-Type": "application/json", **signed(world.app)}
    reply = await world.send("POST", path, b'{"a":1}', headers)
    assert (reply.status, reply.body["code"], reply.body["url"]) == (430, 1009, path)
    assert reply.body["errorMessage"].removeprefix("Gate does not offer ").rstrip(".") in FAMILIES.values()


async def test_a_family_asks_for_the_signature_first(world: World) -> None:
    reply = await world.send("POST", "/group/create.json", b"", signed(world.app, secret="wrong"))
    assert (reply.status, reply.body["code"], set(reply.body)) == (401, 1004, {"code", "errorMessage", "url"})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/nothing.json", "/a/b/c.json", "/userx/block.json", "/v1/nothing.json", "//x.json"])
async def test_any_unknown_json_path_is_in_rongclouds_shape(world: World, path: str, method: str) -> None:
    reply = await world.send(method, path, b"")
    assert (reply.status, reply.body["code"], reply.body["url"]) == (404, 404, path)
    assert set(reply.body) == {"code", "errorMessage", "url"}


async def test_what_gate_serves_keeps_its_own_shape(world: World) -> None:
    reply = await world.send("POST", "/openapi.json", b"")
    assert (reply.status, reply.body["error"]) == (405, "method-not-allowed")


def test_nothing_that_works_is_called_absent() -> None:
    assert not UNSUPPORTED.keys() & rongcloud.ENDPOINTS.keys()
