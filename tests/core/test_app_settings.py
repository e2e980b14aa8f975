"""Settings of an App: each bound at both of its ends, and the document that `/v1/apps` and the command line show."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gate.core.app_settings import (
    ADMINS_ONLY,
    BOUNDS,
    SETTINGS,
    app_document,
    choices_of,
    default_of,
    setting_mistakes,
    title_of,
    with_settings,
)
from gate.core.codec import pack_app, unpack_app
from gate.core.model import AppFacts
from gate.errors import InvalidInput

APP = AppFacts(key="app", secrets=("one", "two"), token_keys=("00",), exempt=frozenset({"b", "a"}), presence_slices=4)


@pytest.mark.parametrize(("setting", "bounds"), BOUNDS.items())
def test_a_number_may_be_either_end_of_its_bounds(setting: str, bounds: tuple[int, int]) -> None:
    least, most = bounds
    assert setting_mistakes({setting: least}) == setting_mistakes({setting: most}) == []
    assert len(setting_mistakes({setting: least - 1})) == len(setting_mistakes({setting: most + 1})) == 1


FINE: list[dict[str, Any]] = [
    {"user_limit": None},
    {"name": "x"},
    {"name": "é" * 64},
    {"exempt": frozenset()},
    {"exempt": frozenset(str(number) for number in range(1_000))},
    {"webhook_url": ""},
    {"webhook_url": "http://h"},
    {"webhook_url": "https://h:1/" + "x" * (2_048 - 12)},
    {"presence_webhook_url": "https://[::1]:65535/a@b?c=d@e"},
    {"webhook_url": "http://h/a@b/c"},
    {"rate_limits": {"user": 1}},
    {"hide_presence": True},
]


@pytest.mark.parametrize("changes", FINE)
def test_these_may_be_stored(changes: dict[str, Any]) -> None:
    assert setting_mistakes(changes) == []


REFUSED: list[dict[str, Any]] = [
    {"name": "x" * 65},
    {"name": "a\tb"},
    {"webhook_url": "https://h:1/" + "x" * (2_048 - 11)},
    {"webhook_url": "http://é"},
    {"webhook_url": "http://h/\x7f"},
    {"webhook_url": "http://h/a b"},
    {"webhook_url": "h"},
    {"webhook_url": "http://"},
    {"webhook_url": "ftp://h"},
    {"webhook_url": "HTTP:///h"},
    {"webhook_url": "http://h:0"},
    {"webhook_url": "http://h:99999"},
    {"webhook_url": "http://[::1"},
    {"webhook_url": "http://user@h/"},
    {"webhook_url": "http://user:word@h://x"},
]


@pytest.mark.parametrize("changes", REFUSED)
def test_these_may_not(changes: dict[str, Any]) -> None:
    (mistake,) = setting_mistakes(changes, lambda name: f"--{name}")
    assert [f"--{name}" for name in changes] == [mistake.parameter]


def test_all_mistakes_are_named_also_behind_a_setting_without_a_value() -> None:
    changes = {"user_limit": None, "name": "", "hide_presence": True, "audit_days": 0}
    assert [mistake.parameter for mistake in setting_mistakes(changes)] == ["name", "audit_days"]


def test_settings_are_changed_and_slices_only_raised() -> None:
    assert with_settings(APP, {}) == APP
    assert with_settings(APP, {"presence_slices": 4, "name": "New"}).name == "New"
    assert with_settings(APP, {"presence_slices": 5}).presence_slices == 5
    with pytest.raises(InvalidInput):
        with_settings(APP, {"presence_slices": 3})


def test_an_app_that_refuses_has_an_age_limit() -> None:
    for changes in ({"on_stale": "refuse"}, {"on_stale": "refuse", "max_staleness_ms": 0}):
        with pytest.raises(InvalidInput, match=r"^--max_staleness_ms: must be at least 1 with --on_stale refuse"):
            with_settings(APP, changes, lambda name: f"--{name}")
    refusing = with_settings(APP, {"on_stale": "refuse", "max_staleness_ms": 1})
    with pytest.raises(InvalidInput):
        with_settings(refusing, {"max_staleness_ms": 0})
    assert with_settings(refusing, {"max_staleness_ms": 0, "on_stale": "serve"}).age_limit_ms(5) == 0


@pytest.mark.parametrize(
    ("settings", "deployment_ms", "limit_ms"),
    [
        ({}, 0, 0),
        ({}, 5, 5),
        ({"max_staleness_ms": 7}, 0, 0),
        ({"max_staleness_ms": 7}, 5, 7),
        ({"on_stale": "serve", "max_staleness_ms": 7}, 5, 0),
        ({"on_stale": "serve"}, 0, 0),
        ({"on_stale": "refuse", "max_staleness_ms": 7}, 0, 7),
        ({"on_stale": "refuse", "max_staleness_ms": 7}, 5, 7),
        ({"on_stale": "refuse"}, 5, 5),
    ],
)
def test_the_age_limit_of_an_app(settings: dict[str, Any], deployment_ms: int, limit_ms: int) -> None:
    app = AppFacts(key="app", secrets=(), **settings)
    assert app.age_limit_ms(deployment_ms) == limit_ms
    assert app.has_own_age_limit == bool(settings)


def test_an_app_that_another_version_stored_has_neither() -> None:
    app = unpack_app(b'{"key":"app","secrets":["one"]}')
    assert (app.shadow, app.on_stale, app.max_staleness_ms) == (False, "deployment", 0)
    assert b"shadow" not in pack_app(app) and b"stale" not in pack_app(app)


def test_the_document_has_every_setting_and_no_secret() -> None:
    document = app_document(APP)
    assert document["exempt"] == ["a", "b"]
    assert (document["secret_count"], document["token_key_count"]) == (2, 1)
    fields = set(AppFacts.__struct_fields__) - {"secrets", "token_keys"}
    assert document.keys() == fields | {"secret_count", "token_key_count"}
    assert {name: document[name] for name in fields - {"exempt", "keys"}} == {
        name: getattr(APP, name) for name in fields - {"exempt", "keys"}
    }
    assert document.keys() >= ADMINS_ONLY


def test_every_setting_has_a_meaning_and_a_default_that_may_be_stored() -> None:
    assert set(SETTINGS) == set(AppFacts.__struct_fields__) - {"key", "secrets", "token_keys", "keys", "created_at_ms"}
    assert all(re.fullmatch(r"[A-Z].*\.", one.meaning) for one in SETTINGS.values())
    defaults = {name: default_of(name) for name in SETTINGS}
    assert defaults == {name: getattr(AppFacts(key="app", secrets=("one",)), name) for name in SETTINGS}
    assert setting_mistakes({name: value for name, value in defaults.items() if name != "name"}) == []


@pytest.mark.parametrize(
    ("setting", "title"),
    [
        ("token_ttl_s", "Token TTL"),
        ("max_staleness_ms", "Max staleness"),
        ("webhook_url", "Webhook URL"),
        ("utc_offset_minutes", "UTC offset"),
        ("name", "Name"),
    ],
)
def test_a_setting_has_a_title(setting: str, title: str) -> None:
    assert title_of(setting) == title


def test_a_choice_has_its_words() -> None:
    assert choices_of("device_policy") == ("all", "one-per-platform", "one")
    assert choices_of("hide_presence") == choices_of("name") == choices_of("user_limit") == ()
