"""The App's audit read whole and by a filter: one order over all Partitions, cursors, and bounded looks."""

from __future__ import annotations

import pytest

from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput
from gate.store.audit import AuditEntry
from gate.store.store import Store
from tests.store.touring import APP, FACTS

USERS = [b"u%d" % number for number in range(30)]


@pytest.fixture
async def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Thirty Bans by one actor and thirty Mutes by another, over all Partitions."""
    monkeypatch.setattr("gate.store.audit.READ_AHEAD", 3)
    await store.apps.create(FACTS, 1)
    await store.bans.impose(APP, USERS, FOREVER_MS, 1, "loud", "ann")
    await store.mutes.impose(APP, USERS, FOREVER_MS, 1, "quiet", "bob")
    return store


async def read_all(store: Store, from_ms: int = 0, to_ms: int = FOREVER_MS) -> list[AuditEntry]:
    return [entry async for batch in store.audit.batches(APP, from_ms=from_ms, to_ms=to_ms) for entry in batch]


async def test_batches_have_every_entry_in_the_order_of_pages(filled: Store) -> None:
    page, following = await filled.audit.page(APP, 1_000)
    assert following is None and len(page) == 61
    assert await read_all(filled) == page
    at = page[30].at_ms
    between = [entry for entry in page if at <= entry.at_ms < at + 1]
    assert await read_all(filled, from_ms=at, to_ms=at + 1) == between
    assert await read_all(filled, to_ms=0) == []


async def test_pages_of_what_matches_join(filled: Store) -> None:
    found: list[AuditEntry] = []
    cursor = None
    while True:
        page, cursor = await filled.audit.matching(APP, 7, lambda entry: entry.by == "ann", cursor=cursor)
        found += page
        if cursor is None:
            break
    assert [(entry.kind, entry.by) for entry in found] == [("ban-imposed", "ann")] * 30
    assert sorted(entry.user for entry in found) == sorted(USERS)


async def test_a_page_that_has_looked_at_enough_is_short(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.store.audit_order.MAX_FILTERED", 20)
    pages: list[int] = []
    cursor = None
    while not pages or cursor is not None:
        page, cursor = await filled.audit.matching(APP, 50, lambda entry: entry.user == b"u7", cursor=cursor)
        pages.append(len(page))
    assert (len(pages), sum(pages)) == (4, 2)


async def test_of_one_user_only_its_partition_is_read(filled: Store) -> None:
    page, following = await filled.audit.matching(APP, 50, lambda entry: entry.user == b"u7", user=b"u7")
    assert ([entry.kind for entry in page], following) == (["mute-imposed", "ban-imposed"], None)


async def test_a_wrong_cursor_is_refused(filled: Store) -> None:
    with pytest.raises(InvalidInput):
        await filled.audit.matching(APP, 5, lambda _: True, cursor="x")


async def test_the_deployments_audit_is_filtered_alike(filled: Store) -> None:
    for number in range(8):
        await filled.apps.update(APP, lambda facts: facts, 2, f"change {number}", "ann" if number % 2 else "bob")
    found, cursor = [], None
    while True:
        page, cursor = await filled.audit.deployment_matching(2, lambda entry: entry.by == "ann", cursor=cursor)
        found += [entry.why for entry in page]
        if cursor is None:
            break
    assert found == ["change 7", "change 5", "change 3", "change 1"]
