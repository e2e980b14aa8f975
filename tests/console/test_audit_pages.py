"""The pages of the audit: filters, pages, words in both languages, and files that no spreadsheet takes for formulas."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
from typing import Any

import msgspec
import pytest

from gate.core.model import FOREVER_MS, ListKind
from gate.store.audit import Audit
from gate.store.writer import ORIGIN, Origin
from harness.waiting import wait_until_async
from tests.console.conftest import Place
from tests.console.visitor import Visitor
from tests.http.world import now_ms

FORMULA = '=HYPERLINK("http://evil.example","x")'


async def fill(place: Place) -> None:
    """Some entries of the test's App."""
    store, key = place.world.store, place.world.app.key
    ORIGIN.set(Origin("operator", "ada", "request-1", "192.0.2.7"))
    await store.bans.impose(key, [b"eve", b"=1+1"], FOREVER_MS, 1, "spam", "ada")
    await store.mutes.impose(key, [b"bob"], FOREVER_MS, 1, FORMULA, "ben")
    await store.lists.switch(key, [b"bob"], True, 1, "", "ben")


async def shown(place: Place, query: str = "", role: str = "viewer") -> str:
    visitor = await place.visitor(role)  # type: ignore[arg-type]
    answer = await visitor.app(f"audit{query}")
    assert answer.status == 200, answer.text
    return answer.text


async def test_entries_are_shown_in_both_languages(place: Place) -> None:
    await fill(place)
    visitor = await place.visitor("viewer")
    english = (await visitor.app("audit")).text
    for text in ("Ban imposed", "without end", "eve", "spam", "operator ada", "192.0.2.7", "Whitelist switched bob on"):
        assert text in english, text
    assert "operator ada, for ben" in english
    visitor.cookies["gate-console-language"] = "zh"
    chinese = (await visitor.app("audit")).text
    assert "操作员 ada，代表 ben" in chinese and "Ban imposed" not in chinese


@pytest.mark.parametrize(
    ("query", "there", "absent"),
    [
        ("?user=bob", ["Mute imposed 2", "Whitelist switched 2"], ["spam"]),
        ("?what=mute-imposed", ["HYPERLINK"], ["spam"]),
        ("?by=BEN", ["HYPERLINK"], ["spam"]),
        ("?by=ad", ["HYPERLINK", "spam"], []),
        ("?to=2001-01-01T00:00", ["No entry."], ["spam"]),
        ("?from=2001-01-01T00:00Z", ["spam"], []),
        ("?what=nonsense", ["spam"], []),
    ],
)
async def test_filters_leave_out_what_does_not_match(
    place: Place, query: str, there: list[str], absent: list[str]
) -> None:
    await fill(place)
    text = await shown(place, query)
    rows = text.partition("Done by Reason")[2] or text
    assert all(one.removesuffix(" 2") in rows for one in there), rows
    assert not any(one in rows for one in absent), rows


async def test_filtered_pages_are_read_one_after_the_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most, matching = 0, 0, Audit.matching

    async def watched(*asked: Any, **filtered: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await matching(*asked, **filtered)
        finally:
            under_way -= 1

    monkeypatch.setattr(Audit, "matching", watched)
    await fill(place)
    visitor = await place.visitor("viewer")
    shown = await asyncio.gather(*(visitor.app("audit?by=ada") for _ in range(10)))
    assert ({one.status for one in shown}, most) == ({200}, 1)


async def test_a_wrong_filter_is_marked_and_kept(place: Place) -> None:
    visitor = await place.visitor("viewer")
    wrong = await visitor.app("audit?from=yesterday&by=ada&user=%21&user_as=base64")
    assert wrong.status == 400
    assert "must be a moment in UTC" in wrong.text and "is not base64" in wrong.text
    assert 'value="ada"' in wrong.page and 'value="yesterday"' in wrong.page
    assert (await visitor.app("audit?cursor=x")).status == 400
    assert (await visitor.app("audit/export?format=csv&from=yesterday")).status == 400
    assert (await visitor.app("audit/export?format=xls")).status == 400


async def test_pages_follow_by_links(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.console.views.audit.PAGE_ROWS", 2)
    await fill(place)
    visitor = await place.visitor("viewer")
    target, seen = "audit?by=a", 0
    for _ in range(5):
        page = await visitor.app(target)
        seen += page.page.count('<th scope="row">')
        following = page.page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        if not following:
            break
        target = following.rpartition("/")[2]
    assert seen == 4 and "First page" in page.text


async def test_a_file_has_what_the_filter_shows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.store.audit.READ_AHEAD", 2)
    await fill(place)
    visitor = await place.visitor("viewer")
    answer = await visitor.app("audit/export?format=ndjson&by=ada")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="gate-audit-{place.world.app.key}.ndjson"'
    assert answer.headers["Cache-Control"] == "no-store" and "default-src 'none'" in str(answer.headers)
    lines = [json.loads(line) for line in answer.page.splitlines()]
    assert {line["what"] for line in lines} == {"ban-imposed", "mute-imposed", "whitelist-switched"}
    assert lines == (await place.world.v1("GET", "audit?count=9")).body["entries"][: len(lines)]


async def test_no_cell_of_a_csv_is_a_formula(place: Place) -> None:
    await fill(place)
    for blank in ("\n", " \t"):
        await place.world.store.mutes.impose(place.world.app.key, [b"bob"], FOREVER_MS, 1, f"{blank}{FORMULA}", "ben")
    visitor = await place.visitor("viewer")
    answer = await visitor.app("audit/export?format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.page, newline="")))
    assert len(rows) == 7
    assert {row["user"] for row in rows} == {"eve", "'=1+1", "bob", ""}
    assert f"'{FORMULA}" in {row["reason"] for row in rows}
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert rows[0]["by"] == "operator" and rows[0]["by_name"] == "ada"


async def test_the_deployments_audit_is_for_operators_of_all_apps(place: Place) -> None:
    visitor = await place.visitor("viewer")
    text = (await visitor.get("/console/audit?what=operator-added")).text
    assert "operator added" in text and visitor.name in text
    lines = (await visitor.get("/console/audit/export?format=ndjson&what=operator-added")).page.splitlines()
    assert visitor.name in {json.loads(line)["about"] for line in lines}
    await place.world.store.operators.change(
        visitor.name, lambda one: msgspec.structs.replace(one, apps=(place.world.app.key,))
    )
    limited = Visitor(place.world, visitor.name)
    await limited.sign_in()
    for target in ("/console/audit", "/console/audit/export?format=csv"):
        assert (await limited.get(target)).status == 403


async def test_sign_ins_at_the_form_are_in_the_deployments_audit(place: Place) -> None:
    visitor = await place.visitor("viewer")
    await Visitor(place.world, visitor.name).sign_in("wrong")
    query = f"/console/audit/export?format=ndjson&by={visitor.name}"
    signed_in = await visitor.get(query)
    (line,) = [json.loads(line) for line in signed_in.page.splitlines() if "operator-signed-in" in line]
    assert (line["about"], line["changed"], line["by"]["kind"]) == (visitor.name, {"surface": "console"}, "operator")
    refused = (await visitor.get("/console/audit/export?format=ndjson&what=operator-refused")).page
    assert visitor.name in {json.loads(line)["about"] for line in refused.splitlines()}


async def test_redis_away_is_said_before_a_file_begins(place: Place) -> None:
    visitor = await place.visitor("viewer")
    await visitor.app("audit")
    async with place.redis_away():
        assert "Redis can not be reached" in (await visitor.app("audit")).text
        assert (await visitor.app("audit/export?format=csv")).status == 503


async def test_so_many_files_are_made_at_the_same_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def locked(self) -> bool:
            return True

    monkeypatch.setattr("gate.console.views.audit._under_way", Full())
    refused = await (await place.visitor("viewer")).app("audit/export?format=csv")
    assert refused.status == 503


async def test_who_does_not_read_a_file_makes_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.console.views.audit._under_way", asyncio.Semaphore(1))
    monkeypatch.setattr("gate.console.views.audit.WRITE_S", 2.0)
    world, visitor = place.world, await place.visitor("viewer")
    members = [b"%064d" % number for number in range(500)]
    for number in range(300):
        await world.store.lists.add(
            world.app.key, ListKind.BLACKLIST, b"ann%d" % number, members, FOREVER_MS, now_ms(), None
        )
    head = f"GET /console/{world.app.key}/audit/export HTTP/1.1\r\nHost: gate\r\nCookie: {visitor.cookie}\r\n\r\n"
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        silent.connect((world.server.host, world.server.port))
        silent.sendall(head.encode())
        # Its file is under way; nothing more of it is read.
        assert await asyncio.to_thread(silent.recv, 12) == b"HTTP/1.1 200"

        async def refused() -> bool:
            return (await visitor.app("audit/export?to=2001-01-01T00:00")).status == 503

        async def made() -> bool:
            return not await refused()

        await wait_until_async(refused, 10, "the file to be under way")
        await wait_until_async(made, 10, "the silent reader to make room")
