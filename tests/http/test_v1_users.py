"""`/v1/users`, `/v1/tokens` and the dossier."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import pytest

from gate.core.model import ListKind
from tests.http.test_client_blacklist import client
from tests.http.world import World, now_ms


async def test_register_show_change_list_delete(world: World) -> None:
    before_ms = now_ms()
    reply = await world.v1("POST", "users", {"user": "ann", "name": "安", "portrait": "http://x/1.png"})
    assert (reply.status, reply.body["user"], reply.body["created"], reply.body["applied"]) == (200, "ann", True, "all")
    again = await world.v1("POST", "users", {"user": "ann"})
    assert again.body == {"user": "ann", "created": False, "revision": None, "applied": None}
    known = (await world.v1("GET", "users/ann")).body
    assert before_ms <= known.pop("registered_at") <= now_ms()
    assert known == {
        "user": "ann", "name": "安", "portrait": "http://x/1.png", "deactivated": False, "ban": None, "mute": None,
        "whitelist_on": False, "blacklist_size": 0, "whitelist_size": 0, "tokens_valid_from": None, "online": False,
    }  # fmt: skip
    changed = await world.v1("PATCH", "users/ann", {"name": ""})
    assert (changed.body["name"], changed.body["portrait"]) == ("", "http://x/1.png")
    reply = await world.v1("GET", "users")
    assert (reply.body["total"], [one["user"] for one in reply.body["users"]]) == (1, ["ann"])
    assert (await world.v1("DELETE", "users", {"users": ["ann", "stranger"]})).body["applied"] == "all"
    gone = await world.v1("GET", "users")
    assert gone.body == {"total": 0, "users": []}


async def test_every_fact_shows(world: World) -> None:
    until_ms = now_ms() + 60_000
    await world.v1("POST", "bans", {"users": ["bob"], "permanent": True, "reason": "spam", "actor": "op"})
    await world.v1("POST", "mutes", {"users": ["bob"], "until": until_ms})
    await world.v1("PUT", "whitelist-switch", {"users": ["bob"], "on": True})
    await world.v1("POST", "blacklist", {"owner": "bob", "members": ["x", "y"]})
    await world.v1("DELETE", "tokens", {"users": ["bob"], "before": until_ms})
    known = (await world.v1("GET", "users/bob")).body
    assert known == {
        "user": "bob", "registered_at": None, "name": "", "portrait": "", "deactivated": False,
        "ban": {"until": None, "reason": "spam", "actor": "op"}, "mute": {"until": until_ms, "reason": "", "actor": ""},
        "whitelist_on": True, "blacklist_size": 2, "whitelist_size": 0, "tokens_valid_from": until_ms, "online": False,
    }  # fmt: skip


async def test_an_id_of_any_bytes_in_the_path(world: World) -> None:
    odd = b"a/b?\xff\0%20"
    await world.store.bans.impose(world.app.key, [odd], now_ms() + 60_000, now_ms())
    reply = await world.v1("GET", "users/a%2Fb%3F%FF%00%2520")
    assert (reply.status, reply.body["user"]) == (200, {"b64": base64.b64encode(odd).decode()})
    assert reply.body["ban"] is not None


async def test_users_of_whom_nothing_is_known(world: World) -> None:
    for method, path, body in (
        ("GET", "users/none", None),
        ("GET", "users/none/dossier", None),
        ("PATCH", "users/none", {"name": "x"}),
    ):
        reply = await world.v1(method, path, body)
        assert (reply.status, reply.body["error"]) == (404, "not-found"), path
    assert (await world.v1("GET", "users")).body["total"] == 0


async def test_the_roll_in_pages_and_orders(world: World) -> None:
    for number in range(5):
        at_ms = 1_700_000_000_000 + number
        await world.store.users.register(world.app.key, [b"u%d" % number], at_ms)

    async def page(query: str) -> list[str]:
        return [one["user"] for one in (await world.v1("GET", f"users?{query}")).body["users"]]

    assert await page("count=2&offset=1") == ["u1", "u2"]
    assert await page("order=newest&count=3") == ["u4", "u3", "u2"]
    assert await page("offset=5") == []


async def test_a_token_is_minted_and_registers(world: World) -> None:
    reply = await world.v1("POST", "tokens", {"user": "ann", "name": "Ann"})
    assert (reply.status, reply.body["created"], reply.body["expires"], reply.body["applied"]) == (
        200,
        True,
        None,
        "all",
    )
    second = await world.v1("POST", "tokens", {"user": "ann"})
    assert (second.body["created"], second.body["revision"]) == (False, None)
    assert second.body["token"] != reply.body["token"]
    for one in (reply, second):
        assert (await client(world, "GET", shown=one.body["token"])).status == 200
    assert (await world.v1("GET", "users/ann")).body["name"] == "Ann"


async def test_tokens_expire_as_the_app_says(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, token_ttl_s=60))
    before_ms = now_ms()
    reply = await world.v1("POST", "tokens", {"user": "ann"})
    assert before_ms + 60_000 <= reply.body["expires"] <= now_ms() + 60_000


async def test_revoking_kills_all_of_before_and_none_of_after(world: World) -> None:
    old = [(await world.v1("POST", "tokens", {"user": "ann"})).body["token"] for _ in range(2)]
    reply = await world.v1("DELETE", "tokens", {"users": ["ann", "stranger"], "actor": "op", "reason": "lost phone"})
    assert (reply.status, reply.body["applied"]) == (200, "all")
    for shown in old:
        assert (await client(world, "GET", shown=shown)).body["error"] == "token-revoked"
    fresh = (await world.v1("POST", "tokens", {"user": "ann"})).body["token"]
    assert (await client(world, "GET", shown=fresh)).status == 200


async def test_the_limit_of_a_development_app(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, user_limit=2))
    replies = await asyncio.gather(*(world.v1("POST", "users", {"user": f"u{number}"}) for number in range(10)))
    assert sorted(reply.status for reply in replies) == [200] * 2 + [403] * 8
    assert {reply.body["error"] for reply in replies if reply.status == 403} == {"user-limit"}
    assert (await world.v1("GET", "users")).body["total"] == 2


async def test_production_deletes_no_user(world: World) -> None:
    await world.v1("POST", "users", {"user": "ann"})
    await world.set_app(msgspec.structs.replace(world.app, environment="production"))
    reply = await world.v1("DELETE", "users", {"users": ["ann"]})
    assert (reply.status, reply.body["error"]) == (409, "refused")
    assert (await world.v1("GET", "users/ann")).status == 200


async def test_a_deactivated_user_is_neither_registered_nor_changed(world: World) -> None:
    await world.store.users.register(world.app.key, [b"ann"], now_ms())
    await world.store.deactivation.deactivate(world.app.key, [b"ann"], now_ms())
    for method, path, body in (
        ("POST", "users", {"user": "ann"}),
        ("POST", "tokens", {"user": "ann"}),
        ("PATCH", "users/ann", {"name": "x"}),
        ("DELETE", "users", {"users": ["ann"]}),
    ):
        assert (await world.v1(method, path, body)).status == 409, (method, path)
    assert (await world.v1("GET", "users/ann")).body["deactivated"] is True


async def test_the_dossier_holds_everything(world: World) -> None:
    await world.v1("POST", "users", {"user": "ann", "name": "Ann"})
    until_ms = now_ms() + 60_000
    await world.v1("POST", "bans", {"users": ["ann"], "until": until_ms, "reason": "spam", "actor": "op"})
    await world.v1("POST", "blacklist", {"owner": "ann", "members": ["x"], "until": until_ms})
    await world.v1("POST", "whitelist", {"owner": "ann", "members": ["y", {"b64": "AP8="}]})
    await world.v1("POST", "blacklist", {"owner": "other", "members": ["ann"]})
    body = (await world.v1("GET", "users/ann/dossier")).body
    assert (body["app"], body["user"], body["name"]) == (world.app.key, "ann", "Ann")
    assert body["ban"] == {"until": until_ms, "reason": "spam", "actor": "op"}
    assert body["blacklist"] == {"members": [{"user": "x", "until": until_ms}], "next": None}
    assert sorted(str(one["user"]) for one in body["whitelist"]["members"]) == ["y", "{'b64': 'AP8='}"]
    done = [(one["what"], one["actor"], one["reason"]) for one in body["audit"]["entries"]]
    assert ("ban-imposed", "op", "spam") in done
    assert {what for what, _, _ in done} >= {"ban-imposed", "blocked", "admitted"}
    assert body["audit"]["next"] is None
    assert "other" not in str(body)


async def test_a_long_list_goes_on_behind_its_cursor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.http.v1.users.PAGE", 2)
    monkeypatch.setattr("gate.http.v1.users.MAX_PAGES", 2)
    for number in range(7):
        members = [f"m{number}".encode()]
        await world.store.lists.add(
            world.app.key, ListKind.BLACKLIST, b"ann", members, now_ms() + 60_000, now_ms(), None, "why", "who"
        )
    body = (await world.v1("GET", "users/ann/dossier")).body
    assert len(body["blacklist"]["members"]) == len(body["audit"]["entries"]) == 4
    rest = (await world.v1("GET", f"blacklist?owner=ann&token={body['blacklist']['next']}")).body["members"]
    assert [one["user"] for one in body["blacklist"]["members"] + rest] == [f"m{number}" for number in range(6, -1, -1)]
    more = (await world.v1("GET", f"audit?user=ann&cursor={body['audit']['next']}")).body["entries"]
    assert len(more) == 3


async def test_a_client_that_blocks_shows_in_the_audit_as_itself(world: World) -> None:
    assert (await client(world, "POST", body={"users": ["x"]})).status == 200
    assert (await client(world, "DELETE", body={"users": ["x"]})).status == 200
    entries = (await world.v1("GET", "users/me/dossier")).body["audit"]["entries"]
    assert [(one["what"], one["actor"]) for one in entries] == [("unblocked", "user"), ("blocked", "user")]


LONG = "x" * 129


@pytest.mark.parametrize(
    ("method", "path", "body", "parameter"),
    [
        ("POST", "users", {}, "user"),
        ("POST", "users", {"user": ""}, "user"),
        ("POST", "users", {"user": "x" * 65}, "user"),
        ("POST", "users", {"user": "a b"}, "user"),
        ("POST", "users", {"user": {"b64": "/w=="}}, "user"),
        ("POST", "users", {"user": "a", "nickname": "x"}, "nickname"),
        ("POST", "users", {"user": "a", "name": 5}, "name"),
        ("POST", "users", {"user": "a", "name": LONG}, "name"),
        ("POST", "users", {"user": "a", "portrait": "x" * 1_025}, "portrait"),
        ("POST", "users", {"user": "a b", "name": LONG}, "body"),
        ("POST", "tokens", {"user": "a b"}, "user"),
        ("DELETE", "tokens", {"users": []}, "users"),
        ("DELETE", "tokens", {"users": ["a"], "before": 1_700_000_000}, "before"),
        ("DELETE", "tokens", {"users": ["a"], "before": 1 << 52}, "before"),
        ("DELETE", "tokens", {"users": ["a"], "actor": LONG}, "actor"),
        ("DELETE", "users", {"users": [f"u{number}" for number in range(1_001)]}, "users"),
        ("DELETE", "users", {"users": ["a"], "reason": "x" * 513}, "reason"),
        ("PATCH", "users/a", {"user": "b"}, "user"),
        ("PATCH", "users/a", {"name": LONG}, "name"),
        ("GET", "users?count=0", None, "count"),
        ("GET", "users?offset=-1", None, "offset"),
        ("GET", "users?order=random", None, "order"),
        ("GET", "users/" + "x" * 65, None, "user"),
    ],
)
async def test_each_mistake_is_named(world: World, method: str, path: str, body: Any, parameter: str) -> None:
    reply = await world.v1(method, path, body)
    assert reply.status in (400, 413), reply
    assert reply.body["parameter"] == parameter
    assert (await world.v1("GET", "users")).body["total"] == 0


async def test_paths_below_a_user_that_do_not_exist(world: World) -> None:
    for path in ("users/a/nothing", "users/a/dossier/x", "users/a/"):
        assert (await world.v1("GET", path)).status == 404
    assert (await world.v1("PUT", "users/a", {})).headers["Allow"] == "GET, PATCH"
