"""Every page of the console, in both languages and both themes: axe finds nothing serious, nothing is too wide for a telephone.

The pages are those of the table in `gate.console.views`, so a new one is judged as soon as it is there. `QUERIES` has addresses
of pages that show something only with a query.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page as BrowserPage

from gate.console.views import OF_ALL, OF_APP, OPEN, Page
from tests.browser.conftest import Site, Tabs

AXE = Path(__file__).parent / "node" / "node_modules" / "axe-core" / "axe.min.js"
QUERIES = {
    "user": ["user=ada", "user=%FF%0A%3Cb%3E", "user=stranger", "match=a", "match=none-has-this"],
    "user/list": ["user=ada&kind=whitelist", "user=%FF%0A%3Cb%3E"],
    "user/dossier": ["user=ada"],
    "check": ["from=ada&to=bob", "from=" + "w" * 64 + "&to=b"],
}
OF_A_USER = ("user/list", "user/dossier")
"""Pages that need a query."""
JUDGED = """
    async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
        .filter(one => ["serious", "critical"].includes(one.impact))
        .map(one => one.id + ": " + one.help + " — " + one.nodes.slice(0, 3).map(node => node.html).join(" | "))
"""
TOO_WIDE = """
    document.scrollingElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
        .map(one => one.tagName + " " + one.className).slice(0, 5)
"""
NARROW, WIDE = {"width": 320, "height": 700}, {"width": 1_280, "height": 800}
TABLE = {"": OF_ALL, "app": OF_APP}
PAGES = [(of, page) for of, table in TABLE.items() for page in table.values() if page.show and not page.renewed]


def addresses(site: Site, of: str, page: Page) -> Iterator[str]:
    begin = f"{site.service.http}/console/{site.service.credentials.app_key + '/' if of else ''}{page.path}"
    if page.path not in OF_A_USER:
        yield begin
    yield from (f"{begin}?{query}" for query in QUERIES.get(page.path, []))


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("no axe: scripts/install-sdks installs it")
    return AXE.read_text()


async def judged(page: BrowserPage, axe: str) -> list[str]:
    """What axe and the width of a telephone find wrong with the page as it is shown now."""
    found: list[Any] = []
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        await page.evaluate(axe)
        found += [f"{theme}: {one}" for one in await page.evaluate(JUDGED)]
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    found += [f"320 px: {one}" for one in await page.evaluate(TOO_WIDE)]
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("of", "page"), PAGES, ids=[f"{of}/{page.path}" for of, page in PAGES])
async def test_a_page_is_accessible_and_fits(
    site: Site, tabs: Tabs, axe: str, of: str, page: Page, language: str
) -> None:
    site.lease()
    site.connect("ada", "iOS")
    tab = await tabs.new(viewport=WIDE)
    await tab.open("check")
    url = f"{site.service.http}/console/"
    await tab.context.add_cookies([{"name": "gate-console-language", "value": language, "url": url}])
    for address in addresses(site, of, page):
        answer = await tab.context.request.get(address)
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue  # a file to keep
        assert answer.status == 200, (address, answer.status)
        await tab.page.goto(address)
        assert await tab.page.locator("h1").count() == 1
        assert await judged(tab.page, axe) == [], address


@pytest.mark.parametrize("path", [page.path for page in OPEN.values() if page.show])
async def test_the_pages_before_a_sign_in_are_accessible_and_fit(site: Site, tabs: Tabs, axe: str, path: str) -> None:
    for locale in ("en", "zh-CN"):
        tab = await tabs.new(locale=locale)
        await tab.page.goto(f"{site.service.http}/console/{path}")
        assert await judged(tab.page, axe) == []
        assert await tab.page.get_attribute("html", "lang") == locale


async def test_a_page_that_asks_and_one_that_refuses_are_accessible_and_fit(site: Site, tabs: Tabs, axe: str) -> None:
    tab = await tabs.new()
    tab.expected = ["status of 404"]
    await tab.open("nothing-there")
    assert await judged(tab.page, axe) == []
