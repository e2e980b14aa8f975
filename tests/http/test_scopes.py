"""Each endpoint of `/v1` with each scope: allowed if and only if its row says so; and what a key never opens."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import msgspec
import pytest
from yarl import URL

from gate.core.app_keys import with_finished_rotation, with_key, with_rotated_key, without_key
from gate.core.model import AppFacts
from gate.core.scopes import SCOPES, Scope, granted
from gate.http import v1
from gate.http.v1 import apps
from tests.http.event_stream import streaming
from tests.http.lines import PROBE, Line, a_check
from tests.http.test_apps import ask, begin_operator
from tests.http.test_fast_path import short
from tests.http.world import World, basic, now_ms, signed

__all__ = ["short"]
SETS: list[tuple[Scope, ...]] = list(chain.from_iterable(combinations(SCOPES, size) for size in range(1, 5)))
SECRET, NEXT = "the-secret-of-the-edge", "the-next-secret-of-it"
CHECK = "/v1/check?from=a&to=b"
# The second is an id of any bytes, among them those that end a path or a query.
USERS = ("alice", "%00%FF%2F..%2F%3Fv1%23")


def secret_of(scopes: tuple[Scope, ...]) -> str:
    return f"a-secret-with-{'-'.join(scopes)}-in-it"


def with_edge(world: World, *scopes: Scope) -> AppFacts:
    """The App with a key `edge`."""
    return with_key(msgspec.structs.replace(world.app, keys=()), "edge", scopes, SECRET, 1)


async def answered(world: World, method: str, target: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status, and the body of a refusal; not that of a stream, which has no end."""
    url = URL(world.url + target, encoded=True)
    async with world.session.request(method, url, data=b"{}", headers=headers) as answer:
        return answer.status, await answer.json() if answer.status in (401, 403) else {}


@pytest.mark.parametrize("user", USERS, ids=["a name", "odd bytes"])
async def test_each_endpoint_is_allowed_if_its_scopes_are_there(world: World, user: str) -> None:
    facts = world.app
    for scopes in SETS:
        facts = with_key(facts, "-".join(scopes), scopes, secret_of(scopes), 1)
    await world.set_app(facts)
    for (path, method), endpoint in v1.ENDPOINTS.items():
        for scopes in SETS:
            headers = basic(world.app, secret_of(scopes)) | {"Content-Type": "application/json"}
            # Without members of the body, most of what is allowed is 400, and changes nothing for the next.
            status, body = await answered(world, method, path.replace("{user}", user), headers)
            missing = [scope for scope in endpoint.scopes if scope not in granted(scopes)]
            assert (status == 403) is bool(missing) and status != 401, (method, path, scopes, status)
            if missing:
                assert (body["error"], body["scope"], body["key"]) == ("forbidden", missing[0], "-".join(scopes))
                assert f"no scope '{missing[0]}'" in body["message"]


async def test_the_apps_own_secret_has_all_scopes(world: World) -> None:
    await world.set_app(with_edge(world, "check"))
    headers = basic(world.app) | {"Content-Type": "application/json"}
    for path, method in v1.ENDPOINTS:
        status, _ = await answered(world, method, path.replace("{user}", "alice"), headers)
        assert status not in (401, 403), (method, path)


def test_every_endpoint_of_an_app_needs_a_scope() -> None:
    assert [key for key, endpoint in v1.ENDPOINTS.items() if not endpoint.scopes] == []
    assert {scope for endpoint in v1.ENDPOINTS.values() for scope in endpoint.scopes} == set(SCOPES)


async def test_a_key_is_no_operator_and_signs_nothing(world: World) -> None:
    await world.set_app(with_edge(world, "admin"))
    for path, method in apps.ENDPOINTS:
        target = path.replace("{app}", world.app.key).replace("{name}", "edge")
        assert (await answered(world, method, target, basic(world.app, SECRET)))[0] in (401, 429)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for secret in (SECRET, world.app.keys[0].digests[0]):
        headers = signed(world.app, secret=secret) | form
        assert (await world.send("POST", "/user/block/query.json", b"", headers)).status == 401
        assert (await world.send("GET", CHECK, headers=headers)).status == 401
    assert (await world.send("POST", "/user/block/query.json", b"", basic(world.app, SECRET) | form)).status == 400


async def test_a_key_opens_its_own_app_only(world: World) -> None:
    """Also where the key of one App is the beginning of another's, and both have a key of the same name."""
    first = with_edge(world, "admin")
    await world.set_app(first)
    key = first.key + "2"
    second = with_key(AppFacts(key=key, secrets=("secret-2",), created_at_ms=1), "edge", ("admin",), NEXT, 1)
    await world.node.acks.wait(await world.store.apps.create(second, now_ms()), 5_000)
    await world.store.bans.impose(key, [b"mallory"], now_ms() + 600_000, now_ms())
    for facts, right, wrong in ((first, SECRET, NEXT), (second, NEXT, SECRET)):
        assert (await world.send("GET", "/v1/bans", headers=basic(facts, wrong))).status == 401
        bans = await world.send("GET", "/v1/bans", headers=basic(facts, right))
        assert [one["user"] for one in bans.body["bans"]] == ["mallory"] * (facts is second)


async def test_the_short_way_takes_a_key_and_looks_at_its_scopes(world: World, short: list[bool]) -> None:
    line = await Line.to(world.server)
    await line.ask(PROBE)
    edge = basic(world.app, SECRET)

    async def status() -> bytes:
        (answer,) = await line.ask(a_check(world, headers=edge))
        assert short[-1] == (answer[9:12] == b"200")
        return answer[9:12]

    bare = world.app
    assert await status() == b"401"
    for scopes, expected in (
        (("check",), b"200"),
        (("presence",), b"403"),
        (("admin",), b"200"),
        (("users", "presence"), b"403"),
        (("check", "users"), b"200"),
    ):
        await world.set_app(with_edge(world, *scopes))
        assert [await status(), await status()] == [expected] * 2, "what is remembered of a header is of these scopes"
    await world.set_app(bare)
    assert await status() == b"401", "the key was removed"
    line.end()


async def test_a_rotation_accepts_both_secrets_until_it_is_finished(world: World) -> None:
    both = with_rotated_key(with_edge(world, "check"), "edge", NEXT)
    for facts, expected in ((both, [200, 200]), (with_finished_rotation(both, "edge"), [401, 200])):
        await world.set_app(facts)
        assert [
            (await world.send("GET", CHECK, headers=basic(facts, secret))).status for secret in (SECRET, NEXT)
        ] == expected


async def test_a_call_that_lacks_a_scope_uses_up_no_limit(world: World) -> None:
    await world.set_app(msgspec.structs.replace(with_edge(world, "check"), rate_limits={"v1/bans": 1}))
    for _ in range(5):
        assert (await world.send("GET", "/v1/bans", headers=basic(world.app, SECRET))).status == 403
    assert (await world.v1("GET", "bans")).status == 200


@pytest.mark.parametrize("how", ["the key is removed", "its scope is gone", "the App's secret is dropped"])
async def test_a_stream_ends_with_what_opened_it(world: World, how: str) -> None:
    present = with_edge(world, "presence")
    await world.set_app(present)
    secret = "secret-1" if how.startswith("the App") else SECRET
    changed = {
        "the key is removed": without_key(present, "edge"),
        "its scope is gone": with_edge(world, "check"),
        "the App's secret is dropped": msgspec.structs.replace(present, secrets=("secret-2",)),
    }[how]
    async with streaming(world.url, world.app, headers=basic(world.app, secret)) as stream:
        await world.set_app(changed)
        with pytest.raises(EOFError):
            while True:
                await stream.frame()


@pytest.mark.parametrize("how", ["its secret is dropped", "it is strict no more"])
async def test_a_signed_stream_ends_with_what_its_app_accepts(world: World, how: str) -> None:
    strict = msgspec.structs.replace(world.app, secrets=("secret-2", "secret-1"), strict_signature=True)
    await world.set_app(strict)
    # Signed with the older of two secrets, in the middle of a rotation.
    headers = signed(msgspec.structs.replace(strict, secrets=("secret-1",)))
    changed = {
        "its secret is dropped": msgspec.structs.replace(strict, secrets=("secret-2",)),
        "it is strict no more": msgspec.structs.replace(strict, strict_signature=False),
    }[how]
    async with streaming(world.url, world.app, headers=headers) as stream:
        await world.set_app(changed)
        with pytest.raises(EOFError):
            while True:
                await stream.frame()


# Operators make them


async def test_an_admin_adds_rotates_and_removes_keys(world: World) -> None:
    admin, at = await begin_operator(world, "admin"), f"apps/{world.app.key}/keys"
    body = {"name": "router-1", "scopes": ["presence", "check", "check"], "reason": "a new router"}
    made = await ask(world, admin, "POST", at, body)
    assert made.status == 200 and made.body["applied"] == "all"
    assert made.body["scopes"] == ["check", "presence"] and len(made.body["secret"]) == 32
    assert (await world.send("GET", CHECK, headers=basic(world.app, made.body["secret"]))).status == 200
    rotated = await ask(world, admin, "POST", f"{at}/router-1/rotate", {"reason": "it leaked"})
    assert rotated.body["secret_count"] == 2
    assert (await ask(world, admin, "POST", f"{at}/router-1/rotate", {})).status == 409, "one is under way"
    finished = await ask(world, admin, "POST", f"{at}/router-1/rotate", {"finish": True})
    assert (finished.body["secret_count"], "secret" in finished.body) == (1, False)
    statuses = [
        (await world.send("GET", CHECK, headers=basic(world.app, secret))).status
        for secret in (made.body["secret"], rotated.body["secret"])
    ]
    assert statuses == [401, 200]
    shown = {"name": "router-1", "scopes": ["check", "presence"], "secret_count": 1}
    (listed,) = (await ask(world, admin, "GET", at)).body["keys"]
    assert listed == listed | shown and set(listed) == {*shown, "created_at_ms"}
    assert (await ask(world, admin, "GET", f"apps/{world.app.key}")).body["keys"] == [listed]
    assert (await ask(world, admin, "DELETE", f"{at}/router-1")).status == 200
    assert (await world.send("GET", CHECK, headers=basic(world.app, rotated.body["secret"]))).status == 401
    audit = (await ask(world, admin, "GET", "deployment-audit?count=4")).body["entries"]
    stored = await world.store.apps.get(world.app.key)
    assert stored.keys == ()
    assert [list(entry["changed"]) for entry in audit] == [["keys.router-1"]] * 4
    assert audit[-1]["changed"]["keys.router-1"][0] is None and audit[0]["changed"]["keys.router-1"][1] is None
    assert (audit[-1]["reason"], audit[-1]["actor"]) == ("a new router", admin)
    for secret in (made.body["secret"], rotated.body["secret"]):
        for said in (secret, with_key(world.app, "x", ("check",), secret, 1).keys[0].digests[0]):
            assert said not in str(audit)


async def test_only_an_admin_sees_and_makes_keys(world: World) -> None:
    operator, at = await begin_operator(world, "operator"), f"apps/{world.app.key}/keys"
    for method, target in (("GET", at), ("POST", at), ("POST", f"{at}/x/rotate"), ("DELETE", f"{at}/x")):
        assert (await ask(world, operator, method, target, None if method == "GET" else {})).status == 403


@pytest.mark.parametrize(
    ("method", "below", "body", "status", "parameter"),
    [
        ("POST", "", {"name": "router-1"}, 400, "scopes"),
        ("POST", "", {"name": "router-1", "scopes": []}, 400, "scopes"),
        ("POST", "", {"name": "router-1", "scopes": ["all"]}, 400, "scopes[0]"),
        ("POST", "", {"name": "..", "scopes": ["check"]}, 400, "name"),
        ("POST", "", {"name": "a b", "scopes": ["check"]}, 400, "name"),
        ("POST", "", {"name": "router-1", "scopes": ["check"], "secret": "a-short-secret"}, 400, "secret"),
        ("POST", "", {"name": "edge", "scopes": ["check"]}, 409, None),
        ("POST", "", {"name": "router-1", "scopes": ["check"], "secret": SECRET}, 409, None),
        ("POST", "/edge/rotate", {"secret": SECRET}, 409, None),
        ("POST", "/edge/rotate", {"secret": NEXT, "finish": True}, 400, "secret"),
        ("POST", "/router-2/rotate", {}, 404, None),
        ("POST", "/a%20b/rotate", {}, 404, None),
        ("DELETE", "/router-2", None, 404, None),
        ("DELETE", "/%65dge", None, 404, None),
    ],
)
async def test_mistakes_are_named_and_change_nothing(
    world: World, method: str, below: str, body: object, status: int, parameter: str | None
) -> None:
    await world.set_app(with_edge(world, "check"))
    admin = await begin_operator(world, "admin")
    reply = await ask(world, admin, method, f"apps/{world.app.key}/keys{below}", body)
    assert (reply.status, reply.body.get("parameter")) == (status, parameter), reply
    assert SECRET not in str(reply.body) and NEXT not in str(reply.body)
    assert await world.store.apps.get(world.app.key) == world.app
    assert (await ask(world, admin, "GET", "apps/no-such-app/keys")).status == 404
