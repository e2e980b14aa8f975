"""Paths whose template could be mistaken for a path, and whose slashes are escaped."""

from __future__ import annotations

import pytest

from tests.http.world import World, basic

TEMPLATES = [("GET", "/v1/users%2F{user}"), ("GET", "/v1%2fusers/%7Buser%7D"), ("GET", "/v1%2Fusers%2F%7buser}")]


@pytest.mark.parametrize(("method", "target"), TEMPLATES)
async def test_a_template_is_no_path(world: World, method: str, target: str) -> None:
    reply = await world.send(method, target, headers=basic(world.app))
    assert reply.status == 404, reply


async def test_a_user_may_be_called_as_the_template_is(world: World) -> None:
    assert (await world.v1("GET", "users/{user}")).status in (200, 404)
    assert (await world.v1("PUT", "users/%7Buser%7D", {})).status != 500
