"""The page at `/docs` in a real Chromium: the vendored viewer works under its strict policy, and needs no other host."""

from __future__ import annotations

from playwright.async_api import expect

from gate.http.openapi import openapi_document
from tests.browser.conftest import Site, Tabs


async def test_every_endpoint_is_shown_and_can_be_read(site: Site, tabs: Tabs) -> None:
    tab = await tabs.new()
    await tab.page.goto(f"{site.service.http}/docs")
    operations = [one for methods in openapi_document()["paths"].values() for one in methods.values()]
    await expect(tab.page.locator(".opblock")).to_have_count(len(operations))
    await tab.page.locator("[id$=postV1Bans] button").first.click()
    await expect(tab.page.locator("[id$=postV1Bans]")).to_contain_text("Deactivated Users are named as skipped")
    assert await tab.page.get_by_role("button", name="Try it out").count() == 0
