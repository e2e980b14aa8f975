"""Operators at the endpoints of an App: `Gate-App` names the App, and then nothing but an operator's password is accepted."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from gate.core.operators import ROLES, OperatorRole, may
from gate.http.openapi.document import openapi_document
from gate.http.v1 import ENDPOINTS, role_of
from tests.http.test_admin_port import Split, answer
from tests.http.test_admin_port import split as split
from tests.http.test_apps import PASSWORD, begin_operator
from tests.http.test_limited_operators import begin_limited
from tests.http.world import Reply, World, basic


def credentials(name: str, app: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode(), "Gate-App": app}


async def call(world: World, name: str, method: str, target: str, body: Any = None, app: str = "") -> Reply:
    headers = {**credentials(name, app or world.app.key), "Content-Type": "application/json"}
    return await world.send(method, target, None if body is None else orjson.dumps(body), headers)


async def test_an_operators_ban_is_the_operators_in_the_audit(world: World) -> None:
    name = await begin_operator(world, "operator")
    banned = await call(world, name, "POST", "/v1/bans", {"users": ["ann"], "permanent": True, "reason": "spam"})
    assert (banned.status, banned.body["applied"]) == (200, "all"), banned
    assert (await call(world, name, "GET", "/v1/check?from=ann&to=bob")).body["verdict"] == "sender-banned"
    entry = (await call(world, name, "GET", "/v1/audit?user=ann")).body["entries"][0]
    assert entry == entry | {"what": "ban-imposed", "by": {"kind": "operator", "name": name}, "reason": "spam"}


@pytest.mark.parametrize("role", ROLES)
async def test_each_endpoint_takes_its_role(world: World, role: OperatorRole) -> None:
    name = await begin_operator(world, role)
    for path, method in sorted(ENDPOINTS):
        needed = role_of(path, method)
        reply = await call(world, name, method, path.replace("{user}", "ann"), None if method == "GET" else {})
        is_refused = needed is None or not may(role, needed)
        assert (reply.status == 403) == is_refused, (path, method, reply)
        if needed is not None and is_refused:
            assert reply.body == {
                "error": "forbidden",
                "message": f"this takes the role {needed}, and {name} is {role}",
            }


def test_reading_takes_a_viewer_and_what_cannot_be_undone_an_admin() -> None:
    assert role_of("/v1/audit", "GET") == role_of("/v1/check", "POST") == role_of("/v1/presence", "POST") == "viewer"
    assert role_of("/v1/bans", "POST") == role_of("/v1/users/{user}/kick", "POST") == "operator"
    assert role_of("/v1/users", "DELETE") == role_of("/v1/tokens", "POST") == role_of("/v1/bulk", "POST") == "admin"
    assert role_of("/v1/events", "GET") is None


async def test_with_the_header_no_credential_of_an_app_is_accepted(world: World) -> None:
    check = "/v1/check?from=a&to=b"
    assert (await world.send("GET", check, headers=basic(world.app))).status == 200
    for target in (check, "/v1/check?from=a&to=b&min=", "/v1/bans", "/v1/users/a"):
        reply = await world.send("GET", target, headers={**basic(world.app), "Gate-App": world.app.key})
        assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert (await world.send("GET", check, headers={"Gate-App": world.app.key})).status == 401


async def test_without_the_header_no_operator_is_accepted(world: World) -> None:
    headers = credentials(await begin_operator(world, "admin"), world.app.key)
    del headers["Gate-App"]
    assert (await world.send("GET", "/v1/check?from=a&to=b", headers=headers)).status == 401


async def test_an_app_out_of_reach_looks_like_one_that_does_not_exist(world: World) -> None:
    other = world.app.key
    await world.begin_app()
    name = await begin_limited(world, "admin", world.app.key)
    assert (await call(world, name, "GET", "/v1/bans")).status == 200
    hidden = await call(world, name, "GET", "/v1/bans", app=other)
    absent = await call(world, name, "GET", "/v1/bans", app="no-such-app")
    assert hidden.status == absent.status == 404
    assert hidden.body["message"].replace(other, "KEY") == absent.body["message"].replace("no-such-app", "KEY")


@pytest.mark.parametrize("app", ["", "a b", "x" * 200, "é"])
async def test_a_key_that_no_app_can_have(world: World, app: str) -> None:
    name = await begin_operator(world, "viewer")
    reply = await world.send("GET", "/v1/bans", headers=credentials(name, app))
    assert (reply.status, reply.body["error"]) == (404, "not-found")


async def test_wrong_passwords_are_throttled(world: World) -> None:
    name = await begin_operator(world, "viewer")
    wrong = credentials(name, world.app.key, "a wrong password")
    statuses = [(await world.send("GET", "/v1/bans", headers=wrong)).status for _ in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429
    assert (await call(world, name, "GET", "/v1/bans")).status == 429


async def test_with_a_port_for_operators_they_are_accepted_there_alone(world: World, split: Split) -> None:
    headers = credentials(await begin_operator(world, "viewer"), world.app.key)
    for path in ("/v1/check?from=a&to=b", "/v1/bans"):
        assert b" 200 " in (await answer(split.admin, path, headers))[:13]
        refused = await answer(split.public, path, headers)
        assert b" 401 " in refused[:13] and b"the port of --admin-http" in refused
        both = {**basic(world.app), "Gate-App": world.app.key}
        assert b" 401 " in (await answer(split.admin, path, both))[:13]


async def test_the_document_names_the_role_and_the_header() -> None:
    document: Any = openapi_document()
    impose = document["paths"]["/v1/bans"]["post"]
    assert {"operator": [], "gateApp": []} in impose["security"]
    assert "or the role `operator`" in impose["description"]
    assert document["components"]["securitySchemes"]["gateApp"]["name"] == "Gate-App"
