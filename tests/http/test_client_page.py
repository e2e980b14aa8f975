"""The files of the page at `/client/`, as any program gets them; tests/browser has the page at work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gate.core.closing import ENDINGS, REFUSALS
from gate.http.client import page
from tests.http.world import World

TYPES = {
    "": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "gate-client.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml; charset=utf-8",
}
FOLDER = Path(page.__file__).parent


@pytest.mark.parametrize("name", TYPES)
async def test_a_file_may_load_its_own_kind_and_nothing_else(world: World, name: str) -> None:
    async with world.session.get(f"{world.url}/client/{name}") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, TYPES[name])
        assert await answer.read() == (FOLDER / (name or "index.html")).read_bytes()
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "*" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_without_its_slash_it_leads_to_itself_below_any_path(world: World) -> None:
    async with world.session.get(f"{world.url}/client", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, "client/")


async def test_it_is_read_only_and_all_there_is(world: World) -> None:
    assert (await world.send("POST", "/client/")).status == 405
    for path in ("/client/__init__.py", "/client/../app.py", "/client/index.html", "/client/page.js/"):
        assert (await world.send("GET", path)).status == 404


def test_its_client_reads_a_code_without_a_message_as_it_is_meant() -> None:
    table = (FOLDER / "gate-client.js").read_text().split("const ENDINGS = {")[1].split("};")[0]
    read = {
        int(code): (reason, back == "true") for code, reason, back in re.findall(r'(\d+): \["(.*?)", (\w+)\]', table)
    }
    # Of RFC 6455; and the code of refusals of which several words have one.
    others = {1002: ("malformed", False), 1007: ("malformed", False), 1009: ("too-long", False)}
    others |= {1013: ("unavailable", True), 4400: ("unauthorized", False)}
    assert {code for code, _ in REFUSALS.values()} <= read.keys()
    assert read == others | {one.code: (reason, one.comes_back) for reason, one in ENDINGS.items()}


def test_the_page_names_no_other_host_and_runs_nothing_that_stands_in_it() -> None:
    text = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|//", text) == []
    for name in ("page.js", "gate-client.js"):
        assert (
            re.findall(r"innerHTML|insertAdjacent|document\.write|eval\(|Storage|cookie", (FOLDER / name).read_text())
            == []
        )
