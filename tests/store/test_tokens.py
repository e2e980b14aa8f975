"""A revocation covers every Token issued before it and none issued after, whatever the clocks show."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate.core.model import AppFacts
from gate.errors import TokensHeld
from gate.store.store import Store
from gate.store.users import HOLD_FROM_MS
from harness.seeds import examples
from tests.store.conftest import APP

NOW = 1_000_000
DAY_MS = 86_400_000
FACTS = AppFacts(key=APP, secrets=("s",))
USER = b"ann"


async def minted(store: Store, now_ms: int) -> int:
    return (await store.users.enrol_for_token(FACTS, USER, now_ms)).mint_at_ms


async def is_valid(store: Store, minted_at_ms: int) -> bool:
    (facts,) = await store.users.facts(APP, [USER])
    return not facts.deactivated and minted_at_ms >= facts.tokens_valid_from_ms


async def revoke_all(store: Store, now_ms: int) -> None:
    await store.users.revoke_tokens(APP, [USER], now_ms + 1, now_ms)


async def deactivate_and_back(store: Store, now_ms: int) -> None:
    await store.deactivation.deactivate(APP, [USER], now_ms)
    for job in await store.jobs.claim(now_ms):
        await store.jobs.run(job, now_ms)
    await store.deactivation.reactivate(APP, [USER], now_ms, 0)


async def delete(store: Store, now_ms: int) -> None:
    await store.users.erase(APP, [USER], now_ms)


async def revoke_what_was_before_now(store: Store, now_ms: int) -> None:
    await store.users.revoke_tokens(APP, [USER], now_ms - 2_000, now_ms)


@pytest.mark.parametrize("end", [revoke_all, deactivate_and_back, delete, revoke_what_was_before_now])
async def test_a_token_of_before_a_step_back_is_revoked(store: Store, end) -> None:  # type: ignore[no-untyped-def]
    of_before = await minted(store, NOW + 5_000)
    await end(store, NOW)
    assert not await is_valid(store, of_before)
    assert await is_valid(store, await minted(store, NOW + 1))
    assert await is_valid(store, await minted(store, NOW - 60_000))


async def test_a_moment_in_the_past_spares_what_was_minted_since(store: Store) -> None:
    old, new = await minted(store, NOW), await minted(store, NOW + 10)
    await store.users.revoke_tokens(APP, [USER], NOW + 5, NOW + 20)
    assert (await is_valid(store, old), await is_valid(store, new)) == (False, True)


async def test_tokens_revoked_ahead_of_time_are_minted_after_it(store: Store) -> None:
    old = await minted(store, NOW)
    await store.users.revoke_tokens(APP, [USER], NOW + DAY_MS, NOW)
    assert not await is_valid(store, old)
    with pytest.raises(TokensHeld) as refused:
        await minted(store, NOW + DAY_MS - 1)
    assert refused.value.until_ms == NOW + DAY_MS
    await store.users.revoke_tokens(APP, [USER], NOW + 1, NOW)
    with pytest.raises(TokensHeld):
        await minted(store, NOW)
    assert await is_valid(store, await minted(store, NOW + DAY_MS))


async def test_a_refused_token_registers_no_user(store: Store) -> None:
    await store.users.revoke_tokens(APP, [USER], NOW + DAY_MS, NOW)
    with pytest.raises(TokensHeld):
        await minted(store, NOW)
    assert not (await store.users.facts(APP, [USER]))[0].registered


async def test_a_caller_whose_clock_is_a_little_ahead_holds_no_token(store: Store) -> None:
    old = await minted(store, NOW)
    await store.users.revoke_tokens(APP, [USER], NOW + HOLD_FROM_MS, NOW)
    new = await minted(store, NOW)
    assert (await is_valid(store, old), await is_valid(store, new)) == (False, True)


async def test_a_token_of_a_registered_user_costs_no_change(store: Store) -> None:
    assert (await store.users.enrol_for_token(FACTS, USER, NOW, "Ann")).written is not None
    again = await store.users.enrol_for_token(msgspec.structs.replace(FACTS, user_limit=0), USER, NOW + 5, "Bea")
    assert again == (None, NOW + 5)
    (profile,) = await store.users.profiles(APP, [USER])
    assert profile is not None and profile.name == "Bea"


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("mrrdx"), st.integers(-9, 9)), max_size=12))
async def test_no_order_of_clocks_spares_a_token_of_before(valkey_store: Store, steps: list[tuple[str, int]]) -> None:
    store = valkey_store
    await delete(store, NOW)
    old: list[int] = []
    new: list[int] = []
    for what, offset_ms in steps:
        if what == "m":
            new.append(await minted(store, NOW + offset_ms))
        else:
            await {"r": revoke_all, "d": deactivate_and_back, "x": delete}[what](store, NOW + offset_ms)
            old, new = old + new, []
        # A later Token may not carry the moment of a revoked one.
        assert not set(old) & set(new)
        assert [await is_valid(store, one) for one in old + new] == [False] * len(old) + [True] * len(new)
