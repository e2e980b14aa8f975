"""The sweep: housekeeping that takes ended Bans, Mutes and list entries out of Redis and out of every Replica.

Nothing depends on it but memory: an ended fact counts as absent everywhere from its very millisecond. Each script asks again
whether a fact has ended, so a sweep never races with an imposition. Used by the background role, every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.partition import partition_of
from gate.store import keys, scripts
from gate.store.keys import UserKey
from gate.store.lists import TAKEN_OFF
from gate.store.restraints import Restraints
from gate.store.store import Store
from gate.store.writing import Step

MAX_SWEPT_A_SCRIPT = 500
"""A script holds the server some 2 ms for so many."""
SCAN_COUNT = 1_000
SCAN_STEPS_A_CALL = 20
"""So one call looks at some 20,000 keys, in about 20 ms of the server's time; the next goes on from there."""

_KIND = {word: kind for kind, word in keys.LIST_WORD.items()}


class Sweep:
    """Remembers where in the keyspace it is; one a process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writer = store.writer
        self._cursor = b"0"

    async def run(self, now_ms: int) -> int:
        """One bounded round; answers how many facts were removed. Raises `StoreUnavailable`."""
        swept = 0
        for facts in await self._store.apps.list():
            swept += await self._sweep_restraints(facts.key, self._store.bans, now_ms)
            swept += await self._sweep_restraints(facts.key, self._store.mutes, now_ms)
        return swept + await self._sweep_lists(now_ms)

    async def _sweep_restraints(self, app_key: str, noun: Restraints, now_ms: int) -> int:
        partitions = range(self._store.partitions)
        ended = await self._store.client.read(
            *(
                ("ZRANGEBYSCORE", noun.key(partition, app_key), "-inf", now_ms, "LIMIT", 0, MAX_SWEPT_A_SCRIPT)
                for partition in partitions
            )
        )
        words = noun.words
        steps = [
            Step(
                partition,
                scripts.SWEEP_RESTRAINTS,
                [noun.key(partition, app_key), *(keys.user(partition, app_key, user) for user in users)],
                [words.lifted, words.until, words.why, words.by, *users],
            )
            for partition, users in zip(partitions, ended, strict=True)
            if users
        ]
        return await self._run(app_key, steps, now_ms)

    async def _sweep_lists(self, now_ms: int) -> int:
        """There is no index of lists that hold ends: it would cost every write, where this costs a slow walk."""
        swept = 0
        for _ in range(SCAN_STEPS_A_CALL):
            ((self._cursor, names),) = await self._store.client.read(
                ("SCAN", self._cursor, "MATCH", keys.ENDS_GLOB, "COUNT", SCAN_COUNT)
            )
            swept += await self._sweep_some([key for name in names if (key := keys.parse(name))], now_ms)
            if self._cursor == b"0":
                break
        return swept

    async def _sweep_some(self, found: Sequence[UserKey], now_ms: int) -> int:
        # An id may end in what reads like such a key's beginning, hence the look at the noun.
        lists = [key for key in found if key.noun.endswith("-ends") and self._is_ours(key)]
        by_app: dict[str, list[Step]] = {}
        for partition, noun, app, owner in lists:
            kind = _KIND[noun.removesuffix("-ends")]
            step = Step(
                partition,
                scripts.SWEEP_LIST,
                [keys.entries(partition, kind, app, owner), keys.ends(partition, kind, app, owner)],
                [TAKEN_OFF[kind], owner, MAX_SWEPT_A_SCRIPT],
            )
            by_app.setdefault(app, []).append(step)
        return sum([await self._run(app, steps, now_ms) for app, steps in by_app.items()])

    def _is_ours(self, key: UserKey) -> bool:
        return key.partition == partition_of(key.app, key.user, self._store.partitions)

    async def _run(self, app_key: str, steps: Sequence[Step], now_ms: int) -> int:
        if not steps:
            return 0
        replies = await self._store.client.write([self._writer.call_of(app_key, step, now_ms) for step in steps])
        return sum(int(reply[0]) for reply in replies)
