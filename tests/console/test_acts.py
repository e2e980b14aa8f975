"""The one way of acts: the role of the table, the page that asks first, the message after it, and who may read it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from aiohttp import web

from gate.console import PREFIX
from gate.console.acts import ask_first, attribution, done, is_confirmed
from gate.console.request_context import ConsoleContext
from gate.console.session_cookie import SAID_FOR_MS, opened_message, sealed_message
from gate.console.views import OF_ALL, OF_APP, OPEN, Page
from gate.core.operators import ROLES, Operator, OperatorRole, may
from tests.console.conftest import Place
from tests.console.visitor import Visitor

ODD = "<script>alert(1)</script> ' \" &amp; \u202e"
PAGES = [(of, page) for of, table in (("", OF_ALL), ("app", OF_APP)) for page in table.values()]


@pytest.fixture
def did(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the act `explode` of this module did; it is in the table for the test alone."""
    seen: list[str] = []

    async def explode(context: ConsoleContext) -> web.Response:
        form = await context.sent()
        back = f"{PREFIX}{context.app_key}/check"
        if not is_confirmed(form):
            effects = [f"It is {form.text('what')}", "Nothing stays"]
            return ask_first(context, form, title="Explode?", effects=effects, button="Explode", back=back)
        seen.append(f"{form.text('what')} by {attribution(context, form)}")
        return done(context, back, f"exploded {form.text('what')}")

    monkeypatch.setitem(OF_APP, "explode", Page("explode", None, explode, acts="admin"))
    yield seen


async def exploded(visitor: Visitor, **fields: str) -> tuple[str, dict[str, str | bytes]]:
    """The address of the act, and a form for it."""
    token = (await visitor.app("check")).form_token
    return f"/console/{visitor.world.app.key}/explode", {"form_token": token, "what": ODD, **fields}


async def test_an_act_that_destroys_asks_first_and_is_then_done_once(place: Place, did: list[str]) -> None:
    visitor = await place.visitor("admin")
    target, form = await exploded(visitor, reason="too loud")
    asks = await visitor.post(target, form)
    assert (asks.status, did) == (200, [])
    assert "<script>alert" not in asks.page and "Nothing stays" in asks.text and "too loud" in asks.text
    assert f'href="/console/{place.world.app.key}/check">Cancel' in asks.page
    # The page has the whole form again, and a browser sends it unchanged.
    fields = {"form_token": asks.form_token, **visitor.hidden(asks)}
    assert (fields["what"], fields["reason"]) == (ODD, "too loud")
    sent = await visitor.post(target, fields)
    assert (sent.status, len(did)) == (303, 1)
    assert visitor.name in did[0] and "too loud" in did[0]
    shown = await visitor.get(sent.place)
    assert "exploded <script>alert(1)</script>" in shown.text and "<script>alert" not in shown.page


def test_a_message_lapses() -> None:
    operator = Operator(name="ada", role="viewer", password_hash="x", created_at_ms=1)
    sealed = sealed_message(operator, "cookie", "done - really", 1_000)
    assert opened_message(operator, "cookie", sealed, 1_000 + SAID_FOR_MS - 1) == "done - really"
    assert opened_message(operator, "cookie", sealed, 1_000 + SAID_FOR_MS) is None
    assert opened_message(operator, "other", sealed, 1_000) is None


async def test_the_message_is_for_this_browser_alone(place: Place, did: list[str]) -> None:
    visitor, other = await place.visitor("admin"), await place.visitor("admin")
    target, form = await exploded(visitor, confirmed="yes")
    said = (await visitor.post(target, form)).place
    assert "exploded" in (await visitor.get(said)).text
    assert "exploded" not in (await other.get(said)).text
    assert "exploded" not in (await visitor.get(said.replace("said=", "said=x"))).text


async def test_a_long_message_is_cut(place: Place, did: list[str]) -> None:
    visitor = await place.visitor("admin")
    target, form = await exploded(visitor, confirmed="yes", what="字" * 600)
    said = (await visitor.post(target, form)).place
    assert len(said) < 4_000 and "…" in (await visitor.get(said)).text


async def test_an_act_needs_its_role_its_token_and_redis(place: Place, did: list[str]) -> None:
    admin, operator = await place.visitor("admin"), await place.visitor("operator")
    target, form = await exploded(operator, confirmed="yes")
    assert (await operator.post(target, form)).status == 403
    target, form = await exploded(admin, confirmed="yes")
    assert (await admin.post(target, {**form, "form_token": "x"})).status == 403
    assert (await admin.post(target, form, Origin="https://evil.example")).status == 403
    async with place.redis_away():
        assert (await admin.post(target, form)).status == 503
    assert did == []


@pytest.mark.parametrize(("of", "page"), PAGES, ids=[f"{of}/{page.path}" for of, page in PAGES])
async def test_each_page_holds_to_its_role(place: Place, of: str, page: Page) -> None:
    visitors = {role: await place.visitor(role) for role in ROLES}
    target = f"/console/{place.world.app.key + '/' if of else ''}{page.path}"
    for (role, visitor), method in itertools.product(visitors.items(), page.methods):
        if method == "GET":
            # The body of a stream has no end.
            status = (await visitor.get(target, "HEAD" if page.renewed else "GET")).status
        else:
            # A form without a token: a role that suffices is refused for that only.
            sent = await visitor.post(target, {})
            status = 403 if "another sign-in" not in sent.text else 200
        assert (status == 403) != may(role, page.needed(method)), (role, method, status)


async def test_an_operator_of_some_apps_is_kept_from_the_deployment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def show(context: ConsoleContext) -> web.Response:
        return web.Response(text="shown")

    monkeypatch.setitem(OF_ALL, "whole", Page("whole", show, title="Whole", of_all_apps=True))
    visitor = await place.visitor()
    assert "Whole" in (await visitor.app("check")).text
    assert (await visitor.get("/console/whole")).page == "shown"
    await place.world.store.operators.change(
        visitor.name, lambda one: msgspec.structs.replace(one, apps=(place.world.app.key,))
    )
    assert (await visitor.get("/console/whole")).status == 403
    assert "Whole" not in (await visitor.app("check")).text


@pytest.mark.parametrize("role", ROLES)
async def test_the_navigation_has_what_the_role_may_see(place: Place, role: OperatorRole) -> None:
    visitor = await place.visitor(role)
    shown = await visitor.app("check")
    for _, page in PAGES:
        if page.title:
            assert (page.title in shown.text) == may(role, page.reads), page.title
    assert shown.page.count('aria-current="page"') == 1


async def test_pages_open_to_anybody_have_no_navigation(place: Place) -> None:
    assert set(OPEN) == {"sign-in", "sign-out"}
    assert "<nav" not in (await Visitor(place.world, "stranger").get("/console/sign-in")).page
