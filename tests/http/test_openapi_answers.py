"""Real answers against the document: a tour that gets a good one from every endpoint, and every endpoint without credentials.

No answer may hold a member that the document doesn't tell, so the schemas are closed first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from gate.http.openapi import openapi_document
from tests.http.event_stream import streaming
from tests.http.test_apps import ask, begin_operator
from tests.http.test_client_blacklist import client, token_of
from tests.http.test_deactivation import finish_jobs
from tests.http.test_openapi_fuzzed import as_tested
from tests.http.world import Reply, World, now_ms, signed
from tests.presence.played import Gateway

DOCUMENT = as_tested(openapi_document())
OPERATIONS = sorted((path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods)
NOT_OFFERED = {
    path for path, methods in DOCUMENT["paths"].items() if methods.get("post", {}).get("tags") == ["Not offered"]
}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
ODD = b"\n/\xff"
"""An id that no text is, and that a path must carry all the same."""


class Tour:
    """Calls of one App, each answer held against the document."""

    def __init__(self, world: World, operator: str) -> None:
        self.world = world
        self.operator = operator
        self.token = token_of(world.app, b"bearer")
        self.visited: set[tuple[str, str]] = set()

    async def user(self, path: str, **fields: object) -> Any:
        """A form, a list as a field each."""
        pairs = [
            (name, str(one))
            for name, value in fields.items()
            for one in (value if isinstance(value, list) else [value])
        ]
        return self._good(f"/user/{path}.json", "POST", await self.world.user(f"{path}.json", pairs))

    async def v1(self, method: str, path: str, body: object = None, query: str = "", **named: bytes) -> Any:
        """Basic, JSON; `named` stand in the path."""
        target = path.format(**{name: quote(value, safe="") for name, value in named.items()})
        return self._good(f"/v1/{path}", method, await self.world.v1(method, target + query, body))

    async def apps(self, method: str, path: str, body: object = None, **named: str) -> Any:
        """As an operator."""
        return self._good(
            f"/v1/{path}", method, await ask(self.world, self.operator, method, path.format(**named), body)
        )

    async def client(self, method: str, query: str = "", body: object = None) -> Any:
        """With a Token."""
        reply = await client(self.world, method, query, body, self.token)
        return self._good("/client/v1/blacklist", method, reply)

    async def as_client(self, path: str, query: str) -> Any:
        """With a Token, another path than the Blacklist's."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return self._good(
            f"/client/v1/{path}", "GET", await self.world.send("GET", f"/client/v1/{path}{query}", headers=headers)
        )

    async def stream(self, body: object = None) -> None:
        """The head of an event stream."""
        async with streaming(self.world.url, self.world.app, body=body) as stream:
            reply = Reply(stream.response.status, stream.response.headers, b"")
            self._good("/v1/events", "GET" if body is None else "POST", reply)

    async def connect(self) -> None:
        """The head of a WebSocket."""
        path = "/client/v1/connect"
        url = f"{self.world.url}{path}?platform=iOS&token={self.token}"
        async with self.world.session.get(url, headers=HANDSHAKE) as answer:
            self._good(path, "GET", Reply(answer.status, answer.headers, b""), 101)
            answer.close()

    async def open(self, path: str) -> Any:
        """Without credentials."""
        return self._good(path, "GET", await self.world.send("GET", path))

    def _good(self, path: str, method: str, reply: Reply, status: int = 200) -> Any:
        assert reply.status == status, (path, method, reply)
        hold(path, method, reply)
        self.visited.add((path, method))
        return reply.body


def hold(path: str, method: str, reply: Reply) -> None:
    """The answer is what the document says."""
    said = DOCUMENT["paths"][path][method.lower()]["responses"][str(reply.status)]
    if "$ref" in said:
        said = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]]
    for name, header in said["headers"].items():
        # Only where there was something to write.
        assert name in reply.headers or name.startswith("X-Gate-"), (path, method, name, header)
    for kind, content in said.get("content", {}).items():  # one, or none
        assert reply.headers["Content-Type"].startswith(kind)
        whole = {**content["schema"], "components": DOCUMENT["components"]}
        if kind == "application/json":
            Draft202012Validator(whole).validate(reply.body)


@pytest.mark.slow
async def test_every_endpoint_answers_what_the_document_says(world: World) -> None:
    tour = Tour(world, await begin_operator(world, "admin"))
    for part in (users, restraints, lists, presence, other_v1, at_the_client, deactivation, administration, probes):
        await part(tour)
    assert sorted({*OPERATIONS} - tour.visited - {(path, "POST") for path in NOT_OFFERED}) == []


async def users(tour: Tour) -> None:
    await tour.user("getToken", userId="alice", name="Alice", portraitUri="https://portraits.example/a.png")
    await tour.user("refresh", userId="alice", name="Alicia")
    await tour.user("info", userId="alice")
    await tour.user("checkOnline", userId="alice")
    await tour.user("query", page=1, pageSize=1)
    await tour.v1("POST", "users", {"user": "bob"})
    await tour.v1("POST", "users", {"user": "bob", "name": "Bob"})
    assert (await tour.v1("POST", "tokens", {"user": "carol"}))["created"] is True
    await tour.v1("GET", "users", query="?order=newest")
    await tour.v1("DELETE", "users", {"users": ["carol"], "reason": "a test"})
    await tour.user("delusers", userId="bob")
    await tour.user("token/expire", userId=["alice", "bob"], time=now_ms())
    await tour.v1("DELETE", "tokens", {"users": [{"b64": "Cv8="}]})


async def restraints(tour: Tour) -> None:
    odd = {"b64": "Ci//"}
    await tour.user("block", userId=["alice", "bob"], minute=5)
    await tour.user("block/query")
    await tour.user("unblock", userId="bob")
    await tour.user("chat/fb/set", userId=["alice", "bob"], state=1, type="PERSON")
    await tour.user("chat/fb/querylist")
    await tour.v1("POST", "bans", {"users": [odd, "eve"], "permanent": True, "reason": "spam", "actor": "ops"})
    assert len((await tour.v1("GET", "bans"))["bans"]) == 3
    await tour.v1("DELETE", "bans", {"users": ["eve"]})
    await tour.v1("POST", "mutes", {"users": [odd], "seconds": 60})
    await tour.v1("GET", "mutes")
    await tour.v1("DELETE", "mutes", {"users": ["alice"]})


async def lists(tour: Tour) -> None:
    for word, member in (("blacklist", "blackUserId"), ("blocklist", "blackUserId"), ("whitelist", "whiteUserId")):
        await tour.user(f"{word}/add", userId="alice", **{member: ["m1", "m2"]})
        assert "next" in await tour.user(f"{word}/query", userId="alice", size=1)
        await tour.user(f"{word}/remove", userId="alice", **{member: "m1"})
    await tour.user("whitesetting/set", userId="alice", whiteSetting=1)
    await tour.user("whitesetting/query", userId=["alice", "bob"])
    for word in ("blacklist", "whitelist"):
        await tour.v1("POST", word, {"owner": "alice", "members": [{"b64": "Ci//"}, "m3"], "seconds": 60})
        assert (await tour.v1("GET", word, query="?owner=alice&count=1"))["next"]
        await tour.v1("DELETE", word, {"owner": "alice", "members": ["m3"]})
    await tour.v1("PUT", "whitelist-switch", {"users": ["alice"], "on": False})


async def presence(tour: Tour) -> None:
    world = tour.world
    gateway = await Gateway(world.presence, world.app).lease()
    cursor = (await tour.v1("GET", "presence/changes"))["cursor"]
    await gateway.open(ODD)
    await gateway.close(await gateway.open(b"gone"))
    shown = await tour.v1("POST", "presence", {"users": [{"b64": "Ci//"}, "gone", "never"], "as": "gone"})
    assert [one["online"] for one in shown["presence"]] == [True, False, False]
    assert (await tour.v1("GET", "presence/online"))["users"]
    assert (await tour.v1("GET", "presence/counts"))["users"] == 1
    await world.presence.sample(world.app.key)
    assert (await tour.v1("GET", "presence/history", query="?minutes=5"))["samples"]
    assert (await tour.v1("GET", "presence/changes", query=f"?since={cursor}"))["changes"]
    assert (await tour.v1("GET", "gateways"))["gateways"]
    await tour.stream()
    await tour.stream({"users": ["alice"], "kinds": ["online"], "gateway": "edge-1", "since": cursor})
    await tour.as_client("presence", f"?user={quote(ODD)}&user=gone")
    assert (await tour.v1("GET", "users/{user}/sessions", user=ODD))["sessions"]
    assert (await tour.v1("POST", "users/{user}/kick", {}, user=ODD))["closed"] == 1


async def other_v1(tour: Tour) -> None:
    assert (await tour.v1("GET", "check", query="?from=m2&to=alice"))["verdict"] == "blacklisted"
    await tour.v1("POST", "check", {"pairs": [["m2", "alice"], {"from": "alice", "to": "m2"}]})
    await tour.v1("POST", "check", {"from": "m2", "to": ["alice"]})
    await tour.v1("GET", "explain", query="?from=m2&to=alice")
    known = await tour.v1("GET", "users/{user}", user=ODD)
    assert known["ban"] == {"until": None, "reason": "spam", "actor": "ops"} and known["mute"]["until"]
    await tour.v1("PATCH", "users/{user}", {"portrait": ""}, user=b"alice")
    dossier = await tour.v1("GET", "users/{user}/dossier", user=b"alice")
    assert dossier["blacklist"]["members"] and dossier["whitelist"]["members"] and dossier["audit"]["entries"]
    operations = [
        {"op": "mint", "user": "dave"},
        {"op": "register", "user": "not registrable"},
        {"op": "ban", "user": "eve", "seconds": 5},
        {"op": "nothing"},
    ]
    results = (await tour.v1("POST", "bulk", {"operations": operations}))["results"]
    assert [one["ok"] for one in results] == [True, False, True, False]


async def at_the_client(tour: Tour) -> None:
    await tour.client("POST", body={"users": ["m1", {"b64": "Ci//"}], "seconds": 60})
    assert (await tour.client("GET", "?count=1"))["next"]
    assert (await tour.client("GET", f"?user={quote(ODD)}"))["listed"] is True
    await tour.client("DELETE", body={"users": ["m1"]})
    await tour.connect()


async def deactivation(tour: Tour) -> None:
    await tour.user("deactivate", userId="gone,gone too")
    await tour.user("deactivate/query")
    await tour.user("abandon", userId="gone")
    await tour.user("abandon/query")
    app = tour.world.app
    await tour.apps("PATCH", "apps/{app}", {"reactivate_after_s": 0, "exempt": ["boss"]}, app=app.key)
    await finish_jobs(tour.world)
    await tour.user("reactivate", userId="gone")
    await tour.user("activate", userId="gone too")
    kinds = {entry["what"] for entry in (await tour.v1("GET", "audit", query="?count=1000"))["entries"]}
    assert {"app-set", "ban-imposed", "blocked", "tokens-revoked", "user-deactivated", "whitelist-switched"} <= kinds


async def administration(tour: Tour) -> None:
    made = await tour.apps("POST", "apps", {"name": "Shop"})
    app = made["app_key"]
    await tour.apps("GET", "apps")
    await tour.apps("GET", "apps/{app}", app=app)
    await tour.apps("POST", "apps/{app}/rotate-secret", {}, app=app)
    await tour.apps("POST", "apps/{app}/drop-secret", {"keep_tokens": True}, app=app)
    await tour.apps("POST", "apps/{app}/keys", {"name": "router-1", "scopes": ["check", "users"]}, app=app)
    await tour.apps("GET", "apps/{app}/keys", app=app)
    await tour.apps("GET", "apps/{app}", app=app)
    for body in ({}, {"finish": True}):
        await tour.apps("POST", "apps/{app}/keys/{name}/rotate", body, app=app, name="router-1")
    await tour.apps("DELETE", "apps/{app}/keys/{name}", app=app, name="router-1")
    await tour.apps("GET", "deployment-audit")
    await tour.apps("DELETE", "apps/{app}", app=app)


async def probes(tour: Tour) -> None:
    for path, methods in DOCUMENT["paths"].items():
        if methods.get("get", {}).get("tags") == ["Probes"]:
            await tour.open(path)


def guarded() -> Iterator[tuple[str, str]]:
    for path, method in OPERATIONS:
        if DOCUMENT["paths"][path][method.lower()]["security"]:
            yield path, method


@pytest.mark.parametrize(("path", "method"), list(guarded()))
async def test_no_endpoint_answers_without_credentials(world: World, path: str, method: str) -> None:
    target = path.format(user="alice", app=world.app.key, name="router-1")
    wrong = signed(world.app, secret="another")
    for headers in ({}, {"Authorization": "Basic bm86bm8="}, {"Authorization": "Bearer no"}, wrong):
        if path.endswith("/connect"):
            plain = await world.send(method, target, b"", headers)
            assert plain.status == 426
            hold(path, method, plain)
            headers = headers | HANDSHAKE
        reply = await world.send(method, target, b"", headers)
        # RongCloud's own answer where a header of the signature is missing; an operator's wrong password slows down.
        refused = {400} if path.startswith("/user/") and headers is not wrong else {401, 429}
        assert reply.status in refused, reply
        hold(path, method, reply)


async def test_every_feature_that_is_not_offered_says_so(world: World) -> None:
    for path in sorted(NOT_OFFERED):
        reply = await world.user(path.removeprefix("/user/"))
        assert reply.status == 430
        hold(path, "POST", reply)
