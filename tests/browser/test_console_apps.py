"""Apps, webhooks, the audit and operators as an operator uses them, in both languages, and by how many clicks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import expect

from gate.console.languages import LANGUAGES
from gate.store import keys
from harness.waiting import wait_until_async
from tests.browser.conftest import Site, Tab, Tabs
from tests.browser.test_every_page import axe, judged
from tests.webhooks.receiver import receiving

__all__ = ["axe"]
MOST_CLICKS = 4
_numbers = itertools.count(1)


class Reader(NamedTuple):
    """A tab of the first operator, who reads one language and counts clicks."""

    tab: Tab
    language: str
    clicks: list[str]

    def says(self, text: str, **values: object) -> str:
        """A text of the console in the language of the page."""
        return LANGUAGES[self.language].gettext(text, **values)

    async def click(self, role: str, text: str, **values: object) -> None:
        """One click on a link or a button with this name."""
        name = self.says(text, **values)
        self.clicks.append(name)
        await self.tab.page.get_by_role(role, name=name, exact=True).click()  # type: ignore[arg-type]

    async def fill(self, label: str, value: str) -> None:
        await self.tab.page.get_by_label(self.says(label), exact=True).fill(value)

    async def sees(self, text: str, **values: object) -> None:
        await expect(self.tab.page.locator("main")).to_contain_text(self.says(text, **values))


async def reader(tabs: Tabs, site: Site, language: str, *, scripts: bool = True) -> Reader:
    """On the overview of the App."""
    tab = await tabs.new(viewport={"width": 1_280, "height": 900}, java_script_enabled=scripts)
    await tab.open("online")
    url = f"{site.service.http}/console/"
    await tab.context.add_cookies([{"name": "gate-console-language", "value": language, "url": url}])
    await tab.page.reload()
    return Reader(tab, language, [])


def bury(site: Site, user: str) -> None:
    """A dead letter about this User, as delivery leaves it."""
    key = site.service.credentials.app_key
    hook = {"a": key, "u": user, "o": "AAAA-BBBB-CCCC-DDDD", "y": "1", "c": "0", "t": "1700000000000"}
    site.server.client.xadd(keys.dead_hooks(0), {"why": "it answered 503", "n": "9", **hook})  # type: ignore[dict-item]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_dead_letter_is_replayed_within_four_clicks(site: Site, tabs: Tabs, language: str) -> None:
    user = f"lost-{next(_numbers)}"
    async with receiving() as receiver:
        site.apps("PATCH", f"apps/{site.service.app_key}", {"webhook_url": receiver.url})
        bury(site, user)
        one = await reader(tabs, site, language)
        await one.click("link", "Webhooks")
        await one.sees("it answered %(status)s", status=503)
        await one.click("button", "Replay the result of %(user)s", user=user)
        await expect(one.tab.page.locator(".done")).to_be_visible()
        assert len(one.clicks) <= MOST_CLICKS
        await wait_until_async(lambda: receiver.callbacks, 20, "the result to be delivered")
        assert receiver.callbacks[0].form[b"userId"] == user.encode()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_test_call_shows_what_came_back(site: Site, tabs: Tabs, language: str) -> None:
    async with receiving() as receiver:
        receiver.statuses, receiver.text = [418], "<script>alert(1)</script>"
        site.apps("PATCH", f"apps/{site.service.app_key}", {"webhook_url": receiver.url})
        one = await reader(tabs, site, language)
        await one.click("link", "Webhooks")
        await one.click("button", "Send a test call")
        await one.sees("The answer begins:")
        await expect(one.tab.page.get_by_role("status")).to_contain_text("418")
        await expect(one.tab.page.locator("pre.answer")).to_have_text("<script>alert(1)</script>")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_key_is_added_and_rotated_within_four_clicks(site: Site, tabs: Tabs, language: str) -> None:
    name = f"router-{language}"
    one = await reader(tabs, site, language, scripts=False)
    await one.click("link", "Keys")
    await one.fill("Name", name)
    await one.click("button", "Add")
    first = await one.tab.page.inner_text("code.secret")
    await one.tab.open("online")
    one.clicks.clear()
    await one.click("link", "Keys")
    await one.click("button", "Rotate the secret of %(name)s", name=name)
    second = await one.tab.page.inner_text("code.secret")
    assert first != second and len(one.clicks) <= MOST_CLICKS
    assert second not in one.tab.page.url
    await one.click("link", "Continue")
    assert second not in await one.tab.page.content()
    await one.click("button", "Remove the key %(name)s", name=name)
    await one.click("button", "Remove")
    await one.sees("The key %(name)s is removed.", name=name)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_setting_is_changed_and_a_mistake_is_shown(site: Site, tabs: Tabs, language: str) -> None:
    one = await reader(tabs, site, language)
    await one.click("link", "Settings")
    field = one.tab.page.locator("#set-list_ceiling")
    one.tab.expected = ["status of 400"]
    await field.fill("0")
    await one.click("button", "Save")
    await one.sees("Nothing was saved. Correct the fields that are marked.")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_have_value("0")
    await field.fill(str(1_000 + next(_numbers)))
    await one.click("button", "Save")
    await one.sees("Saved: %(names)s.", names=one.says("List ceiling"))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_audit_is_filtered_and_downloaded(site: Site, tabs: Tabs, language: str, tmp_path: Path) -> None:
    user = f"eve-{language}"
    site.v1("POST", "bans", {"users": [user], "seconds": 60, "reason": "=1+1", "actor": "ops"})
    one = await reader(tabs, site, language)
    await one.tab.page.get_by_role("navigation").last.get_by_role("link", name=one.says("Audit"), exact=True).click()
    await one.fill("User's id", user)
    await one.click("button", "Show")
    await one.sees("Ban imposed")
    await expect(one.tab.page.locator("table.audit tbody tr")).to_have_count(1)
    for form, begin in (("NDJSON", '{"at":'), ("CSV", "at,what,user")):
        async with one.tab.page.expect_download() as downloading:
            await one.click("link", "Download as %(format)s", format=form)
        target = tmp_path / form
        await (await downloading.value).save_as(target)
        text = target.read_text()
        assert text.startswith(begin) and user in text
    assert "'=1+1" in text


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_operator_is_added_changes_its_password_and_is_removed(site: Site, tabs: Tabs, language: str) -> None:
    name = f"fay-{language}"
    one = await reader(tabs, site, language)
    await one.click("link", "Operators")
    await one.fill("Name", name)
    await one.click("button", "Add")
    password = await one.tab.page.inner_text("code.secret")

    other = await tabs.new(locale=LANGUAGES[language].tag)
    fay = Reader(other, language, [])
    await other.page.goto(f"{site.service.http}/console/password")
    await fay.fill("Operator", name)
    await fay.fill("Password", password)
    await fay.click("button", "Sign in")
    await other.page.goto(f"{site.service.http}/console/password")
    await fay.fill("Present password", password)
    await fay.fill("New password", "a new long password")
    await fay.fill("New password, once more", "a new long password")
    await fay.click("button", "Change the password")
    await fay.sees("Your password is changed, and your other sessions have ended.")

    await one.tab.page.goto(f"{site.service.http}/console/operators/one?name={name}")
    await one.click("button", "Remove the operator")
    await one.click("button", "Remove")
    await one.sees("The operator %(name)s is removed.", name=name)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_app_is_created(site: Site, tabs: Tabs, language: str) -> None:
    one = await reader(tabs, site, language)
    await one.tab.page.goto(f"{site.service.http}/console/new-app")
    await one.fill("Name", f"Shop {language}")
    await one.click("button", "Create the App")
    await one.sees("The App %(name)s is created", name=f"Shop {language}")
    assert len(await one.tab.page.inner_text("code.secret")) >= 20
    await one.click("link", "Continue")
    await expect(one.tab.page.locator("a.app")).to_contain_text(f"Shop {language}")


async def test_shadow_mode_is_seen_on_every_page_of_the_app(site: Site, tabs: Tabs) -> None:
    one = await reader(tabs, site, "en")
    await one.click("link", "Settings")
    await one.tab.page.locator("#set-shadow").select_option("yes")
    await one.click("button", "Save")
    await one.sees("In shadow mode nothing is enforced: every message is allowed, also those of banned Users.")
    await one.click("button", "Change")
    for path in ("online", "check", "audit"):
        await one.tab.open(path)
        await expect(one.tab.page.locator(".shadow")).to_contain_text("Shadow mode is on")
    await one.tab.page.locator(".shadow").get_by_role("link").click()
    await one.tab.page.locator("#set-shadow").select_option("no")
    await one.click("button", "Save")
    await one.click("button", "Change")
    await expect(one.tab.page.locator(".shadow")).to_have_count(0)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pages_with_much_on_them_are_accessible_and_fit(site: Site, tabs: Tabs, axe: str, language: str) -> None:
    user, name = "w" * 64, f"key-{language}"
    bury(site, user)
    site.v1("POST", "bans", {"users": [user], "seconds": 60, "reason": "r" * 300, "actor": "a" * 100})
    one = await reader(tabs, site, language)
    one.tab.expected = ["status of 400"]
    for path in ("webhooks", "audit"):
        await one.tab.open(path)
        await one.sees(user)
        assert await judged(one.tab.page, axe) == [], path
    await one.tab.open("webhooks")
    await one.click("button", "Delete all")
    assert await judged(one.tab.page, axe) == [], "a question"
    await one.click("button", "Delete")
    await one.tab.open("keys")
    await one.fill("Name", name)
    await one.click("button", "Add")
    assert await judged(one.tab.page, axe) == [], "a secret"
    await one.click("link", "Continue")
    assert await judged(one.tab.page, axe) == [], "keys"
    await one.tab.open("settings")
    await one.tab.page.locator("#set-list_ceiling").fill("0")
    await one.click("button", "Save")
    assert await judged(one.tab.page, axe) == [], "a mistake"
    operator = site.service.credentials.operator
    for address in (f"operators/one?name={operator}", "audit?from=yesterday"):
        await one.tab.page.goto(f"{site.service.http}/console/{address}")
        assert await judged(one.tab.page, axe) == [], address
