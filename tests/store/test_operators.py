"""Operators in the store: added once, changed by compare-and-set, and never without an admin."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gate.core.operators import Operator, OperatorRole
from gate.errors import InvalidInput, OperatorExists, OperatorUnknown, Refused
from gate.store.passwords import hash_password, password_fits
from gate.store.store import Store


def operator(name: str, role: OperatorRole = "admin") -> Operator:
    return Operator(name=name, role=role, password_hash="$hash", created_at_ms=1)


async def test_added_read_changed_removed(store: Store) -> None:
    assert await store.operators.get("ann") is None
    assert await store.operators.list() == []
    for one in (operator("bob", "viewer"), operator("ann")):
        await store.operators.add(one)
    assert await store.operators.list() == [operator("ann"), operator("bob", "viewer")]
    changed = await store.operators.change("bob", lambda one: msgspec.structs.replace(one, role="admin"))
    assert changed == await store.operators.get("bob") == operator("bob", "admin")
    await store.operators.remove("ann")
    assert await store.operators.list() == [operator("bob")]


async def test_a_name_is_taken_once(store: Store) -> None:
    outcomes = await asyncio.gather(*(store.operators.add(operator("ann")) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, OperatorExists) for outcome in outcomes) == 4


async def test_the_last_admin_stays(store: Store) -> None:
    await store.operators.add(operator("ann"))
    await store.operators.add(operator("bob", "operator"))
    with pytest.raises(Refused, match="only admin"):
        await store.operators.remove("ann")
    with pytest.raises(Refused, match="only admin"):
        await store.operators.change("ann", lambda one: msgspec.structs.replace(one, role="viewer"))
    # An admin that is limited to Apps administers no deployment.
    await store.operators.add(msgspec.structs.replace(operator("cid"), apps=("shop",)))
    with pytest.raises(Refused, match="only admin"):
        await store.operators.change("ann", lambda one: msgspec.structs.replace(one, apps=("shop",)))
    await store.operators.change("ann", lambda one: msgspec.structs.replace(one, password_hash="$other"))
    await store.operators.remove("bob")


async def test_two_admins_who_remove_each_other(store: Store) -> None:
    for _ in range(10):
        for one in (operator("ann"), operator("bob")):
            if await store.operators.get(one.name) is None:
                await store.operators.add(one)
        outcomes = await asyncio.gather(
            store.operators.remove("ann"), store.operators.remove("bob"), return_exceptions=True
        )
        assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 1
        assert len(await store.operators.list()) == 1


async def test_changes_side_by_side_all_count(store: Store) -> None:
    await store.operators.add(operator("ann"))

    def longer(one: Operator) -> Operator:
        return msgspec.structs.replace(one, password_hash=one.password_hash + "x")

    await asyncio.gather(*(store.operators.change("ann", longer) for _ in range(10)))
    assert await store.operators.get("ann") == msgspec.structs.replace(
        operator("ann"), password_hash="$hash" + 10 * "x"
    )


async def test_unknown_and_impossible_names(store: Store) -> None:
    with pytest.raises(OperatorUnknown):
        await store.operators.remove("stranger")
    with pytest.raises(OperatorUnknown):
        await store.operators.change("stranger", lambda one: one)
    for name in ("", "a:b", "a b", "x" * 65, "\N{GREEK SMALL LETTER ALPHA}", "a\n"):
        with pytest.raises(InvalidInput):
            await store.operators.add(operator(name))


def test_a_hash_fits_its_password_alone_and_is_salted() -> None:
    stored = hash_password("a password")
    assert stored.startswith("$argon2id$") and stored != hash_password("a password")
    assert password_fits("a password", stored)
    assert not password_fits("a passwore", stored)
    for damaged in ("", "$argon2id$", "plain", stored[:-1], stored + "x"):
        assert not password_fits("a password", damaged)
