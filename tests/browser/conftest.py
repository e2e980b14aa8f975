"""A node with a Redis of its own, and a Chromium to look at it with: one of each a module, a fresh profile for each test.

Chromium is Debian's (`scripts/install-test-tools`), never one that playwright would fetch. A tab fails its test afterwards if
it asked any other host for anything, or if a page complained: an error of a script, or what the page's own policy forbids.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import redis
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from harness.servers import RedisServer
from harness.service import GateService, Services

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox",  # which root has not, as in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 10_000
expect.set_options(timeout=PATIENCE_MS)
_epochs = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module's Chromium lives on the module's loop, so its tests run there."""
    for item in items:
        if "tabs" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


class Site(NamedTuple):
    """The node, and the Redis that it uses."""

    service: GateService
    server: RedisServer
    resp: redis.Redis

    @property
    def app_url(self) -> str:
        """Where the pages of the first App begin."""
        return f"{self.service.http}/console/{self.service.app_key}"

    def lease(self, gateway: str = "edge-1") -> None:
        """Take it at the next epoch: that of another test may have ended."""
        self.ask("GATE.LEASE", gateway, next(_epochs))

    def connect(self, user: str, platform: str, gateway: str = "edge-1") -> str:
        """A new Session's id."""
        session: bytes = self.ask("GATE.CONNECT", self._token(user), platform, gateway, "203.0.113.7")
        return session.decode()

    def sessions(self, user: str) -> list[Any]:
        """A User's Sessions, as the router gets them."""
        found: list[Any] = self.ask("GATE.SESSIONS", user)
        return found

    def ask(self, *command: str | int) -> Any:
        """One command to the RESP port, as the first App."""
        return self.resp.execute_command(*command)

    def _token(self, user: str) -> str:
        return str(self.v1("POST", "tokens", {"user": user})["token"])

    def v1(self, method: str, path: str, body: Any) -> Any:
        """A call of `/v1`, as the first App."""
        return call(self.service, method, path, body)

    def apps(self, method: str, path: str, body: Any) -> Any:
        """A call of `/v1/apps`, as the first operator."""
        known = self.service.credentials
        return call(self.service, method, path, body, f"{known.operator}:{known.operator_password}")


def call(service: GateService, method: str, path: str, body: Any, user: str = "") -> Any:
    """What `/v1` answers the first App, or a `name:password`."""
    import base64
    import json
    import urllib.request

    known = service.credentials
    pair = base64.b64encode((user or f"{known.app_key}:{known.app_secret}").encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{service.http}/v1/{path}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Tab:
    """One tab of a fresh profile, and what was seen of it."""

    def __init__(self, context: BrowserContext, page: Page, site: Site) -> None:
        self.context = context
        self.page = page
        self.site = site
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.expected: list[str] = []
        """Parts of complaints that are in order: a browser complains of every status from 400 on."""
        page.on("console", self._heard)
        page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        page.on("request", self._asked)

    async def sign_in(self, password: str | None = None) -> None:
        """As the first operator, by the form that is shown."""
        known = self.site.service.credentials
        await self.page.get_by_label("Operator").fill(known.operator)
        await self.page.get_by_label("Password").fill(password or known.operator_password)
        await self.page.get_by_role("button", name="Sign in").click()

    async def open(self, page: str) -> None:
        """A page of the App, signed in."""
        await self.page.goto(f"{self.site.app_url}/{page}")
        if "/sign-in" in self.page.url:
            await self.sign_in()
            await self.page.wait_for_url(f"{self.site.app_url}/**")

    async def text(self) -> str:
        """What a person reads."""
        return await self.page.inner_text("body")

    def assert_clean(self) -> None:
        assert self.elsewhere == []
        assert [one for one in self.complaints if not any(part in one for part in self.expected)] == []

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(f"{self.site.service.http}/"):
            self.elsewhere.append(request.url)


class Tabs:
    """Opens them."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser = browser
        self._site = site
        self._opened: list[Tab] = []

    async def new(self, **options: Any) -> Tab:
        """In a profile of its own; `options` are the context's."""
        context = await self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        self._opened.append(Tab(context, await context.new_page(), self._site))
        return self._opened[-1]

    async def close_all(self) -> None:
        for tab in self._opened:
            await tab.context.close()
        for tab in self._opened:
            tab.assert_clean()


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: scripts/install-test-tools installs Debian's package chromium")
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("browser"))
    service = start_module_service.start(redis_url=server.url)
    resp = service.resp_client()
    yield Site(service, server, resp)
    resp.close()
    service.stop()
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(site: Site) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(chromium: Browser, site: Site) -> AsyncIterator[Tabs]:
    opened = Tabs(chromium, site)
    yield opened
    await opened.close_all()
