"""Which language a browser gets, and that pages and the messages after acts are in it."""

from __future__ import annotations

import pytest

from gate.console.labels import FACT_NAMES
from gate.console.languages import LANGUAGES, chosen
from gate.console.views import OF_APP, Page
from gate.replica.status_page import NEVER_FRESH_MS
from tests.console.conftest import Place
from tests.console.visitor import Visitor

ENGLISH, CHINESE = LANGUAGES["en"], LANGUAGES["zh"]


@pytest.mark.parametrize(
    ("cookie", "accepted", "code"),
    [
        ("", "", "en"), ("zh", "en", "zh"), ("en", "zh", "en"), ("xx", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "en-GB,en;q=0.9,zh;q=0.1", "en"), ("", "de,zh;q=0.3", "zh"), ("", "de", "en"), ("", "zh;q=0", "en"),
        ("", "zh;q=much,en", "en"), ("", ",;q=;q=", "en"), ("", "ZH-Hant", "zh"),
    ],
)  # fmt: skip
def test_the_cookie_decides_then_the_browsers_list(cookie: str, accepted: str, code: str) -> None:
    assert chosen(cookie, accepted).code == code


def test_values_are_in_the_language() -> None:
    assert [ENGLISH.duration(ms) for ms in (850, 12_000, 180_000)] == ["850 ms", "12 s", "3 min"]
    assert [CHINESE.duration(ms) for ms in (850, 12_000, 180_000)] == ["850 毫秒", "12 秒", "3 分钟"]
    assert (ENGLISH.moment(2**62), CHINESE.moment(2**62)) == ("never", "永不")
    assert CHINESE.moment(0) == ENGLISH.moment(0) == "1970-01-01 00:00:00Z"
    assert [ENGLISH.age(ms) for ms in (0, 2_000, NEVER_FRESH_MS)] == [
        "complete to the second", "2 s old", "of an unknown age",
    ]  # fmt: skip
    assert ENGLISH.ngettext("%(num)s entry", "%(num)s entries", 1_200) == "1,200 entries"
    assert CHINESE.ngettext("%(num)s entry", "%(num)s entries", 1_200) == "1,200 个条目"
    assert CHINESE.facts({"banned_until": None, "registered": True}) == [("封禁截止", "无"), ("已注册", "是")]


async def test_every_fact_of_a_rule_has_a_name(place: Place) -> None:
    named = {name for name, _ in ENGLISH.facts(await facts_of_rules(place))}
    assert named == set(FACT_NAMES)


async def facts_of_rules(place: Place) -> dict[str, object]:
    """By name, as `explain` answers for two strangers."""
    rules = (await place.world.v1("GET", "explain?from=a&to=b")).body["rules"]
    return {name: fact for rule in rules for name, fact in rule["facts"].items()}


async def test_the_link_in_the_header_changes_the_language_and_comes_back(place: Place) -> None:
    visitor, key = await place.visitor(), place.world.app.key
    target = f"/console/{key}/check?from=%FF%26&to=b"
    english = await visitor.get(target)
    assert '<html lang="en">' in english.page and "May A message B?" in english.text
    assert f"{target}&lang=zh".replace("&", "&amp;") in english.page
    changed = await visitor.get(f"{target}&lang=zh")
    assert (changed.status, changed.place) == (303, target)
    chinese = await visitor.get(target)
    assert '<html lang="zh-CN">' in chinese.page and "可以：没有规则拒绝" in chinese.text
    assert (await visitor.get(f"{target}&lang=xx")).status == 303
    assert '<html lang="zh-CN">' in (await visitor.get(target)).page


async def test_strangers_are_asked_and_refused_in_their_language(place: Place) -> None:
    stranger = Visitor(place.world, "stranger")
    form = await stranger.get("/console/sign-in", **{"Accept-Language": "zh-CN"})
    assert "登录 Gate" in form.text
    fields: dict[str, str | bytes] = {"form_token": form.form_token, "name": "x", "password": "wrong"}
    refused = await stranger.post("/console/sign-in", fields, **{"Accept-Language": "zh"})
    assert (refused.status, "操作员的名字或密码不正确。" in refused.text) == (401, True)
    visitor = await place.visitor()
    lost = await visitor.get(f"/console/{place.world.app.key}/nothing", **{"Accept-Language": "zh"})
    assert (lost.status, "控制台没有这个页面。" in lost.text) == (404, True)


async def test_what_an_act_did_is_said_in_the_language(place: Place) -> None:
    visitor = await place.visitor()
    await place.gateway_session(b"alice")
    visitor.cookies["gate-console-language"] = "zh"
    kicked = await visitor.kick("alice", "all")
    assert "已关闭 1 个会话。" in (await visitor.get(kicked.place)).text


@pytest.mark.parametrize(
    "page", [page for page in OF_APP.values() if page.show and page.title], ids=lambda one: one.path
)
async def test_no_english_title_is_left_in_chinese(place: Place, page: Page) -> None:
    visitor = await place.visitor("admin")
    visitor.cookies["gate-console-language"] = "zh"
    shown = await visitor.app(page.path)
    assert (shown.status, page.title in shown.text) == (200, False)
