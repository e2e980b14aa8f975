"""The deployment's audit: changes of Apps and operators are recorded, also after an App was removed."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.model import AppFacts
from gate.core.operators import Operator
from gate.errors import InvalidInput
from gate.store.console_sessions import ConsoleSession
from gate.store.store import Store
from gate.store.writer import Attribution

BECAUSE = Attribution("ann", "as agreed")
SECRETS = ("s" * 24, "t" * 24)


def facts(name: str = "shop") -> AppFacts:
    return AppFacts(key="shop", name=name, secrets=(SECRETS[0],), environment="development", created_at_ms=1)


async def entries(store: Store) -> list[tuple[str, str, str, str]]:
    page, following = await store.audit.deployment_page(100)
    assert following is None
    return [(one.kind, one.about, one.by, one.why) for one in reversed(page)]


async def test_an_app_leaves_its_entries_when_it_is_removed(store: Store) -> None:
    await store.apps.create(facts(), 1, "a new shop", "ann")
    await store.apps.update("shop", lambda one: msgspec.structs.replace(one, secrets=SECRETS), 2, "rotation", "bob")
    await store.apps.remove("shop", 3, "closed", "ann")
    await store.apps.remove("shop", 4, "closed again", "ann")
    assert await entries(store) == [
        ("app-created", "shop", "ann", "a new shop"),
        ("app-changed", "shop", "bob", "rotation"),
        ("app-removed", "shop", "ann", "closed"),
    ]


async def test_no_secret_and_no_password_hash_is_in_it(store: Store) -> None:
    await store.apps.create(facts(), 1)
    await store.apps.update("shop", lambda one: msgspec.structs.replace(one, secrets=SECRETS), 2)
    await store.operators.add(Operator(name="ann", role="admin", password_hash="$hash-1", created_at_ms=1), BECAUSE)
    await store.operators.change("ann", lambda one: msgspec.structs.replace(one, password_hash="$hash-2"), BECAUSE)
    values = [one.value for one in (await store.audit.deployment_page(100))[0]]
    assert len(values) == 4
    assert not any(secret.encode() in value for value in values for secret in (*SECRETS, "$hash"))


async def test_each_write_of_an_operator_has_its_kind(store: Store) -> None:
    for name in ("ann", "bob"):
        await store.operators.add(Operator(name=name, role="admin", password_hash="$", created_at_ms=1), BECAUSE)
    await store.operators.change("bob", lambda one: msgspec.structs.replace(one, role="viewer"), BECAUSE)
    await store.operators.remove("bob", BECAUSE)
    page, _ = await store.audit.deployment_page(100)
    assert [(one.kind, one.about, msgspec.json.decode(one.value)) for one in reversed(page)] == [
        ("operator-added", "ann", {"role": [None, "admin"]}),
        ("operator-added", "bob", {"role": [None, "admin"]}),
        ("operator-changed", "bob", {"role": ["admin", "viewer"]}),
        ("operator-removed", "bob", {"role": ["viewer", None]}),
    ]
    assert all((one.by, one.why) == BECAUSE for one in page)


async def test_sessions_that_an_operator_ended_are_in_it(store: Store) -> None:
    for name, number in (("ann", 1), ("ann", 2), ("bob", 3)):
        await store.console_sessions.open(ConsoleSession(id=f"{number}" * 16, operator=name))
    assert await store.console_sessions.end(["1" * 16]) == 1
    assert await entries(store) == []
    assert await store.console_sessions.end(["2" * 16, "3" * 16, "4" * 16], BECAUSE) == 2
    page, _ = await store.audit.deployment_page(100)
    assert [(one.kind, one.about, one.value) for one in page] == [
        ("console-sessions-ended", name, b'{"sessions":1}') for name in ("bob", "ann")
    ]
    assert all((one.by, one.why) == BECAUSE for one in page)


async def test_a_refused_write_leaves_no_entry(store: Store) -> None:
    await store.operators.add(Operator(name="ann", role="admin", password_hash="$", created_at_ms=1))
    with pytest.raises(Exception, match="only admin"):
        await store.operators.remove("ann")
    assert [kind for kind, *_ in await entries(store)] == ["operator-added"]


async def test_a_loss_is_in_both_audits(store: Store) -> None:
    await store.apps.create(facts(), 1)
    await store.audit.note_loss("shop", "node-1", 7, "Redis came back with another history")
    newest = (await store.audit.deployment_page(1))[0][0]
    assert (newest.kind, newest.about, newest.by) == ("facts-lost", "shop", "node-1")
    assert msgspec.json.decode(newest.value) == {"lost": 7}
    assert (await store.audit.page("shop", 1))[0][0].kind == "facts-lost"


async def test_pages_join_to_the_whole_and_bounds_hold(store: Store) -> None:
    for at in range(7):
        await store.audit.note_loss("shop", f"node-{at}", at, "")
    seen, cursor = [], None
    while True:
        page, cursor = await store.audit.deployment_page(3, cursor=cursor)
        seen += [one.by for one in page]
        if cursor is None:
            break
    assert seen == [f"node-{at}" for at in reversed(range(7))]
    middle_ms = page[-1].at_ms
    assert all(one.at_ms < middle_ms for one in (await store.audit.deployment_page(100, to_ms=middle_ms))[0])
    for count, cursor in ((0, None), (5, "nonsense")):
        with pytest.raises(InvalidInput):
            await store.audit.deployment_page(count, cursor=cursor)
