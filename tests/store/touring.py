"""Every operation of the store once, for tests that check something of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gate.core.model import AppFacts, ListKind
from gate.core.operators import Operator
from gate.store import settings
from gate.store.backup import BackupSource
from gate.store.console_sessions import ConsoleSession
from gate.store.jobs import Job
from gate.store.lists import Group
from gate.store.occurrences import occurrences
from gate.store.store import Store
from gate.store.sweep import Sweep
from gate.store.user_search import SearchPlace
from gate.store.writer import UNEXPLAINED, Attribution

APP = "default"
USERS = [b"ann", b"bob", b"c\0\r\n:{9}", *(b"u%d" % number for number in range(20))]
FACTS = AppFacts(key=APP, secrets=("s",))
BLACK = ListKind.BLACKLIST
OPERATOR = Operator(name="ann", role="admin", password_hash="$", created_at_ms=1)
CONSOLE_SESSION = ConsoleSession(id="s" * 16, operator="ann")

WRITES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "ban": lambda store: store.bans.impose(APP, USERS, 5_000, 1, "why", "by"),
    "unban": lambda store: store.bans.lift(APP, USERS, 1),
    "mute": lambda store: store.mutes.impose(APP, USERS, 5_000, 1),
    "unmute": lambda store: store.mutes.lift(APP, USERS, 1),
    "list add": lambda store: store.lists.add(APP, BLACK, b"ann", USERS, 5_000, 1, 100),
    "list add many": lambda store: store.lists.add_many(APP, BLACK, [Group(u, USERS) for u in USERS], 1, 100),
    "list remove": lambda store: store.lists.remove(APP, BLACK, b"ann", [b"bob"], 1),
    "switch": lambda store: store.lists.switch(APP, USERS, True, 1),
    "register": lambda store: store.users.register(APP, USERS, 1),
    "enrol": lambda store: store.users.enrol(FACTS, b"new", 1, "New"),
    "enrol for a token": lambda store: store.users.enrol_for_token(FACTS, b"newer", 1, "Newer"),
    "refresh": lambda store: store.users.refresh(APP, b"new", "Newer", None),
    "erase": lambda store: store.users.erase(APP, [b"new"], 1),
    "deactivate": lambda store: store.deactivation.deactivate(APP, [b"gone"], 1),
    "claim": lambda store: store.jobs.claim(1),
    "erase gone": lambda store: store.jobs.run(_job(store), 1),
    "reactivate": lambda store: store.deactivation.reactivate(APP, [b"gone"], 1, 0),
    "take hooks": lambda store: store.webhooks.take("n1", 10, [1]),
    "bury hook": lambda store: _bury(store),
    "replay hook": lambda store: _replay(store),
    "hook failed": lambda store: _fail_hooks(store),
    "drop hook": lambda store: store.webhooks.drop(["0:1-1"]),
    "webhook audit": lambda store: store.audit.note_webhooks(APP, "webhooks-replayed", UNEXPLAINED, {"letters": 1}),
    "hook done": lambda store: _finish_hooks(store),
    "kick audit": lambda store: _kick(store),
    "audit trim": lambda store: store.audit.trim(APP, 1, 0),
    "revoke tokens": lambda store: store.users.revoke_tokens(APP, USERS, 1, 1),
    "app put": lambda store: store.apps.put(FACTS, 1),
    "app update": lambda store: store.apps.update(APP, lambda facts: facts, 1),
    "prepare": lambda store: store.changelog.prepare(),
    "lease": lambda store: store.announcer("n1").renew({}),
    "leave": lambda store: store.announcer("n1").leave(),
    "operator add": lambda store: store.operators.add(OPERATOR),
    "operator change": lambda store: store.operators.change("ann", lambda operator: operator),
    "operator remove": lambda store: _remove_operator(store),
    "console session open": lambda store: store.console_sessions.open(CONSOLE_SESSION),
    "console session touch": lambda store: store.console_sessions.touch(CONSOLE_SESSION.id),
    "console session end": lambda store: store.console_sessions.end([CONSOLE_SESSION.id], UNEXPLAINED),
    "nonce": lambda store: store.nonces.spend(APP, "nonce", 5_000),
    "settings": lambda store: settings.put_back(store.client, store.client, {settings.LEASE_TTL: "1"}),
    "sweep": lambda store: Sweep(store).run(6_000),
    "app remove": lambda store: store.apps.remove(APP, 1),
}
READS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "bans page": lambda store: store.bans.page(APP, 1, 0, 10),
    "bans behind": lambda store: store.bans.behind(APP, 1, None, 10),
    "bans count": lambda store: store.bans.count(APP, 1),
    "list page": lambda store: store.lists.page(APP, BLACK, b"ann", 1, None, 10),
    "list contains": lambda store: store.lists.contains(APP, BLACK, b"ann", USERS, 1),
    "switches": lambda store: store.lists.switches(APP, USERS),
    "user facts": lambda store: store.users.facts(APP, USERS),
    "profiles": lambda store: store.users.profiles(APP, USERS),
    "search": lambda store: store.search.step(APP, "users", "ann", SearchPlace(), 10),
    "roll": lambda store: store.users.page(APP, 0, 10),
    "gone": lambda store: store.deactivation.page(APP, 0, 10),
    "dead hooks": lambda store: store.webhooks.dead(APP),
    "dead hooks page": lambda store: store.webhooks.dead_page(APP, 10),
    "dead hook": lambda store: store.webhooks.dead_letters(APP, ["0:1-1"]),
    "hooks state": lambda store: store.webhooks.state(APP),
    "audit page": lambda store: store.audit.page(APP, 10),
    "audit of one": lambda store: store.audit.page(APP, 10, user=b"ann"),
    "occurrences": lambda store: occurrences(store.client, APP, b"ann"),
    "operators": lambda store: store.operators.list(),
    "console session": lambda store: store.console_sessions.find("ann", CONSOLE_SESSION.id),
    "console sessions": lambda store: store.console_sessions.list(),
    "app get": lambda store: store.apps.get(APP),
    "app list": lambda store: store.apps.list(),
    "heads": lambda store: store.changelog.heads(),
    "write id": lambda store: store.changelog.write_id_at(1, 1),
    "ping": lambda store: store.ping(),
}


async def _remove_operator(store: Store) -> None:
    """Needs another admin."""
    await store.operators.add(Operator(name="bob", role="admin", password_hash="$", created_at_ms=1))
    await store.operators.remove("ann")


def _job(store: Store) -> Job:
    return Job(store.writer.partition_of(APP, b"gone"), APP, b"gone")


async def _kick(store: Store) -> None:
    ordered = await store.audit.order_kick(APP, b"ann", Attribution("by", "why"), "", "iOS")
    await store.audit.settle_kick(APP, b"ann", Attribution("by", "why"), "", "iOS", ordered, 1)


async def _bury(store: Store) -> None:
    for hook in await store.webhooks.take("n1", 10, [0]):
        await store.webhooks.bury(hook, "stranger")


async def _replay(store: Store) -> None:
    await store.webhooks.replay([dead.id for dead in await store.webhooks.dead(APP)])


async def _fail_hooks(store: Store) -> None:
    for hook in await store.webhooks.take("n1", 10, [0]):
        await store.webhooks.failed(hook, "it answered 500")


async def _finish_hooks(store: Store) -> None:
    for hook in await store.webhooks.take("n1", 10, [0]):
        await store.webhooks.done(hook)


async def tour(store: Store) -> None:
    """All operations, arranged so that each has an effect."""
    await store.apps.create(FACTS, 1)
    for operation in (*WRITES.values(), *READS.values()):
        if operation is WRITES["app remove"]:
            for read in READS.values():
                await read(store)
        elif operation in READS.values():
            continue
        await operation(store)
    async with store.bulk(APP, 1) as bulk:
        await bulk.ban(b"ann", 5_000)
        await bulk.add(BLACK, b"ann", USERS)
        await bulk.switch(b"ann", True)
        await bulk.register(b"ann")
        await bulk.flush()
    async for _ in store.snapshot():
        pass
    async for _ in BackupSource(store).records():
        pass
