"""Operators in the console: accounts, roles, limits, passwords, and one's own password."""

from __future__ import annotations

import json

import msgspec

from gate.core.operators import Operator
from gate.store.passwords import password_fits
from tests.console.conftest import Place
from tests.console.test_key_pages import secret_on
from tests.console.visitor import PASSWORD, Shown, Visitor, begin_operator

NEW = "another long password"


async def act(visitor: Visitor, target: str, **fields: str) -> Shown:
    """A form of the deployment's pages."""
    token = (await visitor.app("check")).form_token
    return await visitor.post(f"/console/{target}", {"form_token": token, **fields})


async def confirmed(visitor: Visitor, target: str, **fields: str) -> Shown:
    asks = await act(visitor, target, **fields)
    assert asks.status == 200 and "Cancel" in asks.text, asks.text
    return await visitor.confirmed(f"/console/{target}", asks)


async def stored(place: Place, name: str) -> Operator | None:
    return await place.world.store.operators.get(name)


async def last_entry(visitor: Visitor, about: str) -> tuple[str, str, str]:
    lines = (await visitor.get("/console/audit/export?format=ndjson")).page.splitlines()
    one = next(line for line in map(json.loads, lines) if line["about"] == about)
    return one["what"], one["actor"], one["reason"]


async def test_an_operator_is_added_and_signs_in_with_the_password_that_is_shown(place: Place) -> None:
    visitor = await place.visitor("admin")
    shown = await act(visitor, "operators/add", name="fay-1", role="operator", apps=place.world.app.key, reason="new")
    password = secret_on(shown)
    made = await stored(place, "fay-1")
    assert made is not None and (made.role, made.apps, made.sso) == ("operator", (place.world.app.key,), False)
    assert await last_entry(visitor, "fay-1") == ("operator-added", visitor.name, "new")
    fay = Visitor(place.world, "fay-1")
    assert (await fay.sign_in(password)).status == 303
    assert "fay-1" in (await visitor.get("/console/operators")).text
    assert password not in (await visitor.get("/console/operators/one?name=fay-1")).page


async def test_mistakes_of_a_new_operator_are_said(place: Place) -> None:
    visitor = await place.visitor("admin")
    for fields, problem in (
        ({"name": "a b", "role": "viewer"}, "must be 1 to 64 letters"),
        ({"name": visitor.name, "role": "viewer"}, "already"),
        ({"name": "fay-2", "role": "owner"}, "must be one of viewer, operator, admin"),
        ({"name": "fay-2", "role": "viewer", "apps": "no-such-app"}, "there is no App no-such-app"),
    ):
        wrong = await act(visitor, "operators/add", **fields)
        assert (wrong.status, problem in wrong.text) == (400, True), wrong.text
    assert await stored(place, "fay-2") is None


async def test_an_account_of_a_proxy_has_no_password(place: Place) -> None:
    visitor = await place.visitor("admin")
    sent = await act(visitor, "operators/add", name="fay-3", role="viewer", signs_in="proxy")
    assert sent.status == 303
    made = await stored(place, "fay-3")
    assert made is not None and made.sso
    refused = await act(visitor, "operators/reset", name="fay-3")
    assert (refused.status, "A proxy signs it in." in refused.text) == (409, True)


async def test_a_role_is_changed_and_its_sessions_end(place: Place) -> None:
    visitor, other = await place.visitor("admin"), await place.visitor("viewer")
    sent = await act(visitor, "operators/change", name=other.name, role="operator", apps="", reason="promoted")
    assert "is changed" in (await visitor.get(sent.place)).text
    changed = await stored(place, other.name)
    assert changed is not None and changed.role == "operator"
    assert await last_entry(visitor, other.name) == ("operator-changed", visitor.name, "promoted")
    assert (await other.app("check")).status == 303
    wrong = await act(visitor, "operators/change", name=other.name, role="viewer", apps="no-such-app")
    assert wrong.status == 400 and "no-such-app" in wrong.page


async def test_a_password_is_reset_after_a_question(place: Place) -> None:
    visitor, other = await place.visitor("admin"), await place.visitor("viewer")
    password = secret_on(await confirmed(visitor, "operators/reset", name=other.name))
    changed = await stored(place, other.name)
    assert changed is not None and password_fits(password, changed.password_hash)
    assert (await other.app("check")).status == 303
    own = await act(visitor, "operators/reset", name=visitor.name)
    assert own.status == 409 and "Change your own password" in own.text


async def test_an_operator_is_removed_after_a_question(place: Place) -> None:
    visitor, other = await place.visitor("admin"), await place.visitor("viewer")
    sent = await confirmed(visitor, "operators/remove", name=other.name, reason="left")
    assert "is removed" in (await visitor.get(sent.place)).text
    assert await stored(place, other.name) is None
    assert await last_entry(visitor, other.name) == ("operator-removed", visitor.name, "left")
    assert (await act(visitor, "operators/remove", name=other.name)).status == 404
    assert (await visitor.get("/console/operators/one?name=missing")).status == 404


async def test_the_last_admin_can_be_neither_removed_nor_demoted(place: Place) -> None:
    visitor = await place.visitor("admin")
    for one in await place.world.store.operators.list():
        if one.role == "admin" and one.name != visitor.name:
            await place.world.store.operators.change(one.name, lambda it: msgspec.structs.replace(it, role="viewer"))
    asks = await act(visitor, "operators/remove", name=visitor.name)
    refused = await visitor.confirmed("/console/operators/remove", asks)
    assert refused.status == 409 and "is the only admin" in refused.text
    demoted = await act(visitor, "operators/change", name=visitor.name, role="viewer", apps="")
    assert demoted.status == 400 and "is the only admin" in demoted.text
    limited = await act(visitor, "operators/change", name=visitor.name, role="admin", apps=place.world.app.key)
    assert limited.status == 400
    kept = await stored(place, visitor.name)
    assert kept is not None and kept.role == "admin" and kept.apps is None


async def test_operators_are_for_an_admin_of_all_apps(place: Place) -> None:
    operator = await place.visitor("operator")
    assert (await operator.get("/console/operators")).status == 403
    for name in ("add", "change", "reset", "remove"):
        assert (await act(operator, f"operators/{name}", name=operator.name, role="admin")).status == 403, name
    kept = await stored(place, operator.name)
    assert kept is not None and kept.role == "operator"


async def test_ones_own_password_needs_the_present_one(place: Place) -> None:
    visitor = await place.visitor("viewer")
    for fields, problem in (
        ({"old": "wrong", "new": NEW, "again": NEW}, "is not the present password"),
        ({"old": PASSWORD, "new": "short", "again": "short"}, "must be at least 8 printable characters"),
        ({"old": PASSWORD, "new": NEW, "again": NEW + "x"}, "differs from the new password"),
    ):
        wrong = await act(visitor, "password", **fields)
        assert (wrong.status, problem in wrong.text) == (400, True), wrong.text
        assert NEW not in wrong.page
    kept = await stored(place, visitor.name)
    assert kept is not None and password_fits(PASSWORD, kept.password_hash)


async def test_a_new_password_ends_other_sessions_and_keeps_this_one(place: Place) -> None:
    visitor = await place.visitor("viewer")
    other = Visitor(place.world, visitor.name)
    await other.sign_in()
    sent = await act(visitor, "password", old=PASSWORD, new=NEW, again=NEW)
    assert "Your password is changed" in (await visitor.get(sent.place)).text
    assert (await other.app("check")).status == 303
    open_now = [one for one in await place.world.store.console_sessions.list() if one.operator == visitor.name]
    assert len(open_now) == 1
    assert await last_entry(await place.visitor("admin"), visitor.name) == (
        "operator-changed",
        visitor.name,
        "the operator's own change",
    )
    assert (await Visitor(place.world, visitor.name).sign_in(NEW)).status == 303
    assert (await Visitor(place.world, visitor.name).sign_in(PASSWORD)).status == 401


async def test_guesses_at_the_present_password_are_slowed_down(place: Place) -> None:
    visitor = await place.visitor("viewer")
    statuses = [(await act(visitor, "password", old=f"wrong {at}", new=NEW, again=NEW)).status for at in range(12)]
    assert statuses[-1] == 429 and 400 in statuses


async def test_the_form_has_no_value_of_a_password(place: Place) -> None:
    name = await begin_operator(place.world, "viewer")
    visitor = Visitor(place.world, name)
    await visitor.sign_in()
    assert "Present password" in (await visitor.get("/console/password")).text
