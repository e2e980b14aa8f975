"""The tables of Users, Bans, Mutes and deactivated Users: search to the end, pages, and acts on one or many."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gate.console import user_search
from gate.core.model import FOREVER_MS
from gate.errors import ReplicaMissing
from gate.replica.id_search import IdsFound, ids_holding
from gate.replica.reading import Reading
from gate.store import user_search as store_search
from gate.store.users import Registration
from tests.console.conftest import Place
from tests.console.visitor import Shown, Visitor
from tests.http.world import now_ms

NAMES = ("Anna Smith", "王芳", "Bob")


async def register(place: Place, users: list[bytes]) -> None:
    rows = [Registration(user, 1_000 + at, NAMES[at % 3]) for at, user in enumerate(users)]
    written = await place.world.store.users.register_all(place.world.app.key, rows, now_ms())
    assert await place.world.node.acks.wait(written, 5_000) == "all"


def following(shown: Shown) -> str | None:
    found = re.findall(r'rel="next" href="([^"]+)"', shown.page)
    return found[0].replace("&amp;", "&") if found else None


async def all_pages(visitor: Visitor, target: str) -> tuple[list[str], list[Shown]]:
    """The ids of the rows of all pages, and the pages."""
    found: list[str] = []
    pages = [await visitor.app(target)]
    while True:
        table = pages[-1].page.partition("<tbody>")[2].partition("</tbody>")[0]
        found += re.findall(r'<th scope="row"><a class="id" href="[^"]+">([^<]+)</a>', table)
        place = following(pages[-1])
        assert len(pages) < 100, pages[-1].text
        if place is None:
            return found, pages
        pages.append(await visitor.get(place))


async def test_all_users_are_paged_newest_first(place: Place) -> None:
    visitor = await place.visitor("viewer")
    assert "No User is registered." in (await visitor.app("user")).text
    await register(place, [b"u%03d" % number for number in range(120)])
    found, pages = await all_pages(visitor, "user")
    assert found == [f"u{number:03}" for number in reversed(range(120))] and len(pages) == 3
    assert "120 registered Users, the newest first." in pages[0].text and "First page" in pages[2].text


@pytest.mark.parametrize("page_ms", [10_000, 0])
async def test_a_search_followed_to_its_end_finds_each_match_once(
    place: Place, page_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_search, "PAGE_MS", page_ms)
    monkeypatch.setattr(user_search, "SLICE_MS", 0)
    monkeypatch.setattr(store_search, "LOOKED_AT_A_STEP", 40)
    visitor = await place.visitor("viewer")
    users = [b"u%03d" % number for number in range(150)]
    await register(place, users)
    await place.world.store.bans.impose(place.world.app.key, [b"xu01"], FOREVER_MS, now_ms())
    written = await place.world.store.bans.impose(place.world.app.key, [b"U01"], FOREVER_MS, now_ms())
    assert await place.world.node.acks.wait(written, 5_000) == "all"
    found, pages = await all_pages(visitor, "user?match=u01")
    assert found == [*(f"u01{digit}" for digit in range(10)), "U01", "xu01"]
    assert "All Users were looked at." in pages[-1].text
    if page_ms == 0:
        assert (
            len(pages) > 3 and "were looked at so far." in pages[0].text and 'data-goes-on="/console/' in pages[0].page
        )
    named, _ = await all_pages(visitor, "user?match=%E7%8E%8B")
    assert sorted(named) == [user.decode() for user in users[1::3]]
    nothing, pages = await all_pages(visitor, "user?match=nothing")
    assert nothing == [] and "No User's id or name holds this." in pages[-1].text


async def test_many_searches_hold_the_process_as_long_as_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_search, "SLICE_MS", 0)
    await register(place, [b"u%04d" % number for number in range(1_000)])
    slices, most = 0, 0

    def counted(*asked: Any) -> IdsFound:
        nonlocal slices
        slices += 1
        return ids_holding(*asked)

    monkeypatch.setattr(user_search, "ids_holding", counted)
    searching = [
        asyncio.create_task(user_search.matching_users(place.world.deps, place.world.app.key, "nothing", None, 50))
        for _ in range(20)
    ]
    while not all(one.done() for one in searching):
        before = slices
        await asyncio.sleep(0)
        most = max(most, slices - before)
    assert (slices >= 20, most) == (True, 1)


async def test_the_exact_id_can_always_be_opened(place: Place) -> None:
    visitor = await place.visitor("viewer")
    shown = await visitor.app("user?match=who%26")
    assert "The User with exactly this id: who&" in shown.text and "user?user=who%26" in shown.page
    wrong = await visitor.app("user?user=%25&user_as=base64")
    assert (wrong.status, "is not base64" in wrong.text) == (400, True)


@pytest.mark.parametrize("target", ["user", "bans", "mutes", "deactivated"])
async def test_a_wrong_part_or_place_says_so(place: Place, target: str) -> None:
    visitor = await place.visitor("viewer")
    for query, problem in (
        (f"match={'x' * 257}", "must be at most 256 bytes"),
        ("token=x", "begin at the first page"),
        ("match=x&token=x", "begin at the first page"),
        ("match=x&token=lQMBAQHEAA", "begin at the first page"),
    ):
        shown = await visitor.app(f"{target}?{query}")
        assert (shown.status, problem in shown.text) == (400, True), query


async def test_with_redis_away_ids_are_found_and_lists_say_so(place: Place) -> None:
    visitor = await place.visitor("viewer")
    await register(place, [b"ann", b"xann"])
    await visitor.app("user")
    async with place.redis_away():
        shown = await visitor.app("user?match=ann")
        assert (shown.status, "Ids were searched" in shown.text) == (200, True)
        assert re.findall(r'<th scope="row"><a class="id" href="[^"]+">([^<]+)</a>', shown.page) == ["ann", "xann"]
        for target in ("user", "bans", "mutes", "deactivated", "bans?match=a", "deactivated?match=a"):
            shown = await visitor.app(target)
            assert (shown.status, "Redis can not be reached" in shown.text) == (200, True), target


async def test_without_a_replica_redis_finds_ids_and_names(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await register(place, [b"ann", b"bob", b"cy"])
    visitor = await place.visitor("viewer")

    def missing(*_: object) -> None:
        raise ReplicaMissing("no Replica")

    monkeypatch.setattr(user_search, "app_of", missing)
    for part, users in (("ann", ["ann"]), ("bob", ["bob", "cy"])):  # one by its id, one by its name
        found, _ = await all_pages(visitor, f"user?match={part}")
        assert sorted(found) == users


@pytest.mark.parametrize(("penalty", "word"), [("ban", "sender-banned"), ("mute", "sender-muted")])
async def test_many_are_restrained_listed_searched_and_lifted(place: Place, penalty: str, word: str) -> None:
    visitor, world = await place.visitor(), place.world
    target = f"/console/{world.app.key}/{penalty}s"
    token = (await visitor.get(target)).form_token
    await world.store.deactivation.deactivate(world.app.key, [b"gone"], now_ms())
    users = "\n".join(["gone", *(f"u{number:03}" for number in range(70))])
    form: dict[str, str | bytes] = {"form_token": token, "users": users, "ends": "3600", "reason": "raid"}
    asked = await visitor.post(target, form)
    assert (asked.status, "71 Users?" in asked.text, "and 61 more" in asked.text) == (200, True, True)
    assert await world.word("u001", "bob") == "allowed"
    done = await visitor.post(target, {"form_token": token, **visitor.hidden(asked)})
    shown = await visitor.get(done.place)
    assert "70 Users are" in shown.text and "1 deactivated User was left out." in shown.text
    assert "raid operator-" in shown.text and "70 in force" in shown.text and "data-until=" in shown.page
    assert await world.word("u001", "bob") == word
    found, pages = await all_pages(visitor, f"{penalty}s")
    assert sorted(found) == [f"u{number:03}" for number in range(70)] and len(pages) == 2
    found, pages = await all_pages(visitor, f"{penalty}s?match=u01")
    assert sorted(found) == [f"u01{digit}" for digit in range(10)]
    lift = re.findall(r'name="id" value="([^"]+)"', pages[0].page)[0]
    asked = await visitor.post(target, {"form_token": token, "id": lift, "reason": "a mistake"})
    assert "1 User?" in asked.text and "at once" in asked.text
    done = await visitor.post(target, {"form_token": token, **visitor.hidden(asked)})
    assert "is lifted." in (await visitor.get(done.place)).text
    entries, _ = await world.store.audit.page(world.app.key, 1)
    assert (entries[0].kind, entries[0].by, entries[0].why) == (f"{penalty}-lifted", visitor.name, "a mistake")


async def test_an_exact_id_is_found_among_bans_before_all_are_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_search, "PAGE_MS", 0)
    monkeypatch.setattr(store_search, "LOOKED_AT_A_STEP", 1)
    users = [b"u%03d" % number for number in range(20)]
    await place.world.store.bans.impose(place.world.app.key, users, FOREVER_MS, now_ms())
    await place.world.store.bans.impose(place.world.app.key, [b"over"], now_ms() - 1, now_ms())
    visitor = await place.visitor("viewer")
    first = await visitor.app("bans?match=u007")
    assert ">u007</a>" in first.page and following(first) is not None
    assert "None of those looked at so far matches." in (await visitor.app("bans?match=over")).text


@pytest.mark.parametrize("target", ["bans", "mutes", "deactivated"])
async def test_a_wrong_form_stays_filled_and_a_viewer_has_none(place: Place, target: str) -> None:
    visitor, viewer = await place.visitor(), await place.visitor("viewer")
    place_ = f"/console/{place.world.app.key}/{target}"
    token = (await visitor.get(place_)).form_token
    many = "\n".join(f"u{number}" for number in range(501))
    for fields, problem in (
        ({"users": many}, "at most 500 ids"),
        ({"users": "x" * 65}, "1 to 64 bytes"),
        ({"id": "!"}, "base64"),
    ):
        sent = await visitor.post(place_, {"form_token": token, "reason": "why <b>", **fields})
        assert (sent.status, problem in sent.text) == (400, True), fields
        assert "users" not in fields or ("why &lt;b&gt;" in sent.page and fields["users"] in sent.page)
    shown = await viewer.get(place_)
    assert "<textarea" not in shown.page and 'name="reason"' not in shown.page
    sent = await viewer.post(place_, {"form_token": shown.form_token, "users": "ann", "confirmed": "yes"})
    assert sent.status == 403


async def test_users_are_deactivated_and_reactivated_by_many(place: Place) -> None:
    visitor, world = await place.visitor(), place.world
    target = f"/console/{world.app.key}/deactivated"
    token = (await visitor.get(target)).form_token
    asked = await visitor.post(target, {"form_token": token, "users": "ann\nbob", "reason": "left"})
    assert "Deactivate 2 Users?" in asked.text and "Nothing brings them back." in asked.text
    done = await visitor.post(target, {"form_token": token, **visitor.hidden(asked)})
    shown = await visitor.get(done.place)
    assert "2 Users are deactivated." in shown.text and await world.word("ann", "cy") == "sender-deactivated"
    found, pages = await all_pages(visitor, "deactivated?match=AN")
    assert found == ["ann"]
    value = re.findall(r'name="id" value="([^"]+)"', pages[0].page)[0]
    sent = await visitor.post(target, {"form_token": token, "id": value, "confirmed": "yes"})
    assert (sent.status, "can be reactivated from 20" in sent.text) == (400, True)


async def test_a_bracket_of_the_replica_is_a_slice(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between slices other requests have their turn: no bracket of the Replica is open across an `await`."""
    monkeypatch.setattr(user_search, "SLICE_MS", 0)
    await register(place, [b"u%04d" % number for number in range(600)])
    brackets: list[int] = []
    entered = Reading.__enter__

    def counted(self: Reading) -> Reading:
        brackets.append(1)
        return entered(self)

    monkeypatch.setattr(Reading, "__enter__", counted)
    visitor = await place.visitor("viewer")
    await visitor.app("user?match=nothing")
    assert len(brackets) >= 600 // 256 + 2
