"""The page at `/client/` in a real Chromium: a client like that of any app, disconnected and reconnected by the rules."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from harness.processes import kill_each
from harness.waiting import wait_until, wait_until_async
from tests.browser.conftest import Site, Tab, Tabs
from tests.browser.test_console import TOO_WIDE, WITHOUT_LABEL
from tests.service.running import kill, pid_of

REFUSED_HANDSHAKE = ("WebSocket connection to", "Failed to load resource")
"""What Chromium itself says of a refusal."""
PING_MS = 25_000
PROBE_MS = 3_000
FIRST_WAIT_MS = 500
STORED = "localStorage.length + sessionStorage.length + document.cookie.length"


@pytest_asyncio.fixture(loop_scope="module")
async def tab(site: Site, tabs: Tabs) -> AsyncIterator[Tab]:
    tab = await tabs.new()
    await tab.page.goto(f"{site.service.http}/client/")
    yield tab


def token_of(site: Site, user: str) -> str:
    return str(site.v1("POST", "tokens", {"user": user})["token"])


async def connect(page: Page, token: str, platform: str | None = None) -> None:
    await page.get_by_label("Token").fill(token)
    if platform is not None:
        await page.get_by_label("Platform").fill(platform)
    await page.get_by_role("button", name="Connect", exact=True).click()


async def be_online(tab: Tab, user: str) -> str:
    """The Token it is online by."""
    token = token_of(tab.site, user)
    await connect(tab.page, token)
    await expect(tab.page.locator("#state-title")).to_have_text(f"Online as {user}")
    return token


async def test_online_and_off_again(site: Site, tab: Tab) -> None:
    token = token_of(site, "ann")
    await expect(tab.page.get_by_role("button", name="Ask")).to_be_disabled()
    await connect(tab.page, token, "Tablet")
    await expect(tab.page.locator("#state-title")).to_have_text("Online as ann")
    await expect(tab.page.locator("#state-text")).to_contain_text("On Tablet, Session ")
    await expect(tab.page.get_by_role("log")).to_contain_text('"type":"welcome"')
    assert [one[b"platform"] for one in site.sessions("ann")] == [b"Tablet"]
    assert token not in tab.page.url and token not in await tab.text()
    assert await tab.page.evaluate(STORED) == 0
    await tab.page.get_by_role("button", name="Disconnect").click()
    await expect(tab.page.locator("#state-title")).to_have_text("Not connected")
    wait_until(lambda: site.sessions("ann") == [], 10, "its Session to be closed")


async def test_who_is_online(site: Site, tab: Tab) -> None:
    await be_online(tab, "ann")
    site.lease()
    site.connect("bob", "iOS")
    await tab.page.get_by_label("Users, with spaces").fill("bob <b>zoe</b>")
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#presences li")).to_have_text(["bobonline on iOS", "<b>zoe</b>offline, never seen"])


async def test_whom_it_blocks_is_denied(site: Site, tab: Tab) -> None:
    await be_online(tab, "ann")
    assert site.ask("GATE.VERDICT", "eve", "ann") == b"allowed"
    await tab.page.get_by_label("A User whose messages").fill("eve")
    await tab.page.get_by_role("button", name="Block", exact=True).click()
    await expect(tab.page.locator("#blacklist-text")).to_contain_text("eve is blocked")
    assert site.ask("GATE.VERDICT", "eve", "ann") == b"blacklisted"
    await tab.page.get_by_role("button", name="Unblock eve").click()
    await expect(tab.page.locator("#blacklist-text")).to_contain_text("Your Blacklist is empty.")
    assert site.ask("GATE.VERDICT", "eve", "ann") == b"allowed"
    await tab.page.get_by_label("A User whose messages").fill("x" * 65)
    await tab.page.get_by_role("button", name="Block", exact=True).click()
    await expect(tab.page.locator("#blacklist-text")).to_contain_text("1 to 64 bytes")


async def test_a_ban_disconnects_the_client_and_is_shown(site: Site, tab: Tab) -> None:
    token = await be_online(tab, "kim")
    site.v1("POST", "bans", {"users": ["kim"], "seconds": 600})
    await expect(tab.page.locator("#state-title")).to_have_text("Not online")
    await expect(tab.page.get_by_role("status").first).to_contain_text("(banned). Until ")
    await expect(tab.page.get_by_role("status").first).to_contain_text("The same Token will do then")
    await expect(tab.page.get_by_role("button", name="Ask")).to_be_disabled()
    tab.expected += REFUSED_HANDSHAKE
    await connect(tab.page, token)
    await expect(tab.page.get_by_role("status").first).to_contain_text("(banned). Until ")


@pytest.mark.parametrize(("shown", "word"), [("hello", "token-malformed"), ("gt1.AAAA", "token-malformed")])
async def test_a_token_that_is_none(tab: Tab, shown: str, word: str) -> None:
    tab.expected += REFUSED_HANDSHAKE
    await connect(tab.page, shown)
    await expect(tab.page.get_by_role("status").first).to_contain_text(f"({word})")
    await expect(tab.page.get_by_role("button", name="Connect", exact=True)).to_be_enabled()


async def test_kicked_and_back_after_the_time_that_was_asked_for(site: Site, tab: Tab) -> None:
    await be_online(tab, "joe")
    (before,) = site.sessions("joe")
    site.v1("POST", "users/joe/kick", {})
    await expect(tab.page.get_by_role("log")).to_contain_text('"reason":"kicked"')
    await expect(tab.page.locator("#state-title")).to_have_text("Online as joe")
    (after,) = site.sessions("joe")
    assert after[b"session"] != before[b"session"]


async def test_the_server_dies_and_comes_back(site: Site, tab: Tab) -> None:
    tab.expected += REFUSED_HANDSHAKE
    await be_online(tab, "ann")
    await tab.page.evaluate("document.getElementById('log').replaceChildren()")
    kill(site.service, "http")
    await expect(tab.page.get_by_role("log")).to_contain_text('"type":"welcome"', timeout=30_000)
    await expect(tab.page.locator("#state-title")).to_have_text("Online as ann")


async def test_a_server_that_is_silent_is_noticed_by_asking(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new()
    tab.expected += REFUSED_HANDSHAKE
    received: list[str] = []
    tab.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(str(frame))))
    await tab.page.clock.install()
    await tab.page.goto(f"{site.service.http}/client/")
    await be_online(tab, "sue")
    online = await tab.page.inner_text("#state-text")
    for turn in (1, 2, 3):
        await tab.page.clock.run_for(PING_MS)
        await wait_until_async(lambda turn=turn: "".join(received).count("pong") == turn, 10, "the answer to a ping")  # type: ignore[misc]
    assert await tab.page.inner_text("#state-text") == online
    http = pid_of(site.service, "http")
    assert http
    kill_each([http], signal.SIGSTOP)
    try:
        await tab.page.clock.run_for(PING_MS)
        await tab.page.clock.run_for(PROBE_MS)
        await expect(tab.page.locator("#state-text")).to_have_text("The server does not answer (broken).")
    finally:
        kill_each([http], signal.SIGCONT)

    async def is_back() -> bool:
        if await tab.page.inner_text("#state-title") == "Not connected, trying again":
            await tab.page.clock.run_for(FIRST_WAIT_MS)
        return await tab.page.inner_text("#state-title") == "Online as sue"

    await wait_until_async(is_back, 10, "it to be online again")


async def test_a_narrow_screen_in_the_dark_and_every_field_has_a_label(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new(viewport={"width": 360, "height": 740}, color_scheme="dark")
    await tab.page.goto(f"{site.service.http}/client")
    assert tab.page.url == f"{site.service.http}/client/"
    await be_online(tab, "ann")
    assert await tab.page.evaluate(TOO_WIDE) == []
    assert await tab.page.evaluate(WITHOUT_LABEL) == 0
