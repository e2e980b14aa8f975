"""Features that only RongCloud has: each path answers 1009 / 430 and names the feature."""

from __future__ import annotations

import pytest

from gate.http import rongcloud
from gate.http.rongcloud.absent import ABSENT
from tests.http.world import World, signed


@pytest.mark.parametrize("path", sorted(ABSENT))
async def test_it_is_named(world: World, path: str) -> None:
    reply = await world.user(path.removeprefix("/user/"), [("userId", "u1")])
    assert reply.status == 430
    assert reply.body == {"code": 1009, "errorMessage": f"Gate does not offer {ABSENT[path]}.", "url": path}


async def test_a_json_body_is_no_other_mistake(world: World) -> None:
    headers = {"Content-Type": "application/json", **signed(world.app)}
    reply = await world.send("POST", "//user/tag/set.json", b'{"userId":"u1","tags":["a"]}', headers)
    assert (reply.status, reply.body["code"]) == (430, 1009)


async def test_the_signature_comes_first(world: World) -> None:
    reply = await world.send("POST", "/user/tag/set.json", b"", signed(world.app, secret="wrong"))
    assert (reply.status, reply.body["code"]) == (401, 1004)
    assert (await world.send("GET", "/user/tag/set.json", headers=signed(world.app))).status == 405


def test_nothing_that_works_is_called_absent() -> None:
    assert not ABSENT.keys() & rongcloud.ENDPOINTS.keys()
