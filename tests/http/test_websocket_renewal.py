"""A newer Token on an open WebSocket: the server reports its end in time, and only a Token of the same User is taken."""

from __future__ import annotations

import msgspec
import pytest

from gate.http.client import renewal
from harness.websocket import Socket, connect
from tests.http.test_client_blacklist import token_of
from tests.http.world import World, now_ms

SHORT_S = 5
WITH_SUBPROTOCOL = {"Sec-WebSocket-Protocol": "gate"}


async def short_lived(world: World, user: str = "ann", ttl_s: int = SHORT_S) -> Socket:
    token = token_of(msgspec.structs.replace(world.app, token_ttl_s=ttl_s), user)
    return await connect(world.url, token, headers=WITH_SUBPROTOCOL)


async def test_the_end_of_a_token_is_known_and_reported_in_time(world: World) -> None:
    ann = await short_lived(world)
    ends_ms = ann.welcome["token_expires"]
    assert 0 < ends_ms - now_ms() <= SHORT_S * 1_000
    notice = await ann.next_message()
    assert (notice["type"], notice["expires"]) == ("token-ending", ends_ms)
    assert 0 < notice["in_ms"] <= SHORT_S * 1_000 / 5 + 100
    ann.drop()


async def test_a_token_without_an_end_is_never_reported(world: World) -> None:
    ann = await connect(world.url, token_of(world.app, "ann"), headers=WITH_SUBPROTOCOL)
    assert "token_expires" not in ann.welcome
    assert await ann.ask("token", token=token_of(world.app, "ann")) == {"type": "token", "expires": None}
    ann.drop()


async def test_a_newer_token_keeps_the_session_where_the_old_one_would_end_it(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, close_sessions_on_expire=True))
    ann, bob = await short_lived(world, "ann"), await short_lived(world, "bob")
    assert (await ann.next_message())["type"] == "token-ending"
    newer = token_of(msgspec.structs.replace(world.app, token_ttl_s=600), "ann")
    renewed = await ann.ask("token", token=newer, id=3)
    assert (renewed["type"], renewed["id"]) == ("token", 3)
    assert renewed["expires"] > ann.welcome["token_expires"]
    said, code = await bob.closed()
    assert (said and said["reason"], code) == ("token-expired", 4402)
    assert "listed" in await ann.ask("blacklist", user="eve")
    (presence,) = await world.presence.presences(world.app.key, [b"ann"])
    assert [one.id for one in presence.sessions] == [ann.session]
    for one in (ann, bob):
        one.drop()


async def test_a_token_of_another_user_is_refused_and_nothing_changes(world: World) -> None:
    ann = await short_lived(world)
    refused = await ann.ask("token", token=token_of(world.app, "bob"))
    assert (refused["error"], refused["parameter"]) == ("invalid", "token")
    assert "another User" in refused["message"]
    assert (await ann.ask("token", token="gt1.AAAA"))["error"] == "token-malformed"
    other = msgspec.structs.replace(world.app, key="other", created_at_ms=now_ms())
    await world.store.apps.create(other, now_ms())
    assert (await ann.ask("token", token=token_of(other, "ann")))["error"] in ("app-unknown", "token-forged")
    assert (await ann.ask("token"))["error"] == "invalid"
    assert "listed" in await ann.ask("blacklist", user="eve")
    notice = await ann.next_message()
    assert notice["expires"] == ann.welcome["token_expires"]
    ann.drop()


async def test_tokens_that_are_tried_count_against_the_limits(world: World) -> None:
    await world.set_app(msgspec.structs.replace(world.app, rate_limits={"client/v1/connect": 2}))
    ann = await short_lived(world)
    answers = [await ann.ask("token", token="gt1.AAAA") for _ in range(4)]
    assert answers[-1]["error"] == "rate-limited"
    ann.drop()


async def test_a_long_lived_token_is_reported_a_minute_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "ENDING_AHEAD_MS", 3_600_000)
    ann = await short_lived(world, ttl_s=3)
    notice = await ann.next_message()
    assert notice["in_ms"] <= 3_000 / 5 + 100  # never the whole life of a short one
    ann.drop()
