"""Sessions of the console: idle and absolute ends, the list of them, and who may end which."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import redis

from gate.console.request_context import SESSION_COOKIE
from gate.console.session_cookie import read_cookie
from gate.store import keys
from gate.store.console_sessions import (
    IDLE_MS,
    MAX_CONSOLE_SESSIONS,
    MAX_OF_OPERATOR,
    SESSION_TTL_MS,
    TOUCH_EVERY_MS,
    ConsoleSession,
)
from harness.ports import LOOPBACK
from tests.console.conftest import Place
from tests.console.visitor import Visitor


def session_of(visitor: Visitor) -> str:
    """The id in the browser's cookie."""
    cookie = read_cookie(visitor.cookies[SESSION_COOKIE])
    assert cookie is not None
    return cookie.session


class Records:
    """The stored sessions, which a test makes older."""

    def __init__(self, place: Place) -> None:
        self._client = redis.Redis(host=LOOPBACK, port=place.cable.port)

    def read(self, session: str) -> dict[str, Any]:
        packed = self._client.hget(keys.console_sessions(), session)
        assert isinstance(packed, bytes)
        record: dict[str, Any] = json.loads(packed)
        return record

    def age(self, session: str, **older_by_ms: int) -> None:
        record = self.read(session)
        for name, by_ms in older_by_ms.items():
            record[name] -= by_ms
        self._client.hset(keys.console_sessions(), session, json.dumps(record))


async def listed(visitor: Visitor) -> str:
    return (await visitor.get("/console/sessions")).page


async def end(visitor: Visitor, session: str) -> int:
    token = (await visitor.get("/console/sessions")).form_token
    return (await visitor.post("/console/sessions", {"form_token": token, "session": session})).status


async def test_half_an_hour_without_a_request_ends_a_session(place: Place) -> None:
    visitor, records = await place.visitor(), Records(place)
    session = session_of(visitor)
    records.age(session, seen_at_ms=IDLE_MS - 60_000)
    assert (await visitor.app("overview")).status == 200
    records.age(session, seen_at_ms=IDLE_MS - 60_000)
    assert (await visitor.app("overview")).status == 200, "the request before counted"
    records.age(session, seen_at_ms=IDLE_MS + 1_000)
    assert (await visitor.app("overview")).status == 303


async def test_a_page_that_renews_itself_keeps_no_session_open(place: Place) -> None:
    visitor, records = await place.visitor(), Records(place)
    records.age(session_of(visitor), seen_at_ms=2 * TOUCH_EVERY_MS)
    before = records.read(session_of(visitor))["seen_at_ms"]
    assert "Users online" in await visitor.part("overview/live")
    assert records.read(session_of(visitor))["seen_at_ms"] == before
    await visitor.app("overview")
    assert records.read(session_of(visitor))["seen_at_ms"] > before


async def test_a_working_day_ends_a_session_that_is_in_use(place: Place) -> None:
    visitor, records = await place.visitor(), Records(place)
    record = records.read(session_of(visitor))
    assert record["until_ms"] - record["started_at_ms"] == SESSION_TTL_MS
    records.age(session_of(visitor), until_ms=SESSION_TTL_MS)
    assert (await visitor.app("overview")).status == 303


async def test_an_operator_sees_and_ends_its_own_sessions(place: Place) -> None:
    visitor, stranger = await place.visitor(), await place.visitor()
    other = Visitor(place.world, visitor.name)
    await other.sign_in(**{"User-Agent": "Browser <of> the other"})
    page = await listed(visitor)
    assert session_of(visitor) in page and session_of(other) in page and session_of(stranger) not in page
    assert "Browser &lt;of&gt; the other" in page and "this session" in page and "127.0.0.1" in page
    assert await end(visitor, session_of(stranger)) == 303
    assert (await stranger.app("overview")).status == 200, "only an admin ends the sessions of others"
    assert await end(visitor, session_of(other)) == 303
    assert (await other.app("overview")).status == 303 and (await visitor.app("overview")).status == 200
    assert await end(visitor, "") == 400
    refused = await visitor.post("/console/sessions", {"form_token": "forged", "session": session_of(visitor)})
    assert refused.status == 403


@pytest.mark.parametrize("is_limited", [False, True])
async def test_an_admin_of_all_apps_sees_and_ends_all_sessions(place: Place, is_limited: bool) -> None:
    admin, stranger = await place.visitor("admin"), await place.visitor()
    if is_limited:
        await place.visitor("admin")  # otherwise the limited one could be the last of all Apps
        await place.world.store.operators.change(admin.name, lambda one: msgspec.structs.replace(one, apps=("shop",)))
    assert (session_of(stranger) in await listed(admin)) is not is_limited
    assert await end(admin, session_of(stranger)) == 303
    assert ((await stranger.app("overview")).status == 303) is not is_limited


async def test_the_number_of_sessions_is_bounded(place: Place) -> None:
    sessions, records = place.world.store.console_sessions, Records(place)
    oldest = await place.visitor()
    records.age(session_of(oldest), seen_at_ms=60_000)
    for number in range(MAX_CONSOLE_SESSIONS):
        await sessions.open(ConsoleSession(id=f"filling-{number:08d}", operator=f"ann-{number}"))
    found = await sessions.list()
    assert len(found) == MAX_CONSOLE_SESSIONS
    assert (await oldest.app("overview")).status == 303
    assert await sessions.end([one.id for one in found]) == MAX_CONSOLE_SESSIONS
    assert await sessions.list() == [] and await sessions.end([]) == 0


async def test_many_sign_ins_of_one_operator_end_its_own_sessions_only(place: Place) -> None:
    sessions, records = place.world.store.console_sessions, Records(place)
    oldest = await place.visitor()
    records.age(session_of(oldest), seen_at_ms=60_000)
    await sessions.open(ConsoleSession(id="filling-00000000", operator="ann"))
    records.age("filling-00000000", seen_at_ms=1_000)  # else several may be of the same millisecond
    for number in range(1, MAX_OF_OPERATOR + 1):
        await sessions.open(ConsoleSession(id=f"filling-{number:08d}", operator="ann"))
    found = {one.id for one in await sessions.list()}
    assert session_of(oldest) in found and len(found) == 1 + MAX_OF_OPERATOR
    assert "filling-00000000" not in found and f"filling-{MAX_OF_OPERATOR:08d}" in found
