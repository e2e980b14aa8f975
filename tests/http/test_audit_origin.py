"""The audit says who made each write as Gate found out itself, next to what the caller says of itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gate.core.app_keys import with_key
from gate.core.operators import Operator
from gate.http.sign_ins import ENTRIES_AN_HOUR, REFUSALS_A_MINUTE
from gate.store import keys
from gate.store.passwords import hash_password
from gate.store.writer import ORIGIN, UNKNOWN, Origin, packed_origin, unpacked_origin
from tests.console.visitor import Visitor
from tests.http.world import World, basic, now_ms, signed

PASSWORD = "a-long-password"
JSON = {"Content-Type": "application/json"}


def pair(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def latest(world: World) -> dict[str, Any]:
    entry: dict[str, Any] = (await world.v1("GET", "audit?count=1")).body["entries"][0]
    return entry


@pytest_asyncio.fixture(loop_scope="module")
async def operator(world: World) -> AsyncIterator[str]:
    name = f"op-{world.app.key}"
    account = Operator(name=name, role="admin", password_hash=hash_password(PASSWORD), created_at_ms=now_ms())
    await world.store.operators.add(account)
    yield name


async def test_an_app_cannot_say_that_it_is_another(world: World) -> None:
    ban = {"users": ["eve"], "seconds": 60, "reason": "spam", "actor": "operator root"}
    await world.send(
        "POST", "/v1/bans", msgspec.json.encode(ban), {**basic(world.app), **JSON, "X-Request-Id": "mine-1"}
    )
    assert {name: value for name, value in (await latest(world)).items() if name not in ("at", "until")} == {
        "what": "ban-imposed",
        "user": "eve",
        "actor": "operator root",
        "reason": "spam",
        "by": {"kind": "app", "name": world.app.key},
        "on_behalf_of": "operator root",
        "request_id": "mine-1",
        "address": "127.0.0.1",
    }


async def test_a_signature_is_the_apps_and_says_nothing_of_itself(world: World) -> None:
    await world.user("block.json", [("userId", "eve"), ("minute", "1")])
    entry = await latest(world)
    assert entry["by"] == {"kind": "app", "name": world.app.key} and "on_behalf_of" not in entry


async def test_a_key_is_named(world: World) -> None:
    secret = "the-secret-of-the-router"
    await world.set_app(with_key(world.app, "router-1", ("users",), secret, now_ms()))
    headers = {**pair(world.app.key, secret), "Content-Type": "application/json"}
    reply = await world.send("POST", "/v1/mutes", b'{"users":["eve"],"seconds":60}', headers)
    assert reply.status == 200
    assert (await latest(world))["by"] == {"kind": "key", "name": "router-1"}


async def test_a_user_is_named_by_its_id(world: World) -> None:
    token = (await world.v1("POST", "tokens", {"user": "ann_b"})).body["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    assert (await world.send("POST", "/client/v1/blacklist", b'{"users":["eve"]}', headers)).status == 200
    entry = await latest(world)
    assert entry["by"] == {"kind": "user", "name": "ann_b"}
    assert entry["actor"] == "user" and "on_behalf_of" not in entry


async def test_writes_at_once_keep_their_own_origin(world: World) -> None:
    other = world.app
    await world.begin_app()
    bans = [
        world.send(
            "POST",
            "/v1/bans",
            b'{"users":["u%d"],"seconds":60}' % number,
            {**basic(app), **JSON, "X-Request-Id": f"r-{number}"},
        )
        for number, app in enumerate([world.app, other] * 20)
    ]
    assert {reply.status for reply in await asyncio.gather(*bans)} == {200}
    entries = (await world.v1("GET", "audit?count=100")).body["entries"]
    made = [entry for entry in entries if entry["what"] == "ban-imposed"]
    assert len(made) == 20
    for entry in made:
        assert entry["by"] == {"kind": "app", "name": world.app.key}
        assert entry["request_id"] == f"r-{entry['user'][1:]}"


async def test_an_entry_of_an_older_version_is_of_unknown_origin(world: World) -> None:
    await world.v1("POST", "bans", {"users": ["eve"], "seconds": 60, "actor": "ops"})
    partition = world.store.writer.partition_of(world.app.key, b"eve")
    old = ("XADD", keys.audit(partition, world.app.key), "*", "k", "ban-lifted", "by", "ops", "why", "", "u", "eve")
    await world.store.client.read(old)
    entry = await latest(world)
    assert entry["by"] == {"kind": "unknown", "name": ""} and entry["on_behalf_of"] == entry["actor"] == "ops"


@pytest.mark.parametrize(
    "origin", [Origin("user", " a  b\0\n", "r", "::1"), Origin("app", "k"), Origin("node", "a node", "", ""), UNKNOWN]
)
def test_an_origin_comes_out_as_it_was(origin: Origin) -> None:
    ORIGIN.set(origin)
    assert unpacked_origin(packed_origin().encode()) == origin


async def test_the_deployment_audit_outlives_the_app(world: World, operator: str) -> None:
    headers = {**pair(operator, PASSWORD), "Content-Type": "application/json", "X-Request-Id": "mine-2"}
    key = f"short-{world.app.key}"
    assert (await world.send("POST", "/v1/apps", msgspec.json.encode({"name": "x", "key": key}), headers)).status == 200
    assert (await world.send("PATCH", f"/v1/apps/{key}", b'{"list_policy":"both"}', headers)).status == 200
    assert (await world.send("POST", f"/v1/apps/{key}/rotate-secret", b"{}", headers)).status == 200
    assert (await world.send("DELETE", f"/v1/apps/{key}", None, headers)).status == 200
    audit = (await world.send("GET", "/v1/deployment-audit?count=200", headers=headers)).body["entries"]
    of_app = [one for one in audit if one["about"] == key]
    assert [one["what"] for one in of_app] == ["app-removed", "app-changed", "app-changed", "app-created"]
    for one in of_app:
        assert one["by"] == {"kind": "operator", "name": operator}
        assert (one["request_id"], one["address"], one["actor"]) == ("mine-2", "127.0.0.1", operator)
    signed_in = [one for one in audit if (one["what"], one["about"]) == ("operator-signed-in", operator)]
    assert len(signed_in) == 1, "once for a program that sends its password each time"
    assert signed_in[0]["changed"] == {"surface": "operator"} and signed_in[0]["by"]["name"] == operator


async def test_refused_sign_ins_are_bounded_and_name_only_operators(world: World, operator: str) -> None:
    for number in range(REFUSALS_A_MINUTE + 3):
        name = operator if number == 0 else f"secret-typed-here-{number}"
        assert (await world.send("GET", "/v1/apps", headers=pair(name, "wrong-password"))).status in (401, 429)
    reply = await world.send("GET", "/v1/deployment-audit?count=100", headers=pair(operator, PASSWORD))
    refused = [one for one in reply.body["entries"] if one["what"] == "operator-refused"]
    assert 1 <= len(refused) <= REFUSALS_A_MINUTE
    assert {one["about"] for one in refused} <= {"", operator}
    assert {one["by"]["kind"] for one in refused} == {"unknown"} and {one["address"] for one in refused} == {
        "127.0.0.1"
    }
    assert "typed-here" not in str(reply.body) and "wrong-password" not in str(reply.body)


async def test_a_strangers_signature_makes_no_entry(world: World) -> None:
    headers = signed(world.app, secret="wrong-secret")
    assert (await world.send("POST", "/user/block.json", b"userId=a&minute=1", headers)).status == 401
    assert [one["what"] for one in (await world.v1("GET", "audit")).body["entries"]] == ["app-set"]


async def test_signing_in_over_and_over_pushes_no_entry_out(world: World, operator: str) -> None:
    visitor = Visitor(world, operator)
    for _ in range(ENTRIES_AN_HOUR + 3):
        assert (await visitor.sign_in(PASSWORD)).status == 303
    reply = await world.send("GET", "/v1/deployment-audit?count=200", headers=pair(operator, PASSWORD))
    of_operator = [
        one for one in reply.body["entries"] if (one["what"], one["about"]) == ("operator-signed-in", operator)
    ]
    assert len(of_operator) == ENTRIES_AN_HOUR
