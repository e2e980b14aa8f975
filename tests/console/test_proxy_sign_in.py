"""Operators that a trusted proxy signs in: whose header is believed, which names and groups open what, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from gate.console.request_context import SESSION_COOKIE
from gate.core.operators import Operator, OperatorRole
from gate.http.options import ProxySignIn
from harness.servers import RedisServer
from tests.console.visitor import HASH, Shown, Visitor
from tests.http.lines import Line
from tests.http.test_apps import ask
from tests.http.world import World, running_world

HEADER, GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"
SIGN_IN = ProxySignIn(HEADER, GROUPS, {"support": "viewer", "gate-admins": "admin"})
NOT_OURS = "\u00a0gate-admins,support\u2003,Support,gate%2dadmins"
"""Names of other groups: a person who may make groups at the proxy must not make one of these roles."""
PROXY = (ip_network("127.0.0.0/8"),)


class Proxied(Visitor):
    """A browser behind the proxy, which adds its headers to each request."""

    said: Mapping[str, str] = {}

    async def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Shown:
        return await super()._send(method, target, body, {**headers, **self.said})


@asynccontextmanager
async def world_of(redis: RedisServer, folder: Path, trusted: object = PROXY) -> AsyncIterator[World]:
    async with running_world(redis.url, folder, sign_in=SIGN_IN, trusted_proxies=trusted) as world:
        yield world


async def account(world: World, name: str, role: OperatorRole = "operator", *, sso: bool = True) -> None:
    await world.store.operators.add(
        Operator(name=name, role=role, password_hash="random" if sso else HASH, created_at_ms=1, sso=sso)
    )


def behind_proxy(world: World, **said: str) -> Proxied:
    visitor = Proxied(world, said.get(HEADER, ""))
    visitor.said = said
    return visitor


async def follow(visitor: Visitor, place: str = "/console/") -> Shown:
    """The page, past the redirects to and from the sign-in."""
    shown = await visitor.get(place)
    for _ in range(4):
        if shown.status != 303:
            break
        shown = await visitor.get(shown.place)
    return shown


async def test_an_account_of_the_proxy_needs_no_form(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "ann@example.com")
        ann = behind_proxy(world, **{HEADER: "ann@example.com"})
        wanted = f"/console/{world.app.key}/check?from=a&to=b"
        shown = await follow(ann, wanted)
        assert shown.status == 200 and "ann@example.com" in shown.text
        assert ann.cookies[SESSION_COOKIE].startswith("2.")
        kicked = await ann.kick("a", "all")
        assert kicked.status == 303, "its forms are accepted"
        [session] = await world.store.console_sessions.list()
        assert (session.operator, session.by) == ("ann@example.com", "proxy")
        assert session.key not in (await ann.get("/console/sessions")).page
        # The account has no password, at the console or at the API.
        assert (await Visitor(world, "ann@example.com").sign_in("random")).status == 401
        assert (await ask(world, "ann@example.com", "GET", "apps", password="random")).status == 401


async def test_the_session_ends_with_the_account_and_with_the_header(
    tmp_path: Path, private_redis: RedisServer
) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "root", "admin", sso=False)
        await account(world, "ann")
        ann = behind_proxy(world, **{HEADER: "ann"})
        assert (await follow(ann)).status == 200
        cookie = ann.cookies[SESSION_COOKIE]
        bare = Visitor(world, "ann")
        bare.cookies[SESSION_COOKIE] = cookie
        assert (await bare.app("overview")).place.startswith("/console/sign-in"), "not past the proxy"
        other = behind_proxy(world, **{HEADER: "bob"})
        other.cookies[SESSION_COOKIE] = cookie
        assert (await other.app("overview")).place.startswith("/console/sign-in"), "not of another person"
        await world.store.operators.change("ann", lambda one: msgspec.structs.replace(one, role="viewer"))
        assert "viewer" in (await follow(ann)).text
        await world.store.operators.remove("ann")
        refused = await follow(ann)
        assert refused.status == 403 and "ann is signed in at the proxy, but is no operator here" in refused.text


async def test_groups_give_the_highest_of_their_roles(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        for groups, role in (
            ("staff, support", "viewer"),
            ("support,gate-admins", "admin"),
            ("staff", ""),
            ("", ""),
            (NOT_OURS, ""),
        ):
            shown = await follow(behind_proxy(world, **{HEADER: "eve", GROUPS: groups}))
            assert shown.status == (200 if role else 403), groups
            assert f"eve {role}" in shown.text
        eve = behind_proxy(world, **{HEADER: "eve", GROUPS: "support"})
        assert (await follow(eve)).status == 200
        eve.said = {HEADER: "eve"}
        assert (await follow(eve)).status == 403, "she left the group"


async def test_an_account_with_a_password_is_not_opened_by_a_header(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "root", "admin", sso=False)
        root = behind_proxy(world, **{HEADER: "root", GROUPS: "gate-admins"})
        assert (await follow(root)).status == 403
        assert (await root.sign_in()).status == 303, "its password opens it, behind the proxy too"
        assert (await root.app("overview")).status == 200


@pytest.mark.parametrize("trusted", [(), (ip_network("10.0.0.0/8"),)])
async def test_a_header_of_another_client_is_refused(
    tmp_path: Path, private_redis: RedisServer, trusted: object
) -> None:
    async with world_of(private_redis, tmp_path, trusted) as world:
        await account(world, "ann")
        for target in ("/console/", "/console/sign-in"):
            refused = await behind_proxy(world, **{HEADER: "ann"}).get(target)
            assert refused.status == 403 and "only from --trusted-proxies" in refused.text
        assert (await Visitor(world, "ann").get("/console/sign-in")).status == 200


async def test_a_header_that_came_twice_or_has_no_name_is_refused(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "ann")
        line = await Line.to(world.server)
        for headers in (
            ("X-Forwarded-User: ann", "X-Forwarded-User: ann"),
            ("X-Forwarded-User: eve", "x-forwarded-user: ann"),
            ("X-Forwarded-User: ann", "X-Forwarded-Groups: support", "X-Forwarded-Groups: gate-admins"),
            ("X-Forwarded-User:",),
            ("X-Forwarded-User: ann, root",),
            ("X-Forwarded-User: ann\u00a0",),  # spaces of Unicode belong to the name: another person's
            ("X-Forwarded-User: \u2003ann",),
            ("X-Forwarded-User: a%6en",),
            ('X-Forwarded-User: "ann"',),
        ):
            lines = ["GET /console/sign-in HTTP/1.1", "Host: gate", *headers, "", ""]
            [answer] = await line.ask("\r\n".join(lines).encode())
            assert answer.startswith(b"HTTP/1.1 403") and b"Set-Cookie" not in answer, headers
        line.end()


async def test_after_a_sign_out_the_page_waits_for_a_click(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "ann")
        ann = behind_proxy(world, **{HEADER: "ann"})
        page = await follow(ann, f"/console/{world.app.key}/overview")
        out = await ann.post("/console/sign-out", {"form_token": page.form_token})
        assert out.place == "/console/sign-in?left"
        left = await ann.get(out.place)
        assert left.status == 200 and "Go on as ann" in left.text and SESSION_COOKIE not in ann.cookies
        assert await world.store.console_sessions.list() == []


async def test_without_the_option_the_header_means_nothing(tmp_path: Path, private_redis: RedisServer) -> None:
    async with running_world(private_redis.url, tmp_path, trusted_proxies=PROXY) as world:
        await account(world, "ann")
        shown = await behind_proxy(world, **{HEADER: "ann"}).get("/console/sign-in")
        assert shown.status == 200 and "ann" not in shown.text


async def test_the_deployment_audit_has_who_the_proxy_signed_in(tmp_path: Path, private_redis: RedisServer) -> None:
    async with world_of(private_redis, tmp_path) as world:
        await account(world, "root", "admin", sso=False)
        await account(world, "ann")
        for name, groups, status in (
            ("ann", "", 200),
            ("eve", "support", 200),
            ("mallory", "", 403),
            ("root", "", 403),
        ):
            assert (await follow(behind_proxy(world, **{HEADER: name, GROUPS: groups}))).status == status, name
        entries, _ = await world.store.audit.deployment_page(10)
        signed_in = [one for one in reversed(entries) if one.kind in ("operator-signed-in", "operator-refused")]
        assert [(one.kind, one.about, one.origin.kind, one.origin.name) for one in signed_in] == [
            ("operator-signed-in", "ann", "operator", "ann"),
            ("operator-signed-in", "eve", "operator", "eve"),
            ("operator-refused", "", "unknown", ""),  # no operator has the name
            ("operator-refused", "root", "unknown", ""),
        ]
        assert {(one.value, one.origin.address) for one in signed_in} == {(b'{"surface":"console"}', "127.0.0.1")}
        # A page of the session is no sign-in, and neither is a header without one.
        ann = behind_proxy(world, **{HEADER: "ann"})
        await follow(ann)
        assert (await ann.app("overview")).status == 200
        await behind_proxy(world, **{HEADER: "ann"}).get("/console/nowhere")
        entries, _ = await world.store.audit.deployment_page(10)
        assert [one.about for one in entries if one.kind == "operator-signed-in"] == ["ann", "eve", "ann"]
