"""The npm package in a real Chromium, against a real node: Tokens, kicks, a lost network, sleep, watched Users.

The module is the one that the page at `/client/` loads, which `tests/client_package` compares with the package's build.
"""

from __future__ import annotations

import os
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from gate.core import token
from gate.core.model import AppFacts
from gate.core.signature import signature_of
from harness.processes import kill_each
from harness.waiting import wait_until, wait_until_async
from tests.browser.conftest import Site, Tab, Tabs
from tests.browser.test_client_page import REFUSED_HANDSHAKE
from tests.service.running import kill, pid_of

SOON_S = 15.0
PROBE_MS = 3_000
CONNECT = """async (options) => {
  const { connect } = await import(new URL("gate-client.js", location.href).href);
  Object.assign(window, { states: [], wanted: [], shown: [], problems: [] });
  window.client = connect({
    ...options,
    url: new URL("../", location.href),
    getToken: (wanted) => { window.wanted.push(wanted); return window.mint(wanted); },
    onState: (state) => window.states.push(state),
    onProblem: (problem) => window.problems.push(problem.message),
  });
}"""
WATCH = "(users) => { window.unwatch = client.watch(users, (presence) => window.shown.push(...presence)); }"


class Module:
    """The package, at work in a tab; `ttl_s` is the life of the Tokens that it is given, 0 for no end."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page
        self.site = tab.site
        self.user = ""
        self.ttl_s = 0
        self.given = ""
        """A Token to give instead of a new one."""

    async def open(self) -> None:
        wait_until(lambda: answers(self.site), SOON_S, "the HTTP role to be there")
        await self.page.expose_function("mint", lambda wanted: self.given or self.mint())
        await self.page.goto(f"{self.site.service.http}/client/")

    def mint(self) -> str:
        known = self.site.service.credentials
        app = AppFacts(key=known.app_key, secrets=(known.app_secret,), token_ttl_s=self.ttl_s)
        return token.mint(app, self.user.encode(), time.time_ns() // 1_000_000, os.urandom(8))

    async def connect(self, user: str, **options: Any) -> None:
        self.user = user
        await self.page.evaluate(CONNECT, {"platform": "Web", **options})

    async def online(self, user: str, **options: Any) -> None:
        await self.connect(user, **options)
        await self.until_online()

    async def states(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.page.evaluate("states")
        return found

    async def until_online(self) -> None:
        async def is_online() -> bool:
            return (await self.states())[-1:] != [] and (await self.states())[-1]["name"] == "online"

        await wait_until_async(is_online, SOON_S, "it to be online")

    async def until_offline(self, reason: str, is_final: bool) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        async def is_offline() -> bool:
            found[:] = [one for one in await self.states() if one.get("reason") == reason]
            return found != [] and found[-1]["isFinal"] is is_final

        await wait_until_async(is_offline, SOON_S, f"it to be offline for {reason}")
        return found[-1]

    async def until_shown(self, user: str, online: bool) -> None:
        async def is_shown() -> bool:
            shown = [one for one in await self.page.evaluate("shown") if one["user"] == user]
            return shown != [] and shown[-1]["online"] is online

        await wait_until_async(is_shown, SOON_S, f"{user} to be shown as {'online' if online else 'offline'}")


@pytest_asyncio.fixture(loop_scope="module")
async def module(site: Site, tabs: Tabs) -> AsyncIterator[Module]:
    module = Module(await tabs.new())
    await module.open()
    yield module


async def test_online_with_the_token_in_no_address(site: Site, module: Module) -> None:
    addresses: list[str] = []
    module.page.on("websocket", lambda socket: addresses.append(socket.url))
    module.given = str(site.v1("POST", "tokens", {"user": "ann"})["token"])
    await module.online("ann")
    assert [one[b"platform"] for one in site.sessions("ann")] == [b"Web"]
    assert [one["name"] for one in await module.states()] == ["connecting", "online"]
    (address,) = addresses
    assert module.given not in address and address.endswith("/client/v1/connect?platform=Web")
    answer = await module.page.evaluate("client.ask({type: 'presence', users: ['ann']})")
    assert answer["presence"][0]["online"]
    await module.page.evaluate("client.close()")
    state = await module.until_offline("closed", True)
    assert state["reconnectMs"] is None


async def test_a_token_that_ends_is_replaced_on_the_open_connection(site: Site, module: Module) -> None:
    module.ttl_s = 4
    await module.online("ann")
    (session,) = site.sessions("ann")
    module.ttl_s = 600

    async def is_renewed() -> bool:
        return [one["why"] for one in await module.page.evaluate("wanted")] == ["connecting", "ending"]

    await wait_until_async(is_renewed, SOON_S, "a newer Token to be asked for")
    await module.page.evaluate("new Promise((done) => setTimeout(done, 1500))")  # past the first one's end
    answer = await module.page.evaluate("client.ask({type: 'presence', users: ['ann']})")
    assert answer["presence"][0]["online"]
    assert [one[b"session"] for one in site.sessions("ann")] == [session[b"session"]]
    assert await module.page.evaluate("problems") == []


async def test_a_refused_token_is_asked_for_again_and_the_same_one_is_final(module: Module) -> None:
    module.given = "gt1.AAAA"
    await module.connect("ann")
    state = await module.until_offline("token-malformed", True)
    assert "the Token that was refused" in state["message"]
    wanted = await module.page.evaluate("wanted")
    assert wanted == [{"why": "connecting"}, {"why": "refused", "refused": "token-malformed"}]


async def test_a_newer_token_after_a_refused_one_is_taken(module: Module) -> None:
    module.ttl_s = 1
    module.user = "ann"
    expired = module.mint()
    time.sleep(1.1)
    module.given, module.ttl_s = expired, 0
    await module.connect("ann")
    module.given = ""  # for the second time that one is asked for
    await module.until_online()
    assert [one.get("reason") for one in await module.states()] == [None, "token-expired", None, None]


async def test_a_kick_a_ban_and_a_deactivation_are_final(site: Site, module: Module) -> None:
    await module.online("joe")
    site.v1("POST", "users/joe/kick", {})
    await module.until_offline("kicked", True)
    await module.online("kim")
    site.v1("POST", "bans", {"users": ["kim"], "seconds": 600})
    state = await module.until_offline("banned", True)
    assert state["until"] > time.time() * 1_000
    await module.connect("kim")  # refused with the same word
    state = await module.until_offline("banned", True)
    assert state["until"] > time.time() * 1_000
    await module.online("lee")
    deactivate(site, "lee")
    await module.until_offline("deactivated", True)
    assert site.sessions("joe") == site.sessions("kim") == site.sessions("lee") == []


async def test_a_kick_is_not_final_if_the_app_says_so(site: Site, module: Module) -> None:
    await module.online("joe", returnsAfterKick=True)
    site.v1("POST", "users/joe/kick", {})
    await module.until_offline("kicked", False)
    await module.until_online()
    await module.page.evaluate("client.logout()")
    await module.until_offline("logout", True)


async def test_watched_users_also_after_a_reconnect(site: Site, module: Module) -> None:
    module.tab.expected += REFUSED_HANDSHAKE
    site.lease()
    await module.page.evaluate("window.shown = []")
    await module.online("ann")
    await module.page.evaluate(WATCH, ["bob", "<b>zoe</b>"])
    await module.until_shown("bob", False)
    session = site.connect("bob", "iOS")
    await module.until_shown("bob", True)
    await module.page.evaluate("shown.length = 0")
    kill(site.service, "http")
    await module.until_offline("broken", False)
    await module.until_online()
    await module.until_shown("bob", True)
    site.ask("GATE.DISCONNECT", session)
    await module.until_shown("bob", False)
    await module.page.evaluate("unwatch(); shown.length = 0")
    site.connect("bob", "iOS")
    await module.page.evaluate("client.ask({type: 'ping'})")
    assert await module.page.evaluate("shown") == []


async def test_back_at_once_when_the_network_is_back(site: Site, tabs: Tabs) -> None:
    """Timers stand still but for the time that the test lets pass: only the event `online` brings it back."""
    tab = await tabs.new()
    tab.expected += (*REFUSED_HANDSHAKE, "ERR_INTERNET_DISCONNECTED")
    await tab.page.clock.install()
    module = Module(tab)
    await module.open()
    await module.online("ann")
    await tab.context.set_offline(True)
    kill(site.service, "http")
    await module.until_offline("broken", False)
    for _ in range(40):  # the waits grow
        await tab.page.clock.run_for(1_000)
        state = (await module.states())[-1]
        if state["name"] == "offline" and state["reason"] == "unreachable" and state["reconnectMs"] > 3_000:
            break
    else:
        raise AssertionError(await module.states())
    wait_until(lambda: answers(site), SOON_S, "the HTTP role to be back")
    await tab.context.set_offline(False)
    await tab.page.clock.run_for(500)
    await module.until_online()


async def test_back_at_once_after_sleep(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new()
    tab.expected += REFUSED_HANDSHAKE
    await tab.page.clock.install()
    module = Module(tab)
    await module.open()
    await module.online("sue")
    http = pid_of(site.service, "http")
    assert http
    kill_each([http], signal.SIGSTOP)  # the connection is dead, and no frame shows it
    try:
        await tab.page.clock.fast_forward(600_000)
        await tab.page.clock.run_for(PROBE_MS)
        await module.until_offline("broken", False)
    finally:
        kill_each([http], signal.SIGCONT)
    for _ in range(10):
        await tab.page.clock.run_for(500)
        if (await module.states())[-1]["name"] != "offline":
            break
    await module.until_online()


def deactivate(site: Site, user: str) -> None:
    known, stamp = site.service.credentials, str(time.time_ns() // 1_000_000)
    signature = signature_of(known.app_secret, "1", stamp)
    headers = {"App-Key": known.app_key, "Nonce": "1", "Timestamp": stamp, "Signature": signature}
    form = urllib.parse.urlencode({"userId": user}).encode()
    request = urllib.request.Request(f"{site.service.http}/user/deactivate.json", form, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def answers(site: Site) -> bool:
    """Whether the HTTP role is back."""
    try:
        with urllib.request.urlopen(f"{site.service.http}/readyz", timeout=2):
            return True
    except OSError:
        return False
