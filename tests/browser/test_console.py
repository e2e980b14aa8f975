"""The console as an operator uses it: numbers, a kick, a Verdict, signing in and out, Redis away; with scripts and without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect

from harness.waiting import wait_until_async
from tests.browser.conftest import Site, Tabs
from tests.presence.played import presence_on

ODD_QUERIES = (
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "%22onfocus=%22alert(1)%22%20autofocus=%22",
    "%FF%0A%3Cb%3E",
    "%7B%7B7*7%7D%7D",
)
LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"
"""A tab that is looked at again opens its stream again."""
WITHOUT_LABEL = """
    [...document.querySelectorAll("input:not([type=hidden]), select")].filter(one => !one.labels.length).length
"""
TOO_WIDE = """
    [...document.querySelectorAll("main *, header *")]
        .filter(one => one.getBoundingClientRect().right > innerWidth)
        .map(one => one.tagName + " " + one.className)
"""


async def test_numbers_follow_what_gateways_do(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new()
    await tab.page.goto(f"{site.service.http}/console/")
    await expect(tab.page).to_have_title("Sign in · Gate")
    await tab.sign_in()
    # There is one App, so its first page is where one arrives.
    await expect(tab.page.get_by_role("heading", name="Overview")).to_be_visible()
    before = int(await tab.page.inner_text("#sessions"))
    site.lease()
    site.connect("ada", "iOS")
    site.connect("ada", "Web")
    await tab.page.evaluate(LOOK_AGAIN)
    await expect(tab.page.locator("#sessions")).to_have_text(str(before + 2))
    await tab.open("gateways")
    await expect(tab.page.get_by_role("row", name="edge-1 holds")).to_be_visible()
    await expect(tab.page.get_by_role("row", name="iOS 1")).to_be_visible()


async def test_the_last_hour_is_drawn(site: Site, tabs: Tabs) -> None:
    site.lease()
    site.connect("eve", "iOS")
    presence = presence_on(site.server.url)
    await presence.sample(site.service.credentials.app_key)  # unless the service did in this quarter of a minute
    await presence.client.aclose()
    tab = await tabs.new()
    for page, kind in (("overview", "platforms"), ("overview", "users"), ("gateways", "gateway-1")):
        await tab.open(page)
        line = tab.page.locator(f"[data-kind={kind}] path.line").first
        await expect(line).to_have_css("stroke-width", "2.5px")
        assert await line.evaluate("one => getComputedStyle(one).stroke") != "none"
        box = await tab.page.locator(f"[data-kind={kind}] svg.box").first.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 80


async def test_an_open_page_shows_old_numbers_and_that_the_operator_signed_out(tabs: Tabs) -> None:
    tab = await tabs.new()
    tab.expected = ["net::ERR_FAILED"]
    await tab.open("overview")
    await tab.page.route("**/overview/live", lambda route: route.abort())
    await tab.page.evaluate(LOOK_AGAIN)
    await expect(tab.page.get_by_role("status")).to_contain_text("this node does not answer")
    await tab.page.unroute("**/overview/live")
    await tab.page.evaluate(LOOK_AGAIN)
    await expect(tab.page.locator(".stale")).to_be_hidden()
    await tab.context.clear_cookies()
    await tab.page.evaluate(LOOK_AGAIN)
    await expect(tab.page.get_by_role("heading", name="Sign in to Gate")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
async def test_a_button_kicks_one_session_and_another_all(site: Site, tabs: Tabs, scripts: bool) -> None:
    tab, user = await tabs.new(java_script_enabled=scripts), f"bea-{scripts}"
    site.lease()
    sessions = [site.connect(user, platform) for platform in ("iOS", "Web", "Android")]
    await tab.open(f"user?user={user}")
    await tab.page.get_by_label("Reason of a kick").fill("noise")
    await tab.page.get_by_label("Reason of a kick").press("Enter")  # chooses no Session, so does nothing
    await tab.page.get_by_role("button", name="Kick the Session on Web").click()
    await expect(tab.page.get_by_role("status")).to_contain_text("1 Session closed.")
    await expect(tab.page.get_by_role("row", name="Web")).to_have_count(0)
    assert len(site.sessions(user)) == 2 and sessions[1] not in str(site.sessions(user))
    await tab.page.get_by_role("button", name="Kick all 2 Sessions").click()
    await expect(tab.page.get_by_role("status")).to_contain_text("2 Sessions closed.")
    assert site.sessions(user) == []
    assert "offline" in await tab.text()


async def test_why_a_may_not_message_b(site: Site, tabs: Tabs) -> None:
    site.v1("POST", "blacklist", {"owner": "bob", "members": ["alice"]})
    tab = await tabs.new()
    await tab.open("check")
    await tab.page.get_by_label("A, the sender").fill("alice")
    await tab.page.get_by_label("B, the recipient").fill("bob")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", name="No: the sender is on the recipient's Blacklist")).to_be_visible()
    await expect(tab.page.get_by_role("row", name="blacklisted denies: the reason")).to_be_visible()
    await expect(tab.page.get_by_role("row", name="passes")).to_have_count(7)
    await tab.page.get_by_role("link", name="bob").click()
    await expect(tab.page.get_by_role("heading", name="User bob")).to_be_visible()


async def test_a_wrong_password_and_signing_out(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new()
    tab.expected = ["status of 401"]
    await tab.page.goto(f"{site.app_url}/check?from=a&to=b")
    await tab.sign_in("wrong")
    await expect(tab.page.get_by_role("alert")).to_have_text("The operator's name or password is wrong.")
    await tab.sign_in()
    await tab.page.wait_for_url("**/check?from=a&to=b")
    (cookie,) = [one for one in await tab.context.cookies() if one["name"] == "gate-console"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console/")
    assert await tab.page.evaluate("document.cookie") == ""
    await tab.page.get_by_role("button", name="Sign out").click()
    await tab.page.wait_for_url("**/console/sign-in")
    await tab.page.go_back()
    await expect(tab.page.get_by_role("heading", name="Sign in to Gate")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1_280])
async def test_another_session_of_ones_own_is_ended(tabs: Tabs, width: int) -> None:
    other, tab = await tabs.new(), await tabs.new(viewport={"width": width, "height": 800})
    await other.open("overview")
    await tab.open("overview")
    await tab.page.get_by_role("link", name="Sessions", exact=True).click()
    await expect(tab.page.get_by_role("heading", name="Sessions of the console")).to_be_visible()
    assert await tab.page.evaluate(TOO_WIDE) == []
    ends = tab.page.get_by_role("button", name="End the session")
    others = tab.page.locator("tbody tr").filter(has_not_text="this session").get_by_role("button")
    await expect(others).not_to_have_count(0)
    for left in reversed(range(1, await ends.count())):
        await others.first.click()
        await expect(ends).to_have_count(left)
    await expect(tab.page.get_by_text("this session")).to_be_visible()
    await other.page.reload()
    await expect(other.page).to_have_title("Sign in · Gate")


async def test_ids_are_only_text(tabs: Tabs) -> None:
    tab = await tabs.new()
    for query in ODD_QUERIES:
        await tab.open(f"user?user={query}")
        await expect(tab.page.get_by_role("heading", name="Presence")).to_be_visible()
        await tab.page.get_by_role("link", name="May this User message another?").click()
        await tab.page.get_by_label("B, the recipient").fill("<img src=//evil.example/x onerror=alert(2)>")
        await tab.page.get_by_role("button", name="Ask").click()
        await expect(tab.page.get_by_role("heading", name="Yes: no rule denies it")).to_be_visible()
        assert await tab.page.locator("main img, main script").count() == 0
    # An id that a text field can't hold stays what it is when the form is sent again.
    await tab.open("user?user=%FF%0A%3Cb%3E")
    await tab.page.get_by_role("button", name="Show").click()
    await expect(tab.page.locator("h1")).to_contain_text("\\xff\\n<b>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1_280])
async def test_pages_fit_and_can_be_used_by_keyboard(site: Site, tabs: Tabs, scheme: str, width: int) -> None:
    site.lease("edge-" + "x" * 50)
    site.connect("w" * 64, "iOS", "edge-" + "x" * 50)
    tab = await tabs.new(color_scheme=scheme, viewport={"width": width, "height": 800})
    for page in ("overview", "user?user=" + "w" * 64, "check?from=" + "w" * 64 + "&to=" + "W" * 64):
        await tab.open(page)
        assert await tab.page.evaluate(TOO_WIDE) == [], page
        assert await tab.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), page
        assert await tab.page.locator("h1").count() == 1
        assert await tab.page.evaluate(WITHOUT_LABEL) == 0
    await tab.page.keyboard.press("Tab")
    await expect(tab.page.get_by_role("link", name="Skip to the page")).to_be_focused()


async def test_with_redis_hanging_the_pages_go_on(site: Site, tabs: Tabs) -> None:
    tab, stranger = await tabs.new(), await tabs.new()
    tab.expected = stranger.expected = ["status of 503"]
    site.lease()
    site.connect("cleo", "iOS")
    await tab.open("overview")
    await stranger.page.goto(f"{site.service.http}/console/")
    with site.server.paused():
        await tab.page.evaluate(LOOK_AGAIN)
        await expect(tab.page.locator("[data-live]")).to_contain_text("can not be reached")
        await tab.open("user?user=cleo")
        await expect(tab.page.get_by_role("alert")).to_contain_text("Redis can not be reached.")
        await expect(tab.page.get_by_role("alert")).to_contain_text("its facts are")
        await expect(tab.page.get_by_role("button", name="Kick")).to_have_count(0)
        await tab.open("check?from=cleo&to=dora")
        await expect(tab.page.get_by_role("heading", name="Yes: no rule denies it")).to_be_visible()
        await stranger.sign_in()
        await expect(stranger.page.get_by_role("alert")).to_contain_text("sign-in is not possible now")


async def test_which_node_lags_and_what_is_denied_shows_on_the_overview(site: Site, tabs: Tabs) -> None:
    site.v1("POST", "bans", {"users": ["mallory"], "seconds": 600, "reason": "spam"})
    tab = await tabs.new()
    await tab.open("overview")
    await expect(tab.page.get_by_role("row", name="mallory banned").first).to_contain_text("spam")

    async def denied() -> str:
        site.ask("GATE.CHECK", "mallory", "bob")
        return await tab.page.locator("#now").inner_text()

    await wait_until_async(lambda: _has(denied, "sender-banned"), 20, "the denials to show")
    await expect(tab.page.get_by_text("Nodes that lag")).to_be_visible()
    await tab.page.get_by_role("row", name="current").get_by_role("link").click()
    await expect(tab.page.get_by_role("heading", name="Nodes")).to_be_visible()
    await expect(tab.page.locator(".node")).to_contain_text("up to date")
    for name in ("Host", "Version", "Roles", "Disk, free", "Redis"):
        await expect(tab.page.locator(".node dt", has_text=name).first).to_be_visible()


async def _has(text: Callable[[], Awaitable[str]], words: str) -> bool:
    return words in await text()


async def test_a_chart_shows_the_values_under_the_pointer_and_by_keyboard(site: Site, tabs: Tabs) -> None:
    site.lease()
    site.connect("eve", "iOS")
    presence = presence_on(site.server.url)
    await presence.sample(site.service.credentials.app_key)  # unless the service did in this quarter of a minute
    await presence.client.aclose()
    tab = await tabs.new(viewport={"width": 1_280, "height": 900})
    await tab.open("overview")
    box = tab.page.locator("#chart-users")
    await box.hover(position={"x": 40, "y": 20})
    await expect(tab.page.locator("[data-kind=users] .readout")).to_contain_text("Users ")
    await box.focus()
    await tab.page.keyboard.press("Home")
    assert await box.get_attribute("aria-valuenow") == "0"
    assert "Users " in (await box.get_attribute("aria-valuetext") or "")
    await tab.page.keyboard.press("ArrowLeft")  # the first has no sample before it
    assert await box.get_attribute("aria-valuenow") == "0"
    await tab.page.get_by_text("As a table").first.click()
    await expect(tab.page.locator("[data-kind=users] tbody tr").first).to_be_visible()
