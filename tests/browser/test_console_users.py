"""The console does the work on Users: each page's main task in both languages, a viewer, an ended session, Redis
away, 320 px."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playwright.async_api import Locator, expect

from tests.browser.conftest import Site, Tab, Tabs
from tests.browser.test_every_page import TOO_WIDE

EN, ZH = "en", "zh-CN"
TEXTS = {
    EN: {
        "users": "Users", "search": "Search", "part": "Part of an id or a name", "reason": "Reason, for the audit",
        "ban": "Ban…",
        "ban it": "Ban", "banned": "is banned until", "lift": "Lift the Ban…", "lift it": "Lift the Ban",
        "lifted": "is not banned any more.", "bans": "Bans", "ban users": "Ban Users", "ids": "Ids of Users, one in each line",
        "many banned": "2 Users are banned.", "lift one": "Lift that of", "lift that": "Lift", "one lifted": "1 Ban is lifted.",
        "check": "May A message B?", "a": "A, the sender", "b": "B, the recipient", "ask": "Ask", "no": "No:", "yes": "Yes:",
        "unknown": "Gate knows nothing of this id", "register": "Register", "name": "Name", "registered": "is registered.",
        "blacklist": "Blacklist: 0 entries", "add entries": "Add entries", "add": "Add", "added": "1 User is on the Blacklist.",
        "remove": "Remove", "removed": "1 User is off the Blacklist.", "deactivated": "Deactivated",
        "deactivate users": "Deactivate Users", "deactivate": "Deactivate…", "deactivate it": "Deactivate",
        "are deactivated": "1 User is deactivated.", "take off": "Take mallory-{0} off the Blacklist of bob-{0}",
    },
    ZH: {
        "users": "用户", "search": "搜索", "part": "ID 或名字的一部分", "reason": "原因（记入审计）", "ban": "封禁…",
        "ban it": "封禁", "banned": "已被封禁至", "lift": "解除封禁…", "lift it": "解除封禁", "lifted": "已不再被封禁。",
        "bans": "封禁", "ban users": "封禁用户", "ids": "用户 ID，每行一个", "many banned": "已封禁 2 个用户。",
        "lift one": "解除", "lift that": "解除", "one lifted": "已解除 1 个封禁。", "check": "A 可以给 B 发消息吗？",
        "a": "A（发送者）", "b": "B（接收者）", "ask": "查询", "no": "不可以：", "yes": "可以：",
        "unknown": "Gate 对此 ID 一无所知", "register": "注册", "name": "名字", "registered": "已注册。",
        "blacklist": "黑名单：0 个条目", "add entries": "添加条目", "add": "添加", "added": "已将 1 个用户加入黑名单。",
        "remove": "移除", "removed": "已将 1 个用户移出黑名单。", "deactivated": "注销", "deactivate users": "注销用户",
        "deactivate": "注销…", "deactivate it": "注销", "are deactivated": "已注销 1 个用户。",
        "take off": "将 mallory-{0} 移出 bob-{0} 的黑名单",
    },
}  # fmt: skip
each_language = pytest.mark.parametrize("language", [EN, ZH])


class Clicks:
    """Clicks, counted."""

    def __init__(self) -> None:
        self.count = 0

    async def on(self, target: Locator) -> None:
        await target.click()
        self.count += 1


async def overview(tabs: Tabs, language: str, **options: object) -> Tab:
    """A tab on the overview of the App, signed in, whatever the language."""
    tab = await tabs.new(locale=language, **options)
    await tab.page.goto(f"{tab.site.app_url}/overview")
    known = tab.site.service.credentials
    await tab.page.locator("#name").fill(known.operator)
    await tab.page.locator("#password").fill(known.operator_password)
    await tab.page.locator("main button[type=submit]").click()
    await tab.page.wait_for_url("**/overview")
    return tab


def link(tab: Tab, name: str) -> Locator:
    """A link of the App's navigation."""
    return tab.page.locator("header").get_by_role("link", name=name, exact=True)


def button(tab: Tab, name: str) -> Locator:
    return tab.page.get_by_role("button", name=name, exact=True)


@each_language
async def test_an_operator_bans_with_a_reason_in_four_clicks_and_lifts(site: Site, tabs: Tabs, language: str) -> None:
    user, text, clicks = f"ban-{language}", TEXTS[language], Clicks()
    site.v1("POST", "users", {"user": user, "name": "Bad Boy"})
    tab = await overview(tabs, language)
    await clicks.on(link(tab, text["users"]))
    await tab.page.get_by_label(text["part"]).fill(user[1:])
    await tab.page.keyboard.press("Enter")
    await clicks.on(tab.page.get_by_role("row").get_by_role("link", name=user))
    await tab.page.get_by_label(text["reason"]).first.fill("spam in groups")
    await clicks.on(button(tab, text["ban"]))
    await expect(tab.page.get_by_text("spam in groups")).to_be_visible()
    await clicks.on(button(tab, text["ban it"]))
    await expect(tab.page.get_by_role("status")).to_contain_text(text["banned"])
    assert clicks.count <= 4
    assert site.ask("GATE.VERDICT", user, "bob") == b"sender-banned"
    await button(tab, text["lift"]).click()
    await button(tab, text["lift it"]).click()
    await expect(tab.page.get_by_role("status")).to_contain_text(text["lifted"])
    assert site.ask("GATE.VERDICT", user, "bob") == b"allowed"


@each_language
async def test_why_a_message_was_refused_and_what_changes_it(site: Site, tabs: Tabs, language: str) -> None:
    text, clicks = TEXTS[language], Clicks()
    site.v1("POST", "blacklist", {"owner": f"bob-{language}", "members": [f"mallory-{language}"]})
    tab = await overview(tabs, language)
    await clicks.on(link(tab, text["check"]))
    await tab.page.get_by_label(text["a"]).fill(f"mallory-{language}")
    await tab.page.get_by_label(text["b"]).fill(f"bob-{language}")
    await clicks.on(button(tab, text["ask"]))
    await expect(tab.page.locator("#verdict")).to_contain_text(text["no"])
    assert clicks.count <= 4
    await button(tab, text["take off"].format(language)).click()
    await expect(tab.page.locator("#verdict")).to_contain_text(text["yes"])
    assert site.ask("GATE.VERDICT", f"mallory-{language}", f"bob-{language}") == b"allowed"


@each_language
async def test_an_unknown_id_is_registered(tabs: Tabs, language: str) -> None:
    text, user = TEXTS[language], f"new-{language}"
    tab = await overview(tabs, language)
    await tab.open(f"user?user={user}")
    await expect(tab.page.get_by_text(text["unknown"])).to_be_visible()
    await tab.page.get_by_label(text["name"], exact=True).fill("New User")
    await button(tab, text["register"]).click()
    await expect(tab.page.get_by_role("status")).to_contain_text(text["registered"])
    await expect(tab.page.locator("h1")).to_contain_text("New User")


@each_language
async def test_bans_of_many_and_a_lift_from_the_table(site: Site, tabs: Tabs, language: str) -> None:
    text, users = TEXTS[language], [f"raid-{language}-{number}" for number in range(2)]
    tab = await overview(tabs, language)
    await link(tab, text["bans"]).click()
    await tab.page.locator("summary", has_text=text["ban users"]).click()
    await tab.page.get_by_label(text["ids"]).fill("\n".join(users))
    await button(tab, text["ban"]).click()
    await button(tab, text["ban it"]).click()
    await expect(tab.page.get_by_role("status").first).to_contain_text(text["many banned"])
    await tab.page.get_by_label(text["part"]).fill(users[1])
    await button(tab, text["search"]).click()
    await expect(tab.page.locator("tbody tr")).to_have_count(1)
    await tab.page.locator("tbody").get_by_role("button").click()
    await button(tab, text["lift that"]).click()
    await expect(tab.page.get_by_role("status").first).to_contain_text(text["one lifted"])
    assert [site.ask("GATE.VERDICT", user, "bob") for user in users] == [b"sender-banned", b"allowed"]


@each_language
async def test_a_list_is_added_to_and_removed_from(site: Site, tabs: Tabs, language: str) -> None:
    text, owner = TEXTS[language], f"owner-{language}"
    tab = await overview(tabs, language)
    await tab.open(f"user?user={owner}")
    await tab.page.get_by_role("link", name=text["blacklist"]).click()
    await tab.page.locator("summary", has_text=text["add entries"]).click()
    await tab.page.get_by_label(text["ids"]).fill("eve")
    await button(tab, text["add"]).click()
    await expect(tab.page.get_by_role("status")).to_contain_text(text["added"])
    assert site.ask("GATE.VERDICT", "eve", owner) == b"blacklisted"
    await tab.page.locator("tbody").get_by_role("button", name=text["remove"]).click()
    await expect(tab.page.get_by_role("status")).to_contain_text(text["removed"])
    assert site.ask("GATE.VERDICT", "eve", owner) == b"allowed"


@each_language
async def test_users_are_deactivated_from_the_table(site: Site, tabs: Tabs, language: str) -> None:
    text, user = TEXTS[language], f"leaver-{language}"
    tab = await overview(tabs, language)
    await link(tab, text["deactivated"]).click()
    await tab.page.locator("summary", has_text=text["deactivate users"]).click()
    await tab.page.get_by_label(text["ids"]).fill(user)
    await button(tab, text["deactivate"]).click()
    await button(tab, text["deactivate it"]).click()
    await expect(tab.page.get_by_role("status")).to_contain_text(text["are deactivated"])
    assert site.ask("GATE.VERDICT", user, "bob") == b"sender-deactivated"


async def test_a_search_goes_on_by_itself_until_it_is_over(site: Site, tabs: Tabs) -> None:
    tab = await overview(tabs, EN)
    page = (await (await tab.context.request.get(f"{site.app_url}/user?match=zzz-none")).text()).replace(
        '<div id="found">', f'<div id="found" data-goes-on="{site.app_url}/user?match=zzz-none">'
    )
    assert "data-goes-on" in page
    await tab.page.route("**/user?match=slow", lambda route: route.fulfill(body=page, content_type="text/html"))
    async with tab.page.expect_response("**/user?match=zzz-none", timeout=30_000):
        await tab.page.goto(f"{site.app_url}/user?match=slow")
    await expect(tab.page.locator("#looked-at")).to_have_text("All Users were looked at.")
    assert await tab.page.locator("#found").get_attribute("data-goes-on") is None


async def test_a_viewer_sees_and_has_no_forms(site: Site, tabs: Tabs) -> None:
    command = [
        "-m",
        "gate",
        "operator",
        "add",
        "vera",
        "--role",
        "viewer",
        "--data",
        str(site.service.data),
        "--password-stdin",
    ]
    subprocess.run(
        [sys.executable, *command], input=b"a viewer's password\n", check=True, timeout=60, capture_output=True
    )
    site.v1("POST", "bans", {"users": ["seen"], "permanent": True, "reason": "spam"})
    tab = await tabs.new()
    await tab.page.goto(f"{site.app_url}/user?user=seen")
    await tab.page.get_by_label("Operator").fill("vera")
    await tab.page.get_by_label("Password").fill("a viewer's password")
    await button(tab, "Sign in").click()
    await expect(tab.page.get_by_text("Reason: spam")).to_be_visible()
    await expect(tab.page.get_by_text("you are a viewer")).to_be_visible()
    for page in ("user?user=seen", "bans", "mutes", "deactivated", "user/list?user=seen", "check?from=seen&to=b"):
        await tab.page.goto(f"{site.app_url}/{page}")
        await expect(tab.page.locator("main [name=reason]")).to_have_count(0)
        await expect(tab.page.locator("main form[method=post] button:not([hidden])")).to_have_count(0)


async def test_an_act_of_an_ended_session_does_nothing_and_asks_to_sign_in(site: Site, tabs: Tabs) -> None:
    tab = await overview(tabs, EN)
    await tab.open("user?user=late")
    await tab.context.clear_cookies()
    await button(tab, "Ban…").click()
    await expect(tab.page.get_by_role("heading", name="Sign in to Gate")).to_be_visible()
    assert site.ask("GATE.VERDICT", "late", "bob") == b"allowed"


async def test_an_act_while_redis_is_away_says_that_nothing_changed(site: Site, tabs: Tabs) -> None:
    tab = await overview(tabs, EN)
    tab.expected = ["status of 503"]
    await tab.open("user?user=cut")
    with site.server.paused():
        await button(tab, "Ban…").click()
        await expect(tab.page.get_by_role("heading", name="Redis can not be reached")).to_be_visible()
        await tab.page.goto(f"{site.app_url}/user?user=cut")
        await expect(tab.page.locator("#ban-now")).to_have_text("not banned")
        await expect(button(tab, "Ban…")).to_have_count(0)
        await tab.page.goto(f"{site.app_url}/bans")
        await expect(tab.page.get_by_text("The list is in Redis")).to_be_visible()


async def test_all_fits_on_a_telephone_with_every_form_open(site: Site, tabs: Tabs) -> None:
    wide = "w" * 64
    site.v1("POST", "bans", {"users": [wide], "permanent": True, "reason": "x" * 300, "actor": "y" * 128})
    site.v1("POST", "blacklist", {"owner": wide, "members": ["W" * 64]})
    tab = await overview(tabs, EN, viewport={"width": 320, "height": 700})
    for page in (
        f"user?user={wide}",
        "bans",
        f"user/list?user={wide}",
        f"check?from={wide}&to=b",
        f"user?match={wide}",
    ):
        await tab.open(page)
        await tab.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await tab.page.evaluate(TOO_WIDE) == [], page
