"""`/client/v1/blacklist`: a User's own list, by its own Token; and every Token that is invalid."""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec
import orjson
import pytest

from gate.core import token
from gate.core.model import FOREVER_MS, AppFacts
from tests.http.world import Reply, World, now_ms

PATH = "/client/v1/blacklist"


def token_of(app: AppFacts, user: str | bytes = "me", minted_at_ms: int | None = None) -> str:
    raw = user.encode() if isinstance(user, str) else user
    return token.mint(app, raw, now_ms() if minted_at_ms is None else minted_at_ms, os.urandom(8))


async def client(
    world: World, method: str, query: str = "", body: Any = None, shown: str | None = None, **headers: str
) -> Reply:
    sent = {"Authorization": f"Bearer {token_of(world.app) if shown is None else shown}", **headers}
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
        body = body if isinstance(body, bytes) else orjson.dumps(body)
    return await world.send(method, PATH + query, body, sent)


async def test_add_look_list_remove(world: World) -> None:
    reply = await client(world, "POST", body={"users": ["a", "b"]})
    assert (reply.status, set(reply.body), reply.body["applied"]) == (200, {"revision", "applied"}, "all")
    assert reply.headers["X-Gate-Applied"] == "all"
    assert [await world.word(sender, "me") for sender in "abc"] == ["blacklisted", "blacklisted", "allowed"]
    assert await world.word("me", "a") == "allowed"
    assert (await client(world, "GET", "?user=a")).body == {"user": "a", "listed": True, "until": None}
    assert (await client(world, "GET", "?user=c")).body == {"user": "c", "listed": False, "until": None}
    reply = await client(world, "GET")
    assert reply.body == {"members": [{"user": "b", "until": None}, {"user": "a", "until": None}], "next": None}
    assert (await client(world, "DELETE", body={"users": ["a", "never there"]})).status == 200
    assert [await world.word(sender, "me") for sender in "ab"] == ["allowed", "blacklisted"]
    assert not (await client(world, "GET", "?user=a")).body["listed"]


async def test_it_is_the_list_that_the_server_api_shows(world: World) -> None:
    await client(world, "POST", body={"users": ["a"]})
    assert (await world.user("blacklist/query.json", [("userId", "me")])).body["users"] == ["a"]
    await world.user("blacklist/add.json", [("userId", "me"), ("blackUserId", "b")])
    assert (await client(world, "GET", "?user=b")).body["listed"]


async def test_the_user_is_the_tokens_and_no_other(world: World) -> None:
    odd = b"\xff\0 :\r\n"
    await client(world, "POST", body={"users": ["a"]}, shown=token_of(world.app, odd))
    assert await world.word("a", odd) == "blacklisted"
    assert await world.word("a", "me") == "allowed"
    reply = await client(world, "POST", body={"users": ["a"], "owner": "you"})
    assert (reply.status, reply.body["parameter"]) == (400, "owner")


async def test_entries_that_end(world: World) -> None:
    until_ms = now_ms() + 60_000
    await client(world, "POST", body={"users": ["a"], "until": until_ms})
    assert (await client(world, "GET", "?user=a")).body == {"user": "a", "listed": True, "until": until_ms}
    await world.store.lists.add(world.app.key, 0, b"me", [b"b"], now_ms() + 1, now_ms(), None)  # type: ignore[arg-type]
    while await world.word("b", "me") != "allowed":
        pass
    assert (await client(world, "GET", "?user=b")).body == {"user": "b", "listed": False, "until": None}
    assert [one["user"] for one in (await client(world, "GET")).body["members"]] == ["a"]


async def test_pages(world: World) -> None:
    for number in range(3):
        await client(world, "POST", body={"users": [f"m{number}"]})
    first = (await client(world, "GET", "?count=2")).body
    second = (await client(world, "GET", f"?count=2&cursor={first['next']}")).body
    assert [one["user"] for one in first["members"] + second["members"]] == ["m2", "m1", "m0"]
    assert second["next"] is None


async def test_past_the_ceiling_nothing_is_added(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, list_ceiling=2))
    reply = await client(world, "POST", body={"users": ["a", "b", "c"]})
    assert (reply.status, reply.body["error"]) == (409, "list-full")
    assert (await client(world, "GET")).body["members"] == []


# --- Tokens ----------------------------------------------------------------------------------------------------------


async def refused(world: World, shown: str) -> tuple[int, str]:
    """The same answer to reading and writing, and nothing written."""
    answers = [
        await client(world, "GET", shown=shown),
        await client(world, "GET", "?user=a", shown=shown),
        await client(world, "POST", body={"users": ["a"]}, shown=shown),
        await client(world, "DELETE", body={"users": ["a"]}, shown=shown),
    ]
    (one,) = {(reply.status, reply.body["error"]) for reply in answers}
    for reply in answers:
        assert shown == "" or shown not in str(reply.body)
        challenge = reply.headers.get("WWW-Authenticate", "")
        assert challenge == ('Bearer realm="gate", error="invalid_token"' if reply.status == 401 else "")
    assert (await world.user("blacklist/query.json", [("userId", "me")])).body["users"] == []
    return one


@pytest.mark.parametrize("cut", [1, 4, 20, 60, 100])
async def test_a_truncated_token(world: World, cut: int) -> None:
    status, word = await refused(world, token_of(world.app)[:-cut])
    assert (status, word) in ((401, "token-malformed"), (401, "token-forged"), (401, "app-unknown"))


def jwt(header: dict[str, str], claims: dict[str, str], signature: bytes = b"") -> str:
    parts = (orjson.dumps(header), orjson.dumps(claims), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_what_is_no_token(world: World) -> None:
    none = jwt({"alg": "none", "typ": "JWT"}, {"a": world.app.key, "u": "me"})
    signed = jwt({"alg": "HS256", "typ": "JWT"}, {"a": world.app.key, "u": "me"}, b"x" * 32)
    for shown in (
        "",
        "x",
        none,
        signed,
        "gt1.",
        "gt1." + "A" * 100,
        "\N{SNOWMAN}",
        token_of(world.app) + "=",
        "x" * 4_000,
    ):
        status, word = await refused(world, shown)
        assert (status, word) in ((401, "token-malformed"), (401, "app-unknown")), shown


async def test_a_forged_token(world: World) -> None:
    other = AppFacts(key=world.app.key, secrets=("another secret",))
    assert await refused(world, token_of(other)) == (401, "token-forged")
    honest = token_of(world.app)
    raw = bytearray(base64.urlsafe_b64decode(honest[4:] + "=" * (-len(honest[4:]) % 4)))
    raw[-33] ^= 1  # the last byte of the User's id
    changed = "gt1." + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert await refused(world, changed) == (401, "token-forged")


async def test_another_apps_token_is_of_that_app(world: World) -> None:
    mine, first = world.app, token_of(world.app)
    await world.begin_app()
    assert await refused(world, token_of(AppFacts(key="nowhere", secrets=("s",)))) == (401, "app-unknown")
    of_its_own_secret = AppFacts(key=mine.key, secrets=("the secret of another App",))
    assert await refused(world, token_of(of_its_own_secret)) == (401, "token-forged")
    assert (await client(world, "POST", body={"users": ["a"]}, shown=first)).status == 200
    assert await world.word("a", "me") == "allowed"
    world.app = mine
    assert await world.word("a", "me") == "blacklisted"


async def test_an_expired_token(world: World) -> None:
    app = msgspec.structs.replace(world.app, token_ttl_s=1)
    assert await refused(world, token_of(app, minted_at_ms=now_ms() - 1_000)) == (401, "token-expired")
    assert (await client(world, "GET", shown=token_of(app, minted_at_ms=now_ms() + 60_000))).status == 200


async def test_a_revoked_token(world: World) -> None:
    shown = token_of(world.app, minted_at_ms=now_ms() - 10)
    reply = await world.user("token/expire.json", [("userId", "me"), ("time", str(now_ms()))])
    assert reply.status == 200
    assert await refused(world, shown) == (401, "token-revoked")
    assert (await client(world, "GET", shown=token_of(world.app, minted_at_ms=now_ms() + 1))).status == 200


async def test_a_banned_user_may_come_back_with_the_same_token(world: World) -> None:
    shown = token_of(world.app)
    until_ms = now_ms() + 60_000
    await world.v1("POST", "bans", {"users": ["me"], "until": until_ms})
    assert await refused(world, shown) == (403, "user-banned")
    assert (await client(world, "GET", shown=shown)).body["until"] == until_ms
    await world.v1("POST", "bans", {"users": ["me"], "permanent": True})
    assert (await client(world, "GET", shown=shown)).body["until"] is None
    await world.v1("DELETE", "bans", {"users": ["me"]})
    assert (await client(world, "GET", shown=shown)).status == 200


async def test_a_deactivated_user(world: World) -> None:
    shown = token_of(world.app)
    written = (await world.store.deactivation.deactivate(world.app.key, [b"me"], now_ms())).written
    await world.node.acks.wait(written, 5_000)
    assert await refused(world, shown) == (403, "user-deactivated")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic YTpi", "Token abc"])
async def test_no_token_at_all(world: World, authorization: str) -> None:
    reply = await world.send("GET", PATH, headers={"Authorization": authorization} if authorization else None)
    assert reply.status == 401
    assert reply.body["error"] == ("token-malformed" if authorization == "Bearer" else "unauthorized")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_app_credentials_are_no_token_and_a_token_no_app_credentials(world: World) -> None:
    reply = await world.send("GET", "/v1/bans", headers={"Authorization": f"Bearer {token_of(world.app)}"})
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "body", "parameter"),
    [
        ("POST", "", b"", "body"),
        ("POST", "", b"{", "body"),
        ("POST", "", {}, "users"),
        ("POST", "", {"users": []}, "users"),
        ("POST", "", {"users": "a"}, "users"),
        ("POST", "", {"users": [f"u{number}" for number in range(101)]}, "users"),
        ("POST", "", {"users": ["x" * 65]}, "users[0]"),
        ("POST", "", {"users": [""]}, "users[0]"),
        ("POST", "", {"users": ["a"], "until": 5}, "until"),
        ("POST", "", {"users": ["a"], "until": FOREVER_MS, "seconds": 1}, "seconds"),
        ("DELETE", "", {"users": []}, "users"),
        ("DELETE", "", {}, "users"),
        ("GET", "?count=0", None, "count"),
        ("GET", "?count=1001", None, "count"),
        ("GET", "?cursor=zzz", None, "cursor"),
        ("GET", "?user=" + "x" * 65, None, "user"),
        ("GET", "?user=a&user=b", None, "user"),
    ],
)
async def test_each_mistake_is_named(world: World, method: str, query: str, body: Any, parameter: str) -> None:
    reply = await client(world, method, query, body)
    assert reply.status in (400, 413), reply
    assert reply.body["parameter"] == parameter
    assert (await client(world, "GET")).body["members"] == []


# --- browsers --------------------------------------------------------------------------------------------------------


async def test_a_page_of_any_site_may_call(world: World) -> None:
    asked = {"Origin": "https://chat.example", "Access-Control-Request-Method": "DELETE"}
    reply = await world.send("OPTIONS", PATH, headers=asked)
    assert reply.status == 204
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Access-Control-Allow-Methods"] == "DELETE, GET, POST"
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in reply.headers
    for answer in (await client(world, "GET"), await client(world, "GET", shown="x"), await client(world, "PUT")):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in (await world.v1("GET", "bans")).headers


async def test_other_methods_and_paths(world: World) -> None:
    reply = await client(world, "PUT")
    assert (reply.status, reply.headers["Allow"]) == (405, "DELETE, GET, POST")
    reply = await world.send("GET", "/client/v1/nothing")
    assert (reply.status, reply.body["error"]) == (404, "not-found")
