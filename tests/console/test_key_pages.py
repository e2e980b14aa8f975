"""Credentials of an App in the console: secrets are shown once, rotations have two steps, and endings ask first."""

from __future__ import annotations

import json
import re

import msgspec

from gate.core.app_secrets import caller_with
from gate.core.model import AppFacts
from tests.console.conftest import Place
from tests.console.visitor import Shown, Visitor


def secret_on(shown: Shown) -> str:
    match = re.search(r'<code class="secret"[^>]*>([^<]+)</code>', shown.page)
    assert match, shown.text
    assert shown.headers["Cache-Control"] == "no-store"
    return match[1]


async def facts(place: Place) -> AppFacts:
    return await place.world.store.apps.get(place.world.app.key)


async def ended(place: Place, visitor: Visitor, act: str, **fields: str) -> Shown:
    """Ask, confirm, and follow."""
    target = f"/console/{place.world.app.key}/keys/{act}"
    asks = await visitor.act(f"keys/{act}", fields)
    assert asks.status == 200 and "The audit will have your name" in asks.text
    return await visitor.get((await visitor.confirmed(target, asks)).place)


async def test_a_key_is_added_rotated_finished_and_removed(place: Place) -> None:
    visitor = await place.visitor("admin")
    added = await visitor.act("keys/add", {"name": "router-1", "scope": ["check", "presence"], "reason": "new"})
    first = secret_on(added)
    key = (await facts(place)).keys[0]
    assert (key.name, key.scopes) == ("router-1", ("check", "presence"))
    assert first not in (await visitor.app("keys")).page and "router-1" in (await visitor.app("keys")).text

    second = secret_on(await visitor.act("keys/rotate", {"name": "router-1"}))
    assert second != first
    for secret in (first, second):
        caller = caller_with(await facts(place), secret.encode())
        assert caller is not None and caller.name == "router-1"
    again = await visitor.act("keys/rotate", {"name": "router-1"})
    assert (again.status, "is in progress" in again.text) == (409, True)

    assert "accepts its newest secret only" in (await ended(place, visitor, "finish", name="router-1")).text
    assert caller_with(await facts(place), first.encode()) is None
    assert "is removed" in (await ended(place, visitor, "remove", name="router-1", reason="old")).text
    assert (await facts(place)).keys == ()
    lines = [json.loads(line) for line in (await visitor.app("audit/export?format=ndjson")).page.splitlines()]
    changes = [(list(one["settings"]), one["actor"], one["reason"]) for one in lines[:4]]
    assert [change[0] for change in changes] == [["keys.router-1"]] * 4
    assert {change[1] for change in changes} == {visitor.name} and changes[0][2] == "old"
    assert not any(secret in json.dumps(lines) for secret in (first, second))


async def test_a_wrong_key_is_said_next_to_its_field(place: Place) -> None:
    visitor = await place.visitor("admin")
    wrong = await visitor.act("keys/add", {"name": "a b", "scope": "users"})
    assert wrong.status == 400 and 'value="a b"' in wrong.page and "must be 1 to 64 of" in wrong.text
    assert re.search(r'value="users" checked', wrong.page)
    none = await visitor.act("keys/add", {"name": "router-1"})
    assert none.status == 400 and "must be one or more of" in none.text
    await visitor.act("keys/add", {"name": "router-1", "scope": "check"})
    taken = await visitor.act("keys/add", {"name": "router-1", "scope": "check"})
    assert taken.status == 400 and "there is a key" in taken.text and 'class="secret"' not in taken.page
    assert (await visitor.act("keys/rotate", {"name": "nothing"})).status == 404
    assert (await visitor.act("keys/remove", {"name": "nothing"})).status == 404


async def test_the_apps_secret_is_rotated_in_two_steps(place: Place) -> None:
    visitor = await place.visitor("admin")
    old = (await facts(place)).secrets[0]
    fresh = secret_on(await visitor.act("keys/rotate-secret", {"reason": "leak"}))
    assert (await facts(place)).secrets == (fresh, old)
    assert (await visitor.act("keys/rotate-secret", {})).status == 409
    shown = await ended(place, visitor, "drop-secret", tokens="keep")
    assert "accepts its newest secret only" in shown.text
    after = await facts(place)
    assert after.secrets == (fresh,) and len(after.token_keys) == 1
    await visitor.act("keys/rotate-secret", {})
    await ended(place, visitor, "drop-secret", tokens="end")
    assert (await facts(place)).token_keys == ()


async def test_only_an_admin_of_the_app_may_touch_credentials(place: Place) -> None:
    operator = await place.visitor("operator")
    page = await operator.app("keys")
    assert "Rotate" not in page.text and "Add a key" not in page.text
    for act in ("add", "rotate", "finish", "remove", "rotate-secret", "drop-secret"):
        assert (await operator.act(f"keys/{act}", {"name": "x"})).status == 403, act
    admin = await place.visitor("admin")
    foreign = await admin.act("keys/rotate-secret", {}, Origin="https://evil.example")
    assert foreign.status == 403
    assert len((await facts(place)).secrets) == 1


async def test_a_new_app_is_created_once_and_its_secret_shown(place: Place) -> None:
    visitor = await place.visitor("admin")
    form = await visitor.get("/console/new-app")
    proposed = re.search(r'id="key" name="key" type="text" value="([^"]+)"', form.page)
    assert proposed
    fields = {"form_token": form.form_token, "name": "Shop", "key": proposed[1], "environment": "production"}
    made = await visitor.post("/console/new-app", fields)
    secret = secret_on(made)
    stored = await place.world.store.apps.get(proposed[1])
    assert (stored.name, stored.environment, stored.secrets) == ("Shop", "production", (secret,))
    twice = await visitor.post("/console/new-app", fields)
    assert twice.status == 400 and "already" in twice.text
    wrong = await visitor.post("/console/new-app", fields | {"name": "", "key": "a key"})
    assert wrong.status == 400 and "must be 1 to 64 printable characters" in wrong.text
    audit = (await visitor.get("/console/audit/export?format=ndjson&what=app-created")).page
    assert [json.loads(line)["by"]["name"] for line in audit.splitlines() if proposed[1] in line] == [visitor.name]
    assert secret not in audit


async def test_a_new_app_takes_an_admin_of_all_apps(place: Place) -> None:
    operator = await place.visitor("operator")
    assert (await operator.get("/console/new-app")).status == 403
    admin = await place.visitor("admin")
    await place.world.store.operators.change(
        admin.name, lambda one: msgspec.structs.replace(one, apps=(place.world.app.key,))
    )
    limited = Visitor(place.world, admin.name)
    await limited.sign_in()
    for target in ("/console/new-app", "/console/operators"):
        assert (await limited.get(target)).status == 403
    # Of its own App it may do everything.
    assert secret_on(await limited.act("keys/add", {"name": "mine", "scope": "check"}))
