"""Operators that are limited to Apps: for them other Apps do not exist, and nothing of the deployment is theirs."""

from __future__ import annotations

import pytest

from gate.core.operators import Operator, OperatorRole
from gate.http.v1.apps import ENDPOINTS, reach_of
from tests.http.test_apps import HASH, ask
from tests.http.world import World


async def begin_limited(world: World, role: OperatorRole, *apps: str) -> str:
    name = f"{role}-of-{len(apps)}-{world.app.key}"
    await world.store.operators.add(Operator(name=name, role=role, password_hash=HASH, created_at_ms=1, apps=apps))
    return name


async def test_only_its_apps_are_listed_shown_and_changed(world: World) -> None:
    other = world.app
    await world.begin_app()
    own = world.app
    name = await begin_limited(world, "operator", own.key)
    listed = await ask(world, name, "GET", "apps")
    assert [one["key"] for one in listed.body["apps"]] == [own.key]
    assert (await ask(world, name, "GET", f"apps/{own.key}")).body["key"] == own.key
    assert (await ask(world, name, "PATCH", f"apps/{own.key}", {"name": "Own"})).status == 200
    hidden = await ask(world, name, "GET", f"apps/{other.key}")
    absent = await ask(world, name, "GET", "apps/no-such-app")
    assert (hidden.status, hidden.body) == (404, {**absent.body, "message": hidden.body["message"]})
    assert hidden.body["message"].replace(other.key, "KEY") == absent.body["message"].replace("no-such-app", "KEY")
    assert (await ask(world, name, "PATCH", f"apps/{other.key}", {"name": "Theirs"})).status == 404


@pytest.mark.parametrize(("path", "method"), sorted(ENDPOINTS))
async def test_no_endpoint_reaches_another_app_or_the_deployment(world: World, path: str, method: str) -> None:
    other = world.app
    await world.begin_app()
    own = world.app
    name = await begin_limited(world, "admin", own.key)
    target = path.removeprefix("/v1/").replace("{app}", other.key)
    body: dict[str, str] | None = None if method in ("GET", "DELETE") else {}
    answered = await ask(world, name, method, target, body)
    expected = {"app": 404, "apps": 200, "deployment": 403}[reach_of(path, method)]
    assert answered.status == expected, answered
    assert other.key not in str(answered.body.get("apps", ""))


async def test_an_admin_of_an_app_may_remove_it(world: World) -> None:
    own = world.app
    name = await begin_limited(world, "admin", own.key)
    assert (await ask(world, name, "POST", f"apps/{own.key}/rotate-secret", {})).status == 200
    assert (await ask(world, name, "DELETE", f"apps/{own.key}")).status == 200
