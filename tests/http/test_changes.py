"""`GET /v1/presence/changes`: collapsed, complete from a cursor on, and honest about one that can't be read on from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.presence import Cursor, Event
from gate.http.v1.feed import collapsed
from gate.store import presence_keys as keys
from harness.waiting import wait_until_async
from tests.http.world import World
from tests.presence.played import Gateway

GONE_S = 5.0


async def changes(world: World, since: str = "", more: str = "") -> Any:
    reply = await world.v1("GET", f"presence/changes?since={since}{more}")
    assert reply.status == 200, reply
    return reply.body


async def announced(world: World) -> bool:
    """Whether every departure has been announced."""
    _, due_ms = await world.presence.announce(world.app.key)
    return due_ms is None


def changed(answer: Any) -> list[tuple[Any, bool, dict[str, bool]]]:
    return [
        (one["user"], one["online"], {each["platform"]: each["online"] for each in one["platforms"]})
        for one in answer["changes"]
    ]


async def test_changes_since_a_cursor_are_each_users_newest_state(world: World) -> None:
    gateway = await Gateway(world.presence, world.app).lease()
    first = await changes(world)
    assert first["changes"] == [] and first["more"] is False
    session = await gateway.open(b"alice", "iOS")
    await gateway.open(b"bob", "iOS")
    await gateway.open(b"alice", "Web")
    second = await changes(world, first["cursor"])
    assert changed(second) == [("bob", True, {"iOS": True}), ("alice", True, {"iOS": True, "Web": True})]
    await gateway.close(session)
    await wait_until_async(lambda: announced(world), GONE_S, "the departure to be announced")
    third = await changes(world, second["cursor"])
    assert changed(third) == [("alice", True, {"iOS": False})]
    assert (await changes(world, third["cursor"]))["changes"] == []
    everything = await changes(world, first["cursor"])
    assert changed(everything) == [("bob", True, {"iOS": True}), ("alice", True, {"Web": True, "iOS": False})]


async def test_a_kick_shows_as_what_it_leads_to(world: World) -> None:
    gateway = await Gateway(world.presence, world.app).lease()
    await gateway.open(b"alice")
    start = await changes(world)
    await world.presence.kick(world.app.key, [b"alice"], "kicked")
    await wait_until_async(lambda: announced(world), GONE_S, "the departure to be announced")
    assert changed(await changes(world, start["cursor"])) == [("alice", False, {"iOS": False})]


async def test_limits_cut_a_long_delta_into_parts(world: World) -> None:
    gateway = await Gateway(world.presence, world.app).lease()
    answer = await changes(world)
    await gateway.open_many([b"%d" % number for number in range(25)])
    found, parts, more = [], 0, True
    while more:
        answer = await changes(world, answer["cursor"], "&limit=10")
        found += [user for user, _, _ in changed(answer)]
        parts, more = parts + 1, answer["more"]
    assert found == [str(number) for number in range(25)] and parts == 3


async def test_a_cursor_that_cannot_be_read_on_from_is_gone(world: World) -> None:
    gateway = await Gateway(world.presence, world.app).lease()
    start = await changes(world)
    await gateway.open_many([b"a", b"b", b"c"])
    await world.presence.client.read(("XTRIM", keys.feed(world.app.key), "MAXLEN", 1))
    for cursor in (start["cursor"], "abc-1-1"):
        reply = await world.v1("GET", f"presence/changes?since={cursor}")
        assert (reply.status, reply.body["error"]) == (410, "cursor-gone")
        assert "GET /v1/presence/online" in reply.body["message"]
    assert (await changes(world, (await changes(world))["cursor"]))["changes"] == []


@pytest.mark.parametrize("query", ["since=nonsense", "since=1-2", "limit=0", "limit=10001"])
async def test_what_is_wrong_is_named(world: World, query: str) -> None:
    reply = await world.v1("GET", f"presence/changes?{query}")
    assert (reply.status, reply.body["parameter"]) == (400, query.partition("=")[0])


steps = st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(["iOS", "Web"])), max_size=30)


@given(steps, st.integers(0, 30))
def test_parts_applied_one_after_another_end_in_the_state_of_the_feed(
    toggles: list[tuple[bytes, str]], cut: int
) -> None:
    """A naive reader of single entries, and one of collapsed parts cut anywhere, come to know the same."""
    online: dict[bytes, set[str]] = {}
    events = []
    for seq, (user, platform) in enumerate(toggles, 1):
        platforms = online.setdefault(user, set())
        coming = platform not in platforms
        platforms ^= {platform}
        last = len(platforms) == (1 if coming else 0)
        kind: Any = ("" if last else "platform-") + ("online" if coming else "offline")
        events.append(Event(Cursor("e", seq, seq * 1_000), kind, user, "s", platform, b"g", "", "", seq))
    known: dict[str, set[str]] = {}
    for part in (events[:cut], events[cut:]):
        for change in collapsed(part):
            platforms = known.setdefault(str(change.user), set())
            for one in change.platforms:
                (platforms.add if one.online else platforms.discard)(one.platform)
            assert change.online is bool(platforms)
    assert known == {user.decode(): platforms for user, platforms in online.items()}
