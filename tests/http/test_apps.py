"""`/v1/apps`: who may do what, what it does, and that no answer gives a secret away."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from gate.core.operators import Operator, OperatorRole
from gate.core.token import signing_key
from gate.store.passwords import hash_password
from tests.http.test_client_blacklist import client, token_of
from tests.http.world import Reply, World, basic, now_ms

PASSWORD = "a long enough password: with a colon, and é"
HASH = hash_password(PASSWORD)


async def begin_operator(world: World, role: OperatorRole) -> str:
    """A new operator's name."""
    name = f"{role}-{now_ms()}-{len(await world.store.operators.list())}"
    await world.store.operators.add(Operator(name=name, role=role, password_hash=HASH, created_at_ms=1))
    return name


async def ask(world: World, name: str, method: str, target: str, body: Any = None, password: str = PASSWORD) -> Reply:
    """A call of `/v1/<target>` as an operator."""
    headers = {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return await world.send(method, f"/v1/{target}", None if body is None else orjson.dumps(body), headers)


async def test_an_app_is_created_changed_and_removed(world: World) -> None:
    admin = await begin_operator(world, "admin")
    made = await ask(world, admin, "POST", "apps", {"name": "Shop 店", "environment": "production"})
    assert made.status == 200, made
    key, secret = made.body["app_key"], made.body["app_secret"]
    assert made.body == made.body | {"name": "Shop 店", "environment": "production", "applied": "all"}
    pair = {"Authorization": "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()}
    assert (await world.send("GET", "/v1/check?from=a&to=b", headers=pair)).status == 200
    changes: dict[str, Any] = {
        "list_policy": "both",
        "exempt": ["boss"],
        "user_limit": None,
        "webhook_url": "https://a.example/x",
    }
    changes |= {"presence_webhook_url": "https://a.example/p", "device_policy": "one", "hide_presence": True}
    changes |= {"close_sessions_on_expire": True, "presence_slices": 3}
    changes |= {"shadow": True, "on_stale": "refuse", "max_staleness_ms": 5_000}
    changed = await ask(world, admin, "PATCH", f"apps/{key}", {**changes, "reason": "a test"})
    assert changed.status == 200, changed
    shown = await ask(world, admin, "GET", f"apps/{key}")
    assert shown.body == shown.body | changes | {"name": "Shop 店", "secret_count": 1, "token_key_count": 0}
    assert changed.body == shown.body | {name: changed.body[name] for name in ("revision", "applied")}
    assert key in [app["key"] for app in (await ask(world, admin, "GET", "apps")).body["apps"]]
    assert (await ask(world, admin, "DELETE", f"apps/{key}")).status == 200
    assert (await ask(world, admin, "GET", f"apps/{key}")).status == 404
    assert (await ask(world, admin, "DELETE", f"apps/{key}")).status == 404
    assert (await world.send("GET", "/v1/check?from=a&to=b", headers=pair)).status == 401


async def test_the_audit_names_the_operator_and_the_reason_and_no_secret(world: World) -> None:
    admin = await begin_operator(world, "admin")
    body = {"secret": "the-new-secret", "short_secret": True, "reason": "it leaked"}
    assert (await ask(world, admin, "POST", f"apps/{world.app.key}/rotate-secret", body)).status == 200
    audit = await world.v1("GET", "audit")
    assert admin in str(audit.body) and "it leaked" in str(audit.body)
    assert "the-new-secret" not in str(audit.body) and world.app.secrets[0] not in str(audit.body)


@pytest.mark.parametrize("keep_tokens", [True, False])
async def test_a_rotation_overlaps_and_its_end_decides_about_tokens(world: World, keep_tokens: bool) -> None:
    admin, key = await begin_operator(world, "admin"), world.app.key
    old = token_of(world.app)
    rotated = await ask(world, admin, "POST", f"apps/{key}/rotate-secret", {})
    fresh = rotated.body["app_secret"]
    for secret in (world.app.secrets[0], fresh):
        assert (await world.send("GET", "/v1/check?from=a&to=b", headers=basic(world.app, secret))).status == 200
    again = await ask(world, admin, "POST", f"apps/{key}/rotate-secret", {})
    assert (again.status, again.body["error"]) == (409, "refused")
    assert await is_valid(world, old)
    dropped = await ask(world, admin, "POST", f"apps/{key}/drop-secret", {"keep_tokens": keep_tokens})
    assert dropped.body["secret_count"] == 1
    assert dropped.body["token_key_count"] == int(keep_tokens)
    assert await is_valid(world, old) is keep_tokens
    assert (await world.send("GET", "/v1/check?from=a&to=b", headers=basic(world.app))).status == 401
    assert (await world.send("GET", "/v1/check?from=a&to=b", headers=basic(world.app, fresh))).status == 200
    shown = str((await ask(world, admin, "GET", f"apps/{key}")).body)
    assert fresh not in shown and signing_key(world.app.secrets[0]).hex() not in shown
    await ask(world, admin, "POST", f"apps/{key}/drop-secret", {"keep_tokens": False})
    assert not await is_valid(world, old), "a later drop ends the Tokens that an earlier one kept"


async def is_valid(world: World, token: str) -> bool:
    return (await client(world, "GET", shown=token)).status == 200


ENDPOINTS = [
    ("GET", "apps", "viewer"),
    ("GET", "apps/KEY", "viewer"),
    ("PATCH", "apps/KEY", "operator"),
    ("POST", "apps", "admin"),
    ("POST", "apps/KEY/rotate-secret", "admin"),
    ("POST", "apps/KEY/drop-secret", "admin"),
    ("GET", "deployment-audit", "viewer"),
    ("DELETE", "apps/KEY", "admin"),
]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
async def test_each_endpoint_takes_its_role(world: World, role: OperatorRole) -> None:
    roles = ["viewer", "operator", "admin"]
    name = await begin_operator(world, role)
    for method, target, needed in ENDPOINTS:
        reply = await ask(world, name, method, target.replace("KEY", "stranger"), {} if method != "GET" else None)
        is_let_in = roles.index(role) >= roles.index(needed)
        assert (reply.status != 403) is is_let_in, (method, target, reply)
        assert reply.status < 500
        if not is_let_in:
            assert reply.body["error"] == "forbidden"


@pytest.mark.parametrize(
    "setting",
    [
        {"environment": "production"},
        {"webhook_url": "http://a/"},
        {"presence_webhook_url": "http://a/"},
        {"token_ttl_s": 1},
    ],
)
async def test_some_settings_take_an_admin(world: World, setting: dict[str, Any]) -> None:
    operator = await begin_operator(world, "operator")
    reply = await ask(world, operator, "PATCH", f"apps/{world.app.key}", {"name": "New", **setting})
    assert (reply.status, reply.body["error"]) == (403, "forbidden")
    assert next(iter(setting)) in reply.body["message"]
    assert (await world.store.apps.get(world.app.key)).name == world.app.name
    assert (await ask(world, operator, "PATCH", f"apps/{world.app.key}", {"name": "New"})).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "parameter"),
    [
        ("POST", "apps", {}, "name"),
        ("POST", "apps", {"name": ""}, "name"),
        ("POST", "apps", {"name": "x" * 65}, "name"),
        ("POST", "apps", {"name": "x", "key": "a b"}, "key"),
        ("POST", "apps", {"name": "x", "secret": "short"}, "secret"),
        ("POST", "apps", {"name": "x", "environment": "test"}, "environment"),
        ("POST", "apps", {"name": "x", "secrets": ["x"]}, "secrets"),
        ("POST", "apps", {"name": "x", "reason": "x" * 513}, "reason"),
        ("PATCH", "apps/KEY", {}, "body"),
        ("PATCH", "apps/KEY", {"reason": "x"}, "body"),
        ("PATCH", "apps/KEY", {"secrets": ["abcdefgh"]}, "secrets"),
        ("PATCH", "apps/KEY", {"token_keys": []}, "token_keys"),
        ("PATCH", "apps/KEY", {"list_ceiling": 0}, "list_ceiling"),
        ("PATCH", "apps/KEY", {"list_ceiling": None}, "list_ceiling"),
        ("PATCH", "apps/KEY", {"list_ceiling": True}, "list_ceiling"),
        ("PATCH", "apps/KEY", {"user_limit": -1}, "user_limit"),
        ("PATCH", "apps/KEY", {"utc_offset_minutes": 841}, "utc_offset_minutes"),
        ("PATCH", "apps/KEY", {"exempt": [""]}, "exempt"),
        ("PATCH", "apps/KEY", {"exempt": ["x" * 65]}, "exempt"),
        ("PATCH", "apps/KEY", {"exempt": [str(number) for number in range(1_001)]}, "exempt"),
        ("PATCH", "apps/KEY", {"rate_limits": {"nothing": 1}}, "rate_limits"),
        ("PATCH", "apps/KEY", {"rate_limits": {"user": 0}}, "rate_limits"),
        ("PATCH", "apps/KEY", {"webhook_url": "ftp://a.example/"}, "webhook_url"),
        ("PATCH", "apps/KEY", {"webhook_url": "http:///x"}, "webhook_url"),
        ("PATCH", "apps/KEY", {"webhook_url": "http://a:b@c.example/"}, "webhook_url"),
        ("PATCH", "apps/KEY", {"webhook_url": "http://a.example:99999/"}, "webhook_url"),
        ("PATCH", "apps/KEY", {"webhook_url": "http://a.example/\r\nX: y"}, "webhook_url"),
        ("PATCH", "apps/KEY", {"presence_webhook_url": "ftp://a.example/"}, "presence_webhook_url"),
        ("PATCH", "apps/KEY", {"presence_webhook_url": "http://a:b@c.example/"}, "presence_webhook_url"),
        ("PATCH", "apps/KEY", {"presence_webhook_url": None}, "presence_webhook_url"),
        ("PATCH", "apps/KEY", {"device_policy": "two"}, "device_policy"),
        ("PATCH", "apps/KEY", {"hide_presence": "yes"}, "hide_presence"),
        ("PATCH", "apps/KEY", {"presence_slices": 0}, "presence_slices"),
        ("PATCH", "apps/KEY", {"presence_slices": 65}, "presence_slices"),
        ("PATCH", "apps/KEY", {"shadow": "yes"}, "shadow"),
        ("PATCH", "apps/KEY", {"shadow": 1}, "shadow"),
        ("PATCH", "apps/KEY", {"shadow": None}, "shadow"),
        ("PATCH", "apps/KEY", {"on_stale": "allow"}, "on_stale"),
        ("PATCH", "apps/KEY", {"on_stale": "refuse"}, "max_staleness_ms"),
        ("PATCH", "apps/KEY", {"max_staleness_ms": 86_400_001}, "max_staleness_ms"),
        ("PATCH", "apps/KEY", {"max_staleness_ms": -1}, "max_staleness_ms"),
        ("POST", "apps/KEY/rotate-secret", {"secret": "has a space"}, "secret"),
        ("POST", "apps/KEY/rotate-secret", {"secret": "secret-1", "short_secret": True}, "secret"),
        ("POST", "apps/KEY/rotate-secret", {"secret": "a-short-secret"}, "secret"),
        ("POST", "apps", {"name": "x", "secret": "19-characters-of-it"}, "secret"),
        ("POST", "apps/KEY/drop-secret", {}, "keep_tokens"),
        ("POST", "apps/KEY/drop-secret", {"keep_tokens": "yes"}, "keep_tokens"),
        ("GET", "apps/a%20b", None, "app key"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(
    world: World, method: str, target: str, body: Any, parameter: str
) -> None:
    admin = await begin_operator(world, "admin")
    before = await world.store.apps.list()
    reply = await ask(world, admin, method, target.replace("KEY", world.app.key), body)
    assert (reply.status, reply.body["error"], reply.body["parameter"]) == (400, "invalid", parameter), reply
    assert await world.store.apps.list() == before


async def test_slices_of_presence_can_only_be_raised(world: World) -> None:
    admin = await begin_operator(world, "admin")
    for slices, status in ((4, 200), (4, 200), (3, 400), (1, 400), (5, 200)):
        reply = await ask(world, admin, "PATCH", f"apps/{world.app.key}", {"presence_slices": slices})
        assert reply.status == status, reply
        if status == 400:
            assert (reply.body["parameter"], "can only be raised: it is 4" in reply.body["message"]) == (
                "presence_slices", True,
            )  # fmt: skip
    assert (await world.store.apps.get(world.app.key)).presence_slices == 5


async def test_a_key_that_is_taken(world: World) -> None:
    admin = await begin_operator(world, "admin")
    reply = await ask(world, admin, "POST", "apps", {"name": "x", "key": world.app.key})
    assert (reply.status, reply.body["error"]) == (409, "refused")


async def test_an_unknown_app_is_not_found(world: World) -> None:
    admin = await begin_operator(world, "admin")
    for method, target, body in (
        ("GET", "apps/stranger", None),
        ("PATCH", "apps/stranger", {"name": "x"}),
        ("DELETE", "apps/stranger", None),
        ("POST", "apps/stranger/rotate-secret", {}),
        ("POST", "apps/stranger/drop-secret", {"keep_tokens": True}),
    ):
        reply = await ask(world, admin, method, target, body)
        assert (reply.status, reply.body["error"]) == (404, "not-found"), (method, reply)


async def test_an_apps_own_credentials_do_not_administer(world: World) -> None:
    reply = await world.v1("GET", "apps")
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert (await world.send("GET", "/v1/apps")).status == 401


@pytest.mark.parametrize("path", ["apps/{key}", "apps/{key}/keys/none"])
async def test_the_reason_of_a_removal_is_bounded(world: World, path: str) -> None:
    """It comes in the query, where nothing was bounded but numbers."""
    admin, key = await begin_operator(world, "admin"), world.app.key
    refused = await ask(world, admin, "DELETE", f"{path.format(key=key)}?reason={'x' * 513}")
    assert (refused.status, refused.body["parameter"]) == (400, "reason")
    assert (await ask(world, admin, "GET", f"apps/{key}")).status == 200
