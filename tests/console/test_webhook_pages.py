"""The page of webhooks: state of the queue, dead letters replayed and deleted, test calls, and what the audit has of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.console.conftest import Place
from tests.console.visitor import Visitor, begin_operator
from tests.webhooks.receiver import receiving

PROBLEM = "it answered 503"


async def bury(place: Place, *users: bytes) -> list[str]:
    """Dead letters about these Users; their ids."""
    world = place.world
    await world.store.deactivation.reactivate(world.app.key, list(users), 1, 0)
    while hooks := await world.store.webhooks.take("node", 50, [0]):
        for hook in hooks:
            await world.store.webhooks.bury(hook, PROBLEM)
    return [dead.id for dead in await world.store.webhooks.dead(world.app.key)]


async def entries(place: Place, visitor: Visitor) -> list[tuple[str, object, str]]:
    page = await visitor.app("audit/export?format=ndjson")
    lines = [json.loads(line) for line in page.page.splitlines()]
    found = [(one["what"], one.get("letters"), one["reason"]) for one in lines if one["what"].startswith("webhook")]
    assert all(one["by"]["name"] == visitor.name for one in lines if one["what"].startswith("webhook"))
    return found


async def test_one_dead_letter_is_replayed_at_once(place: Place) -> None:
    ids = await bury(place, b"eve", b"bob")
    visitor = await place.visitor("operator")
    page = await visitor.app("webhooks")
    assert "it answered 503" in page.text and "eve" in page.text and "reactivation" in page.text
    assert "given up" in page.text, "the last outcome"
    sent = await visitor.act("webhooks/replay", {"id": ids[0], "reason": "fixed"})
    assert "1 result is on its way again." in (await visitor.get(sent.place)).text
    assert len(await place.world.store.webhooks.dead(place.world.app.key)) == 1
    assert await entries(place, visitor) == [("webhooks-replayed", 1, "fixed")]
    assert (await place.world.store.webhooks.state(place.world.app.key)).waiting == 1


async def test_all_are_replayed_in_steps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.store.dead_letters.LETTERS_A_STEP", 2)
    await bury(place, *(b"u%d" % number for number in range(7)))
    visitor = await place.visitor("operator")
    sent = await visitor.act("webhooks/replay", {"all": "yes"})
    assert "7 results are on their way again." in (await visitor.get(sent.place)).text
    assert await place.world.store.webhooks.dead(place.world.app.key) == []
    assert await entries(place, visitor) == [("webhooks-replayed", 7, "")]


async def test_deleting_asks_first_and_names_the_user(place: Place) -> None:
    ids = await bury(place, b"eve")
    visitor = await place.visitor("operator")
    asks = await visitor.act("webhooks/drop", {"id": ids[0]})
    assert "about eve (reactivation" in asks.text and "There is no way back" in asks.text
    assert len(await place.world.store.webhooks.dead(place.world.app.key)) == 1
    sent = await visitor.confirmed(f"/console/{place.world.app.key}/webhooks/drop", asks)
    assert "1 dead letter is deleted." in (await visitor.get(sent.place)).text
    assert await place.world.store.webhooks.dead(place.world.app.key) == []
    assert await entries(place, visitor) == [("webhooks-dropped", 1, "")]
    gone = await visitor.act("webhooks/drop", {"id": ids[0]})
    assert "no such dead letter" in (await visitor.get(gone.place)).text


async def test_another_apps_dead_letters_stay(place: Place) -> None:
    ids = await bury(place, b"eve")
    of_first = place.world.app.key
    await place.world.begin_app()
    visitor = await place.visitor("operator")
    sent = await visitor.act("webhooks/replay", {"id": ids})
    assert "0 results" in (await visitor.get(sent.place)).text
    assert len(await place.world.store.webhooks.dead(of_first)) == 1
    for wrong in ("x", "9:1-1"):
        assert (await visitor.act("webhooks/replay", {"id": wrong})).status == 400
    assert (await visitor.act("webhooks/replay", {})).status == 400
    # What was refused did not happen, so the audit has the one act that found nothing of this App.
    assert await entries(place, visitor) == [("webhooks-replayed", 0, "")]


async def test_a_test_call_shows_status_time_and_the_answers_begin(place: Place) -> None:
    async with receiving() as receiver:
        await place.world.set_app(msgspec.structs.replace(place.world.app, webhook_url=receiver.url))
        receiver.statuses, receiver.text = [202], "<b>taken</b>"
        visitor = await place.visitor("admin")
        shown = await visitor.act("webhooks/try", {"webhook": "results"})
        assert (shown.status, len(receiver.callbacks)) == (200, 1)
        assert "It answered 202 after" in shown.text and "<b>taken</b>" in shown.text
        assert "&lt;b&gt;taken" in shown.page
        # From an address of this machine, an operator who is no admin sees the status only.
        operator = await place.visitor("operator")
        shown = await operator.act("webhooks/try", {"webhook": "results"})
        assert "It answered 202" in shown.text and "taken" not in shown.text and "is not shown" in shown.text
    shown = await operator.act("webhooks/try", {"webhook": "results"})
    assert "could not be reached (ClientConnectorError)" in shown.text
    assert (await operator.act("webhooks/try", {"webhook": "presence"})).status == 409
    assert (await operator.act("webhooks/try", {"webhook": "other"})).status == 400
    lines = (await operator.app(f"audit/export?format=ndjson&by={operator.name}")).page.splitlines()
    assert [json.loads(line)["outcome"] for line in lines][-2:] == [
        "it could not be reached (ClientConnectorError)",
        "it answered 202",
    ]


async def test_viewers_see_and_strangers_forms_are_refused(place: Place) -> None:
    ids = await bury(place, b"eve")
    viewer = await place.visitor("viewer")
    page = await viewer.app("webhooks")
    assert "eve" in page.text and "Replay" not in page.text and "Send a test call" not in page.text
    assert (await viewer.act("webhooks/replay", {"id": ids[0]})).status == 403
    operator = await place.visitor("operator")
    assert (await operator.act("webhooks/replay", {"id": ids[0]}, Origin="https://evil.example")).status == 403
    await begin_operator(place.world, "admin")  # the only admin of all Apps can't be limited
    limited = Visitor(place.world, await begin_operator(place.world, "admin"))
    await place.world.store.operators.change(limited.name, lambda one: msgspec.structs.replace(one, apps=("other",)))
    await limited.sign_in()
    assert (await limited.app("webhooks")).status == 404
    assert len(await place.world.store.webhooks.dead(place.world.app.key)) == 1


async def test_pages_of_dead_letters_follow_by_links(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.console.views.webhooks.PAGE_LETTERS", 2)
    await bury(place, b"a1", b"a2", b"a3")
    visitor = await place.visitor("viewer")
    first = await visitor.app("webhooks")
    following = first.page.partition('rel="next" href="')[2].partition('"')[0]
    second = await visitor.get(following)
    assert first.page.count('<th scope="row">') == 2 and second.page.count('<th scope="row">') == 1


async def test_with_redis_away_the_page_says_so(place: Place) -> None:
    visitor = await place.visitor("operator")
    await visitor.app("webhooks")
    async with place.redis_away():
        assert "Redis can not be reached" in (await visitor.app("webhooks")).text
