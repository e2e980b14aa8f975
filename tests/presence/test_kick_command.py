"""A kick: its order is in the audit before it is carried out, its result after. Either Redis may go away at any step."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.errors import InvalidInput, StoreUnavailable
from gate.presence.kick_command import kick_user
from gate.store.audit import Audit
from gate.store.presence import PresenceStore
from gate.store.store import Store
from gate.store.writer import Attribution
from harness.servers import RedisServer
from tests.presence.played import PATIENCE_MS, Gateway, presence_on

APP = AppFacts(key="app", secrets=("s",))
ATTRIBUTION = Attribution("ops", "spam")
IMPATIENCE_MS = 200

AuditRows = list[tuple[str, str, str, dict[str, object]]]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = await Store.connect(redis_server.url, partitions=4, deadline_ms=PATIENCE_MS)
    await store.apps.create(APP, wall_ms())
    yield store
    await store.aclose()


@pytest.fixture
async def presence(private_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    """In a Redis of its own."""
    store = presence_on(private_redis.url)
    yield store
    await store.client.aclose()


async def audit_rows(store: Store, user: bytes = b"ann") -> AuditRows:
    """The oldest first."""
    entries, _ = await store.audit.page(APP.key, 100, user=user)
    return [(one.kind, one.by, one.why, orjson.loads(one.value)) for one in reversed(entries)]


async def test_what_came_of_it_takes_the_place_of_the_order(store: Store, presence: PresenceStore) -> None:
    gateway = await Gateway(presence, APP).lease()
    phone, _ = await gateway.open_many([b"ann", b"ann"], "iOS")
    await gateway.open(b"ann", "Web")
    which: list[dict[str, str]] = [{"platform": "Web"}, {"session": phone}, {}, {}]
    closed = [await kick_user(store.audit, presence, APP.key, b"ann", ATTRIBUTION, **one) for one in which]
    assert closed == [1, 1, 1, 0]
    expected = [{**one, "closed": many} for one, many in zip(which, closed, strict=True)]
    assert await audit_rows(store) == [("kicked", "ops", "spam", value) for value in expected]


async def test_without_the_audit_no_client_is_disconnected(
    store: Store, presence: PresenceStore, redis_server: RedisServer
) -> None:
    await (await Gateway(presence, APP).lease()).open(b"ann")
    impatient = await Store.connect(redis_server.url, deadline_ms=IMPATIENCE_MS)
    with redis_server.paused(), pytest.raises(StoreUnavailable):
        await kick_user(impatient.audit, presence, APP.key, b"ann", ATTRIBUTION)
    await impatient.aclose()
    assert await presence.is_online(APP.key, b"ann")


async def test_a_kick_that_was_cut_short_stays_ordered(
    store: Store, presence: PresenceStore, private_redis: RedisServer
) -> None:
    impatient = presence_on(private_redis.url, IMPATIENCE_MS)
    with private_redis.paused(), pytest.raises(StoreUnavailable):
        await kick_user(store.audit, impatient, APP.key, b"ann", ATTRIBUTION, platform="Web")
    await impatient.client.aclose()
    assert await audit_rows(store) == [("kick-ordered", "ops", "spam", {"platform": "Web"})]


async def test_a_kick_that_is_done_is_answered_though_the_audit_failed(
    store: Store, presence: PresenceStore, redis_server: RedisServer
) -> None:
    await (await Gateway(presence, APP).lease()).open(b"ann")
    impatient = await Store.connect(redis_server.url, deadline_ms=IMPATIENCE_MS)

    class GoesAway(PresenceStore):
        """The facts' Redis does, once the Sessions are closed."""

        async def kick(self, *whom: object, **which: object) -> int:
            closed = await super().kick(*whom, **which)  # type: ignore[arg-type]
            redis_server.pause()
            return closed

    try:
        assert await kick_user(impatient.audit, GoesAway(presence.client), APP.key, b"ann", ATTRIBUTION) == 1
    finally:
        redis_server.resume()
    await impatient.aclose()
    assert not await presence.is_online(APP.key, b"ann")
    # It gave up waiting for the second write; whether that was carried out later is the server's to say.
    assert [kind for kind, *_ in await audit_rows(store)] in (["kick-ordered"], ["kicked"])


async def test_an_id_of_no_session_of_the_user_is_refused_before_any_write(
    store: Store, presence: PresenceStore
) -> None:
    session = await (await Gateway(presence, APP).lease()).open(b"bob")
    for which in ({"session": session}, {"session": "x"}, {"platform": "a b"}):
        with pytest.raises(InvalidInput):
            await kick_user(store.audit, presence, APP.key, b"ann", ATTRIBUTION, **which)
    assert await audit_rows(store) == [] and await presence.is_online(APP.key, b"bob")


async def test_a_page_goes_on_where_an_order_gave_way(store: Store) -> None:
    audit: Audit = store.audit
    first = await audit.order_kick(APP.key, b"ann", ATTRIBUTION, "", "")
    second = await audit.order_kick(APP.key, b"ann", ATTRIBUTION, "", "")
    ((newest,), cursor) = await audit.page(APP.key, 1, user=b"ann")
    assert f"{newest.at_ms}-{newest.number}" == second
    await audit.settle_kick(APP.key, b"ann", ATTRIBUTION, "", "", second, 1)
    ((older,), _) = await audit.page(APP.key, 1, user=b"ann", cursor=cursor)
    assert f"{older.at_ms}-{older.number}" == first
