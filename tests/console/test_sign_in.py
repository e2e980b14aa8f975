"""Who gets in, with what cookie, for how long; and what forms are refused."""

from __future__ import annotations

import os

import msgspec
import pytest

from gate.clock import monotonic_ms
from gate.console.request_context import SESSION_COOKIE
from gate.console.session_auth import RECALLED_MS, SessionAuth
from gate.errors import StoreUnavailable
from gate.http.operators import OperatorAuth
from gate.http.shared import Shared, make_shared_memory
from gate.store.console_sessions import SESSION_TTL_MS
from gate.store.passwords import hash_password
from tests.console.conftest import Place
from tests.console.visitor import PASSWORD, Visitor, begin_operator
from tests.http.test_apps import ask
from tests.http.world import now_ms


async def test_an_operator_signs_in_and_out(place: Place) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    asked = await visitor.get("/console/")
    assert (asked.status, asked.place) == (303, "/console/sign-in")
    form = await visitor.get("/console/sign-in")
    assert form.status == 200 and "<h1>Sign in" in form.page
    done = await visitor.sign_in()
    assert (done.status, done.place) == (303, "/console/")
    cookie = done.cookies[SESSION_COOKIE]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"], cookie["secure"]) == (
        "/console/", "Strict", True, "",
    )  # fmt: skip
    assert int(cookie["max-age"]) == 8 * 3_600
    assert PASSWORD not in cookie.value and "argon2" not in cookie.value
    page = await visitor.app("overview")
    assert page.status == 200 and visitor.name in page.text
    out = await visitor.post("/console/sign-out", {"form_token": page.form_token})
    assert (out.status, out.place, SESSION_COOKIE in visitor.cookies) == (303, "/console/sign-in", False)
    assert (await visitor.app("overview")).status == 303


async def test_a_cookie_that_was_signed_out_is_none_any_more_on_any_node(place: Place) -> None:
    visitor = await place.visitor()
    other = Visitor(place.world, visitor.name)
    await other.sign_in()
    copy, elsewhere = visitor.cookies[SESSION_COOKIE], SessionAuth(OperatorAuth())
    assert await elsewhere.known(place.world.store, copy, now_ms()) is not None
    await visitor.post("/console/sign-out", {"form_token": (await visitor.app("overview")).form_token})
    visitor.cookies[SESSION_COOKIE] = copy
    assert (await visitor.app("overview")).status == 303
    assert await elsewhere.known(place.world.store, copy, now_ms()) is None
    assert (await other.app("overview")).status == 200
    async with place.redis_away():
        with pytest.raises(StoreUnavailable):
            await elsewhere.known(place.world.store, copy, now_ms())
        assert (await visitor.app("overview")).status == 303


async def test_signing_out_while_redis_is_away_counts_on_this_node_after_it_too(place: Place) -> None:
    visitor = await place.visitor()
    copy, token = visitor.cookies[SESSION_COOKIE], (await visitor.app("overview")).form_token
    async with place.redis_away():
        out = await visitor.post("/console/sign-out", {"form_token": token})
        assert (out.status, SESSION_COOKIE in visitor.cookies) == (303, False)
    visitor.cookies[SESSION_COOKIE] = copy
    assert (await visitor.app("overview")).status == 303


async def test_the_cookie_is_secure_where_the_browser_came_by_tls(place: Place) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    form = await visitor.get("/console/sign-in", **{"X-Forwarded-Proto": "https"})
    assert all(cookie["secure"] for cookie in form.cookies.values()) and form.cookies
    done = await visitor.sign_in(**{"X-Forwarded-Proto": "https"})
    assert done.cookies[SESSION_COOKIE]["secure"] is True


async def test_wrong_passwords_are_refused_alike_and_throttled_as_at_the_api(place: Place) -> None:
    known, unknown = Visitor(place.world, await begin_operator(place.world)), Visitor(place.world, "stranger")
    for visitor in (known, unknown):
        refused = await visitor.sign_in("wrong " + PASSWORD)
        assert (refused.status, SESSION_COOKIE in visitor.cookies) == (401, False)
        assert "name or password is wrong" in refused.text and "wrong " + PASSWORD not in refused.page
        assert "WWW-Authenticate" not in refused.headers
    for _ in range(4):
        assert (await ask(place.world, known.name, "GET", "apps", password="wrong")).status == 401
    late = await known.sign_in()
    assert (late.status, "Retry-After" in late.headers) == (429, True)
    assert "try again in" in late.text


@pytest.mark.parametrize("change", ["password", "role", "removal"])
async def test_a_change_of_the_account_ends_its_cookies_at_once(place: Place, change: str) -> None:
    await begin_operator(place.world, "admin")  # otherwise the changed operator could be the last admin
    visitor = await place.visitor("viewer")
    assert (await visitor.app("overview")).status == 200
    operators = place.world.store.operators
    if change == "removal":
        await operators.remove(visitor.name)
    else:
        fields = {"password_hash": hash_password("another password")} if change == "password" else {"role": "admin"}
        await operators.change(visitor.name, lambda one: msgspec.structs.replace(one, **fields))
    shown = await visitor.app("overview")
    assert (shown.status, shown.place) == (303, f"/console/sign-in?next=%2Fconsole%2F{place.world.app.key}%2Foverview")


async def test_a_cookie_holds_for_a_working_day_on_any_node(place: Place) -> None:
    visitor = await place.visitor()
    elsewhere, cookie = SessionAuth(OperatorAuth()), visitor.cookies[SESSION_COOKIE]
    known = await elsewhere.known(place.world.store, cookie, now_ms())
    assert known is not None and known.operator.name == visitor.name
    assert await elsewhere.known(place.world.store, cookie, now_ms() + SESSION_TTL_MS) is None


async def test_while_redis_is_away_http_processes_of_a_node_recall_alike(place: Place) -> None:
    visitor, memory = await place.visitor(), make_shared_memory()
    try:
        first, second = (SessionAuth(OperatorAuth(shared=Shared(memory, 2))) for _ in range(2))
        cookie = visitor.cookies[SESSION_COOKIE]
        assert await first.known(place.world.store, cookie, now_ms()) is not None
        async with place.redis_away():
            known = await second.known(place.world.store, cookie, now_ms())
            assert known is not None and (known.operator.name, bool(known.away)) == (visitor.name, True)
            await first.sign_out(place.world.store, cookie)
            assert await second.known(place.world.store, cookie, now_ms()) is None
    finally:
        os.close(memory)


async def test_a_cookie_is_accepted_for_a_while_with_redis_away(place: Place) -> None:
    visitor = await place.visitor()
    clock_ms = [monotonic_ms()]
    session_auth, cookie = SessionAuth(OperatorAuth(), lambda: clock_ms[0]), visitor.cookies[SESSION_COOKIE]
    assert await session_auth.known(place.world.store, cookie, now_ms()) is not None
    async with place.redis_away():
        known = await session_auth.known(place.world.store, cookie, now_ms())
        assert known is not None and known.away
        forged = cookie[:-2] + ("AA" if cookie[-2:] != "AA" else "BB")
        with pytest.raises(StoreUnavailable):
            await session_auth.known(place.world.store, forged, now_ms())
        clock_ms[0] += RECALLED_MS
        with pytest.raises(StoreUnavailable):
            await session_auth.known(place.world.store, cookie, now_ms())


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "x",
        "1.YQ.1700000000000." + "A" * 43,
        "1.YQ.9999999999999." + "A" * 43,
        "2.____.aaaaaaaaaaaaaaaa.9999999999999." + "A" * 43,
        "2.YQ.aaaaaaaaaaaaaaaa.9999999999999." + "A" * 43,
        "é" * 99,
    ],
)
async def test_an_invalid_cookie_opens_nothing(place: Place, cookie: str) -> None:
    visitor = Visitor(place.world, "stranger")
    visitor.cookies[SESSION_COOKIE] = cookie
    for target in ("", f"{place.world.app.key}/overview", "nothing/at/all"):
        shown = await visitor.get(f"/console/{target}")
        assert shown.status == 303 and shown.place.startswith("/console/sign-in")
    async with visitor.live("overview/live") as events:
        assert [event async for event, _ in events] == ["end"]
    kick = await visitor.post(f"/console/{place.world.app.key}/user/kick?user=a", {"session": "all"})
    assert (kick.status, kick.place) == (303, "/console/sign-in")


async def test_a_cookie_can_not_be_changed_to_another_operators(place: Place) -> None:
    viewer, admin = await place.visitor("viewer"), await place.visitor("admin")
    mine, others = viewer.cookies[SESSION_COOKIE].split("."), admin.cookies[SESSION_COOKIE].split(".")
    later = str(int(mine[3]) + 1)
    for forged in ([*others[:2], *mine[2:]], [*mine[:2], others[2], *mine[3:]], [*mine[:3], later, mine[4]]):
        viewer.cookies[SESSION_COOKIE] = ".".join(forged)
        assert (await viewer.app("overview")).status == 303


async def test_after_signing_in_one_gets_to_the_page_that_was_asked_for(place: Place) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    wanted = f"/console/{place.world.app.key}/user?user=%FF%0A%3C"
    asked = await visitor.get(wanted)
    assert asked.status == 303
    assert wanted.replace("&", "&amp;") in (await visitor.get(asked.place)).page
    assert (await visitor.sign_in(target=asked.place)).place == wanted


async def test_after_signing_in_one_gets_to_a_page_of_the_deployment(place: Place) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    asked = await visitor.get("/console/nodes")
    assert (await visitor.sign_in(target=asked.place)).place == "/console/nodes"


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example/",
        "/console//evil.example/x",
        "/console/../../evil",
        "/console/a/online%0d%0aX:y",
        "/console/a/online\\evil",
        "/console/sign-out",
        "javascript:alert(1)",
        "/v1/apps",
        "/console/a/overview?" + "x" * 3_000,
        "%ff",
    ],
)
async def test_nothing_leads_elsewhere(place: Place, following: str) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    target = f"/console/sign-in?next={following}"
    assert "evil" not in (await visitor.get(target)).page
    assert (await visitor.sign_in(target=target)).place == "/console/"


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "https://127.0.0.1", "127.0.0.1"])
async def test_a_form_of_another_origin_is_refused(place: Place, origin: str) -> None:
    visitor = await place.visitor()
    session = await place.gateway_session(b"alice")
    token = (await visitor.app("user?user=alice")).form_token
    for target, fields in (
        ("/console/sign-in", {"name": visitor.name, "password": PASSWORD}),
        ("/console/sign-out", {}),
        (f"/console/{place.world.app.key}/user/kick?user=alice", {"session": session}),
    ):
        refused = await visitor.post(target, {"form_token": token, **fields}, Origin=origin)
        assert (refused.status, refused.cookies) == (403, {}), target
        assert "Origin" in refused.text
    assert await place.world.presence.is_online(place.world.app.key, b"alice")


async def test_a_proxy_that_rewrites_the_host_forwards_the_requested_one(place: Place) -> None:
    visitor = Visitor(place.world, await begin_operator(place.world))
    headers = {"Origin": "https://gate.example", "X-Forwarded-Host": "gate.example"}
    assert (await visitor.sign_in(**headers)).status == 303


async def test_a_form_without_its_token_or_with_anothers_is_refused(place: Place) -> None:
    visitor, other = await place.visitor(), await place.visitor()
    session = await place.gateway_session(b"alice")
    others = (await other.app("user?user=alice")).form_token
    for token in ("", "x", others, visitor.cookies[SESSION_COOKIE]):
        target = f"/console/{place.world.app.key}/user/kick?user=alice"
        assert (await visitor.post(target, {"form_token": token, "session": session})).status == 403
        assert (await visitor.post("/console/sign-out", {"form_token": token})).status == 403
    assert await place.world.presence.is_online(place.world.app.key, b"alice")
    assert (await visitor.app("overview")).status == 200
    stranger = Visitor(place.world, visitor.name)
    sent = {"form_token": "x", "name": visitor.name, "password": PASSWORD}
    assert (await stranger.post("/console/sign-in", sent)).status == 403
    await stranger.get("/console/sign-in")
    assert (await stranger.post("/console/sign-in", sent)).status == 403
    assert SESSION_COOKIE not in stranger.cookies


async def test_credentials_in_any_bytes_are_only_wrong(place: Place) -> None:
    visitor = Visitor(place.world, "x")
    for name, password in ((b"\xff", b"x"), (b"a", b"\xff"), (b"", b""), (b"a\nb", b"x" * 5_000), (b"<script>", b"x")):
        form = await visitor.get("/console/sign-in")
        sent: dict[str, str | bytes] = {"form_token": form.form_token, "name": name, "password": password}
        refused = await visitor.post("/console/sign-in", sent)
        assert refused.status in (400, 401, 429) and "<script>" not in refused.page
