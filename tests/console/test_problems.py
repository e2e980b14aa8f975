"""Errors in the operator's language: each text is one that Gate raises, with its values in it, and no English is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from gate.console.act_fields import problem_text
from gate.console.languages import ENGLISH, LANGUAGES
from gate.console.problems import PROBLEMS, translated
from gate.core import app_keys, app_secrets, operators
from gate.core.app_settings import setting_mistakes, with_settings
from gate.core.ids import app_key, user_id
from gate.core.limits import parse_limits
from gate.core.model import AppFacts
from gate.core.reasons import audit_text
from gate.errors import GateError, InvalidInput
from gate.http.bodies import BodyTooLong
from gate.http.context import Deps
from gate.http.errors import MethodWrong
from gate.http.fields import page_cursor
from gate.http.forms import Form
from gate.replica.status_page import StatusPage
from tests.console.conftest import Place
from tests.console.visitor import Visitor

CHINESE = LANGUAGES["zh"]
KEY = app_keys.with_key(AppFacts(key="shop", secrets=("s" * 20,)), "router", ("check",), "t" * 20, 1)
ROTATED = app_keys.with_rotated_key(KEY, "router", "u" * 20)
FULL = msgspec.structs.replace(KEY, keys=tuple(msgspec.structs.replace(KEY.keys[0], name=f"k{n}") for n in range(32)))

OLD: Any = SimpleNamespace(options=SimpleNamespace(on_stale="refuse", max_staleness_ms=5))


def setting(name: str, value: Any) -> Callable[[], None]:
    def check() -> None:
        for mistake in setting_mistakes({name: value}):
            raise mistake
        with_settings(msgspec.structs.replace(KEY, presence_slices=4), {name: value})

    return check


RAISED: dict[str, Callable[[], object]] = {
    "an id is missing": lambda: Form(b"").raw_user("user"),
    "an id is too long": lambda: user_id(b"x" * 65),
    "text is no UTF-8": lambda: Form(b"a=x%FF").text("a"),
    "a reason is no UTF-8": lambda: audit_text("\udcff", "other"),
    "a reason is too long": lambda: audit_text("x" * 513, "other"),
    "a place is wrong": lambda: page_cursor("x", "cursor"),
    "an App key": lambda: app_key("a b"),
    "the name of a key": lambda: app_keys.key_name(".."),
    "no scope": lambda: app_keys.key_scopes([]),
    "a key is there": lambda: app_keys.with_key(KEY, "router", ("check",), "v" * 20, 1),
    "too many keys": lambda: app_keys.with_key(FULL, "more", ("check",), "v" * 20, 1),
    "a key's rotation": lambda: app_keys.with_rotated_key(ROTATED, "router", "v" * 20),
    "no such key": lambda: app_keys.named_key(KEY, "other"),
    "the App's rotation": lambda: app_secrets.with_new_secret(app_secrets.with_new_secret(KEY, "w" * 20), "x" * 20),
    "Tokens of many secrets": lambda: app_secrets.without_old_secret(
        msgspec.structs.replace(KEY, secrets=("a" * 20, "b" * 20), token_keys=("00",) * app_secrets.MAX_TOKEN_KEYS),
        keep_tokens=True,
    ),
    "a number out of bounds": setting("audit_days", 0),
    "a name": setting("name", ""),
    "fewer slices": setting("presence_slices", 2),
    "an age is missing": setting("on_stale", "refuse"),
    "exempt senders": setting("exempt", frozenset(map(str, range(1_001)))),
    "an address": setting("webhook_url", "http://é"),
    "an address without a host": setting("webhook_url", "http:///x"),
    "the name of a limit": lambda: parse_limits("nothing=1"),
    "a limit": lambda: parse_limits("user=0"),
    "a limit's form": lambda: parse_limits("user"),
    "the name of an operator": lambda: operators.operator_name("a b"),
    "too many Apps": lambda: operators.operator_apps(list(map(str, range(101)))),
    "a method": lambda: (_ for _ in ()).throw(MethodWrong("PUT", "GET, POST")),
    "facts too old for the deployment": lambda: Deps.refuse_stale_ms(OLD, 10),
    "facts too old for the App": lambda: Deps.refuse_stale_ms(
        OLD, 10, msgspec.structs.replace(KEY, on_stale="refuse", max_staleness_ms=7)
    ),
    "no Replica": lambda: StatusPage(Path("/nowhere/status")),
}


@pytest.mark.parametrize("name", RAISED)
def test_an_error_has_words_in_the_operators_language(name: str) -> None:
    with pytest.raises(GateError) as raised:
        RAISED[name]()
    english, chinese = problem_text(raised.value, ENGLISH), problem_text(raised.value, CHINESE)
    assert english == (raised.value.problem if isinstance(raised.value, InvalidInput) else str(raised.value))
    assert chinese != english and re.search(r"[\u4e00-\u9fff]", chinese), chinese
    # Values stay: numbers, and what is quoted.
    assert set(re.findall(r"\d+", english)) <= set(re.findall(r"\d+", chinese)), chinese


def test_what_has_no_other_words_stays_as_it_is() -> None:
    assert translated("anything else 7", CHINESE) == "anything else 7"
    assert translated("", CHINESE) == ""
    text = "must be 1 to 64 letters, digits or . _ @ + -, got 'a 1 to 2, got b'"
    assert translated(text, ENGLISH) == text and "'a 1 to 2, got b'" in translated(text, CHINESE)
    assert translated("this takes the role admin, and ann is viewer", CHINESE).count("admin") == 0


def test_a_body_that_is_too_long_says_how_long_it_may_be() -> None:
    for text in ("must be at most 65536 bytes", "must be at most 65536 bytes, 70000 were announced"):
        assert "65536" in translated(BodyTooLong("body", text).problem, CHINESE) != text


class Chinese(Visitor):
    """A browser whose operator reads Chinese."""

    async def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Any:
        return await super()._send(method, target, body, {"Accept-Language": "zh-CN", **headers})


async def reader(place: Place, role: operators.OperatorRole = "operator") -> Chinese:
    visitor = Chinese(place.world, (await place.visitor(role)).name)
    await visitor.sign_in()
    return visitor


ENGLISH_WORDS = re.compile(r"\b(?:must|this takes|there is|has no|is not|may change|facts are)\b")


async def test_pages_refuse_in_one_language(place: Place) -> None:
    visitor = await reader(place)
    app = f"/console/{place.world.app.key}"
    for shown in (
        await visitor.get("/console/nowhere"),
        await visitor.get("/console/other/overview"),
        await visitor.get("/console/operators"),
        await visitor.get(f"{app}/user/ban"),
        await visitor.app("user?user=%FF&user_as=base64"),
        await visitor.app(f"check?from={'x' * 65}&to=b"),
        await visitor.app(f"audit?user={'x' * 65}"),
        await visitor.act("settings", {"list_ceiling": "many", "was-list_ceiling": "0"}),
        await visitor.act("settings", {"list_ceiling": "0", "was-list_ceiling": "x"}),
        await visitor.act("settings", {"rate_limits": "nothing=1", "was-rate_limits": "x"}),
        await visitor.act("settings", {"audit_days": "7", "was-audit_days": "x"}),
        await visitor.act("bans", {"users": "a" * 66_000, "ends": "600"}),
        await visitor.post(f"{app}/bans", {"users": "a", "form_token": "x"}),
        await visitor.post(f"{app}/bans", {"users": "a"}, Origin="https://evil.example"),
    ):
        assert shown.status >= 400
        assert not ENGLISH_WORDS.search(shown.text), shown.text
    admin = await reader(place, "admin")
    for target, fields in (
        ("keys/add", {"name": "..", "scope": "check"}),
        ("keys/add", {"name": "one"}),
        ("keys/rotate", {"name": "none"}),
        ("settings", {"webhook_url": "x", "was-webhook_url": "y"}),
    ):
        shown = await admin.act(target, cast("dict[str, str | bytes]", fields))
        assert shown.status >= 400
        assert not ENGLISH_WORDS.search(shown.text), shown.text
    token = (await admin.get("/console/operators")).form_token
    for fields in ({"name": "a b", "role": "viewer"}, {"name": admin.name, "role": "viewer"}):
        shown = await admin.post("/console/operators/add", {"form_token": token, **fields})
        assert shown.status == 400 and not ENGLISH_WORDS.search(shown.text), shown.text


def test_every_text_is_one_that_is_raised() -> None:
    raised = [problem_of(call) for call in RAISED.values()]
    # The others need a page or a proxy: their words are in the code.
    files = [path for path in (Path(__file__).parents[2] / "gate").rglob("*.py") if path.name != "problems.py"]
    source = " ".join(" ".join(path.read_text().split()) for path in files)
    for text in PROBLEMS:
        pattern = re.compile(r".+".join(re.escape(part) for part in re.split(r"%\(\w+\)s", text)), re.DOTALL)
        longest = max(re.split(r"%\(\w+\)s", text), key=len).strip()
        assert any(pattern.fullmatch(one) for one in raised) or longest in source, text


def problem_of(call: Callable[[], object]) -> str:
    with pytest.raises(GateError) as raised:
        call()
    return raised.value.problem if isinstance(raised.value, InvalidInput) else str(raised.value)
