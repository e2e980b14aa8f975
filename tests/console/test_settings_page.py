"""The page of an App's settings: every setting is there, mistakes are next to their field, and what can't be undone asks."""

from __future__ import annotations

import html
import json
import re

import msgspec
import pytest

from gate.console.languages import LANGUAGES
from gate.console.settings_form import sent_changes, setting_fields
from gate.core.app_settings import ADMINS_ONLY, SETTINGS, default_of
from gate.core.model import AppFacts
from gate.http.forms import Form
from tests.console.conftest import Place
from tests.console.visitor import Shown, Visitor


def fields_of(shown: Shown) -> dict[str, str]:
    """What a browser would send of the form as it is, without the token."""
    found = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input [^>]*name="([^"]+)" value="([^"]*)"', shown.page)
    }
    for name, body in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>([^<]*)</textarea>', shown.page):
        found[name] = html.unescape(body).replace("\n", "\r\n")
    for name, options in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', shown.page, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        found[name] = chosen[1] if chosen else ""
    found.pop("form_token")
    return found


async def save(visitor: Visitor, **changed: str) -> Shown:
    form = fields_of(await visitor.app("settings"))
    return await visitor.act("settings", form | changed)


async def facts(place: Place) -> AppFacts:
    return await place.world.store.apps.get(place.world.app.key)


async def test_every_setting_has_its_meaning_its_default_and_a_field(place: Place) -> None:
    visitor = await place.visitor("admin")
    page = await visitor.app("settings")
    for name, setting in SETTINGS.items():
        assert f'name="{name}"' in page.page and setting.meaning.replace("`", "") in page.text, name
    assert "1 to 1,000,000. Default: 3000." in page.text
    visitor.cookies["gate-console-language"] = "zh"
    chinese = (await visitor.app("settings")).text
    assert not [name for name, setting in SETTINGS.items() if setting.meaning in chinese]


async def test_a_form_sent_as_it_is_changes_nothing(place: Place) -> None:
    visitor = await place.visitor("admin")
    before = await facts(place)
    assert "Nothing was changed." in (await visitor.get((await save(visitor)).place)).text
    assert await facts(place) == before


async def test_settings_are_saved_with_an_entry_in_the_audit(place: Place) -> None:
    visitor = await place.visitor("operator")
    sent = await save(
        visitor,
        list_ceiling="7",
        hide_presence="yes",
        exempt="staff\r\nbot ",
        rate_limits="user/info=5\r\nv1=9",
        reason="smaller",
    )
    shown = await visitor.get(sent.place)
    assert "Saved: Exempt, List ceiling, Hide presence, Rate limits." in shown.text
    after = await facts(place)
    assert (after.list_ceiling, after.hide_presence, after.exempt) == (7, True, frozenset({"staff", "bot"}))
    assert after.rate_limits == {"user/info": 5, "v1": 9}
    line = json.loads((await visitor.app("audit/export?format=ndjson")).page.splitlines()[0])
    assert (line["what"], line["actor"], line["reason"]) == ("app-set", visitor.name, "smaller")
    assert line["settings"]["list_ceiling"] == [3000, 7]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("list_ceiling", "many", "must be a whole number"),
        ("list_ceiling", "0", "must be 1 to 1,000,000, got 0"),
        ("name", "", "must be 1 to 64 printable characters"),
        ("webhook_url", "ftp://x", "must be an http or https URL"),
        ("rate_limits", "nothing=1", "is not the name of a limit"),
        ("device_policy", "three", "must be one of all, one-per-platform, one"),
        ("user_limit", "-1", "must be 0 to"),
        ("on_stale", "refuse", "must be at least 1 with on_stale refuse"),
    ],
)
async def test_a_mistake_is_next_to_its_field_and_the_form_is_kept(
    place: Place, name: str, text: str, problem: str
) -> None:
    await place.world.set_app(msgspec.structs.replace(place.world.app, name="Shop"))
    visitor = await place.visitor("admin")
    wrong = await save(visitor, **{name: text, "audit_days": "30", "reason": "why not"})
    assert (wrong.status, problem in wrong.text) == (400, True), wrong.text
    assert "Nothing was saved" in wrong.text and (await facts(place)).audit_days == 90
    kept = fields_of(wrong)
    assert (kept["audit_days"], kept["reason"]) == ("30", "why not")
    if name != "device_policy":
        assert kept[name] == text
    # The correction of that form saves the other field too.
    form = kept | {name: fields_of(await visitor.app("settings"))[name]}
    asks = await visitor.act("settings", form)
    await visitor.confirmed(f"/console/{place.world.app.key}/settings", asks)
    assert (await facts(place)).audit_days == 30


async def test_an_old_form_does_not_undo_what_others_saved(place: Place) -> None:
    visitor = await place.visitor("operator")
    old = fields_of(await visitor.app("settings"))
    await save(await place.visitor("operator"), list_ceiling="7")
    await visitor.act("settings", old | {"hide_presence": "yes"})
    after = await facts(place)
    assert (after.list_ceiling, after.hide_presence) == (7, True)


async def test_shadow_mode_asks_first_and_then_warns_on_each_page(place: Place) -> None:
    visitor = await place.visitor("admin")
    assert "Shadow mode is on" not in (await visitor.app("check")).text
    asks = await save(visitor, shadow="yes")
    assert "Shadow: from no to yes" in asks.text and "nothing is enforced" in asks.text
    assert not (await facts(place)).shadow
    await visitor.confirmed(f"/console/{place.world.app.key}/settings", asks)
    for page in ("check", "user", "webhooks", "settings"):
        assert "Shadow mode is on" in (await visitor.app(page)).text, page


async def test_roles_hold_for_settings(place: Place) -> None:
    operator, viewer = await place.visitor("operator"), await place.visitor("viewer")
    page = await operator.app("settings")
    assert not [name for name in ADMINS_ONLY if f' name="{name}"' in page.page]
    assert (await operator.act("settings", {"audit_days": "1", "was-audit_days": "x"})).status == 403
    assert ' name="list_ceiling"' not in (await viewer.app("settings")).page
    assert (await viewer.act("settings", {"list_ceiling": "7", "was-list_ceiling": "x"})).status == 403
    assert (await facts(place)).audit_days == 90


async def test_with_redis_away_settings_are_shown_and_not_saved(place: Place) -> None:
    visitor = await place.visitor("admin")
    form = fields_of(await visitor.app("settings"))
    token = (await visitor.app("check")).form_token
    async with place.redis_away():
        page = await visitor.app("settings")
        assert "Redis can not be reached" in page.text and ' name="list_ceiling"' not in page.page
        sent = await visitor.post(f"/console/{place.world.app.key}/settings", {"form_token": token, **form})
        assert sent.status == 503


def test_every_default_is_read_as_it_is_shown() -> None:
    app = AppFacts(key="a", secrets=("s",), name="Shop")
    for one in setting_fields(app, "admin", LANGUAGES["en"]):
        body = f"{one.name}={one.value}&was-{one.name}=other".encode().replace(b"\n", b"%0D%0A")
        changes, mistakes = sent_changes(Form(body))
        wanted = "Shop" if one.name == "name" else default_of(one.name)
        assert (changes, mistakes) == ({one.name: wanted}, {}), one.name
