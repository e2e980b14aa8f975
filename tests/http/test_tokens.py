"""`/user/token/expire.json`."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.token import PREFIX, decoded
from tests.http.test_users import fault, token_of
from tests.http.world import Field, World, now_ms

TWENTY: list[Field] = [("userId", f"u{number}") for number in range(20)]


async def test_tokens_of_before_are_refused_from_the_answer_on(world: World) -> None:
    old = [await token_of(world, "u1") for _ in range(2)]
    other = await token_of(world, "u2")
    moment = now_ms() + 1
    while now_ms() < moment:
        pass
    reply = await world.user("token/expire.json", [("userId", "u1"), ("time", str(moment))])
    assert (reply.status, reply.body, reply.headers["X-Gate-Applied"]) == (200, {"code": 200}, "all")
    assert [fault(world, token) for token in (*old, other)] == ["revoked", "revoked", None]
    assert fault(world, await token_of(world, "u1")) is None


async def test_an_earlier_moment_brings_nothing_back(world: World) -> None:
    old = await token_of(world, "u1")
    for moment in (now_ms() + 60_000, 1_000_000_000_000):
        await world.user("token/expire.json", [("userId", "u1"), ("time", str(moment))])
        assert fault(world, old) == "revoked"


async def test_a_token_of_the_very_millisecond_is_revoked(world: World) -> None:
    old = await token_of(world, "u1")
    minted_at_ms = int.from_bytes(decoded(old.removeprefix(PREFIX).encode())[4:12])
    await world.user("token/expire.json", [("userId", "u1"), ("time", str(minted_at_ms))])
    assert fault(world, old) == "revoked"
    assert fault(world, await token_of(world, "u1")) is None


async def test_no_token_is_given_before_the_moment_of_a_revocation(world: World) -> None:
    moment = now_ms() + 3_600_000
    await world.user("token/expire.json", [("userId", "u1"), ("time", str(moment))])
    reply = await world.user("getToken.json", [("userId", "u1"), ("name", "N"), ("portraitUri", "")])
    assert (reply.status, reply.body["code"]) == (400, 1002)
    assert "the Tokens of u1 are revoked until 2" in reply.body["errorMessage"]
    refused = await world.v1("POST", "tokens", {"user": "u1"})
    assert (refused.status, refused.body["error"]) == (409, "refused")
    assert (await world.v1("POST", "users", {"user": "u1"})).status == 200


async def test_a_moment_in_seconds_is_taken_for_what_it_is(world: World) -> None:
    old = await token_of(world, "u1")
    await world.user("token/expire.json", [("userId", "u1"), ("time", str(now_ms() // 1_000 + 60))])
    assert fault(world, old) == "revoked"


async def test_twenty_users_known_or_not(world: World) -> None:
    old = await token_of(world, "u7")
    reply = await world.user("token/expire.json", [*TWENTY, ("time", str(now_ms() + 1_000))])
    assert (reply.status, reply.headers["X-Gate-Applied"]) == (200, "all")
    assert fault(world, old) == "revoked"


@pytest.mark.parametrize(
    "fields",
    [
        [("time", "1700000000000")],
        [("userId", "u1")],
        [("userId", "u1"), ("time", "")],
        [("userId", "u1"), ("time", "0")],
        [("userId", "u1"), ("time", "-5")],
        [("userId", "u1"), ("time", "soon")],
        [("userId", "u1"), ("time", "1.5")],
        [("userId", "u1"), ("time", "9" * 16)],
        [("userId", "u1"), ("time", "9" * 17)],
        [("userId", "u1"), ("time", str(now_ms() + 2 * 86_400_000))],
        [*TWENTY, ("userId", "one-more"), ("time", "1700000000000")],
    ],
)
async def test_bad_moments_and_users_change_nothing(world: World, fields: list[Field]) -> None:
    reply = await world.user("token/expire.json", fields)
    assert (reply.status, reply.body["code"]) == (400, 1002)
    (facts,) = await world.store.users.facts(world.app.key, [b"u1"])
    assert facts.tokens_valid_from_ms == 0


async def test_a_time_to_live_is_the_apps(world: World) -> None:
    permanent = await token_of(world, "u1")
    await world.set_app(msgspec.structs.replace(world.app, token_ttl_s=3_600))
    assert len(await token_of(world, "u1")) == len(permanent)
    assert fault(world, permanent) is None
