"""The sweep: removes ended Bans, Mutes and list entries from Redis and from every Replica.

Only memory depends on it: an ended fact counts as absent everywhere from its very millisecond. A deletion affects every node,
so the sweep deletes only what is over by the clocks of all nodes (`clocks`). Each script checks again whether a fact has
ended, so a sweep never races with a new penalty. Nonces and revoked session cookies that are no longer usable are deleted the
same way.

A run continues until nothing is left, in slices that occupy the server for some milliseconds, with a pause after each. Used by
the background role, every few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gate.clock import wall_ms
from gate.core.revision import partition_of
from gate.store import keys, scripts
from gate.store.address import Address
from gate.store.client import Client
from gate.store.keys import UserKey
from gate.store.link import Command
from gate.store.lists import TAKEN_OFF
from gate.store.penalties import Penalties
from gate.store.scripts import Call
from gate.store.store import Store
from gate.store.writer import Step, logged_call

# A script of this size occupies the server for some 2 ms.
MAX_SWEPT_A_SCRIPT = 500
SLICE_FACTS = 1_000
# Limits the sweep to some 20,000 facts a second: a tenth of what a Replica applies, and a small part of the server's time.
SLICE_PAUSE_S = 0.04
SCAN_COUNT = 1_000
# One run checks some 20,000 keys for lists, in about 20 ms of the server's time; the next run continues there.
SCAN_STEPS_A_RUN = 20

_KIND = {word: kind for kind, word in keys.LIST_WORD.items()}


class _Due(NamedTuple):
    """A script to run, and the number of facts that it removes."""

    call: Call
    facts: int


class Sweep:
    """Remembers its position in the keyspace; one per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors: dict[Address, bytes] = {}

    async def run(self, over_ms: int, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Remove what had ended at `over_ms`, a moment passed by every clock. Returns the number of facts.

        Ends early if `goes_on` returns False. Raises `StoreUnavailable`.
        """
        swept = 0
        for facts in await self._store.apps.list():
            swept += await self._sweep_penalties(facts.key, self._store.bans, over_ms, goes_on)
            swept += await self._sweep_penalties(facts.key, self._store.mutes, over_ms, goes_on)
            partitions = range(self._store.partitions)
            await self._sweep_sets([keys.nonces(partition, facts.key) for partition in partitions], over_ms, goes_on)
        return swept + await self._sweep_lists(over_ms, goes_on)

    async def _sweep_penalties(self, app_key: str, noun: Penalties, over_ms: int, goes_on: Callable[[], bool]) -> int:
        names, swept, partitions = noun.names, 0, list(range(self._store.partitions))
        while partitions and goes_on():
            looks: list[Command] = [
                ("ZRANGEBYSCORE", noun.key(partition, app_key), "-inf", over_ms, "LIMIT", 0, MAX_SWEPT_A_SCRIPT)
                for partition in partitions
            ]
            ended = await self._store.client.read(*looks)
            due: list[_Due] = []
            for partition, users in zip(partitions, ended, strict=True):
                own = [noun.key(partition, app_key), *(keys.user(partition, app_key, user) for user in users)]
                args = [over_ms, names.lifted, names.until, names.why, names.by, *users]
                if users:
                    due.append(_Due(self._logged(app_key, partition, scripts.SWEEP_PENALTIES, own, args), len(users)))
            removed = await self._run(due, goes_on)
            full = [at for at, users in zip(partitions, ended, strict=True) if len(users) == MAX_SWEPT_A_SCRIPT]
            # Only full Partitions have more; without progress the clocks disagree, so stop.
            swept, partitions = swept + removed, full if removed else []
        return swept

    async def _sweep_lists(self, over_ms: int, goes_on: Callable[[], bool]) -> int:
        """Walk over the keyspace: an index of lists with ends would cost every write, this is only slow."""
        swept = 0
        for server in await self._store.client.masters():
            swept += await self._sweep_lists_of(server, over_ms, goes_on)
        return swept

    async def _sweep_lists_of(self, server: Client, over_ms: int, goes_on: Callable[[], bool]) -> int:
        swept, cursor = 0, self._cursors.get(server.address, b"0")
        for _ in range(SCAN_STEPS_A_RUN if goes_on() else 0):
            ((cursor, names),) = await server.read(("SCAN", cursor, "MATCH", keys.ENDS_GLOB, "COUNT", SCAN_COUNT))
            # Kept between runs, per server.
            self._cursors[server.address] = cursor
            # An id may end in what reads like such a key's beginning, hence the look at the noun.
            found = [key for name in names if (key := keys.parse(name)) and key.noun.endswith("-ends")]
            swept += await self._sweep_some([key for key in found if self._is_ours(key)], over_ms, goes_on)
            if cursor == b"0" or not goes_on():
                break
        return swept

    async def _sweep_some(self, lists: Sequence[UserKey], over_ms: int, goes_on: Callable[[], bool]) -> int:
        swept = 0
        while lists and goes_on():
            kinds = [_KIND[key.noun.removesuffix("-ends")] for key in lists]
            counts = await self._store.client.read(
                *(
                    ("ZCOUNT", keys.ends(key.partition, kind, key.app, key.user), "-inf", over_ms)
                    for key, kind in zip(lists, kinds, strict=True)
                )
            )
            due: list[_Due] = []
            args: list[bytes | str | int]
            for (partition, _, app, owner), kind, count in zip(lists, kinds, counts, strict=True):
                own = [keys.entries(partition, kind, app, owner), keys.ends(partition, kind, app, owner)]
                args = [over_ms, TAKEN_OFF[kind], owner, MAX_SWEPT_A_SCRIPT]
                if count:
                    call = self._logged(app, partition, scripts.SWEEP_LIST, own, args)
                    due.append(_Due(call, min(count, MAX_SWEPT_A_SCRIPT)))
            removed = await self._run(due, goes_on)
            longer = [key for key, count in zip(lists, counts, strict=True) if count > MAX_SWEPT_A_SCRIPT]
            swept, lists = swept + removed, longer if removed else []
        return swept

    async def _sweep_sets(self, names: Sequence[bytes], over_ms: int, goes_on: Callable[[], bool]) -> None:
        while names and goes_on():
            counts = await self._store.client.read(*(("ZCOUNT", name, "-inf", over_ms) for name in names))
            names = [name for name, count in zip(names, counts, strict=True) if count]
            due = [_Due(Call(scripts.SWEEP_SET, [name], [over_ms, SLICE_FACTS]), SLICE_FACTS) for name in names]
            if names and not await self._run(due, goes_on):
                return  # the server's clock says that nothing is over

    def _is_ours(self, key: UserKey) -> bool:
        return key.partition == partition_of(key.app, key.user, self._store.partitions)

    def _logged(
        self, app: str, partition: int, script: scripts.Script, own: list[bytes], args: list[bytes | str | int]
    ) -> Call:
        return logged_call(app, Step(partition, script, own, args), wall_ms())

    async def _run(self, due: Sequence[_Due], goes_on: Callable[[], bool]) -> int:
        """Run the scripts, some at a time, with a pause after each slice."""
        removed, at = 0, 0
        while at < len(due) and goes_on():
            some: list[Call] = []
            facts = 0
            while at < len(due) and (not some or facts + due[at].facts <= SLICE_FACTS):
                some.append(due[at].call)
                facts += due[at].facts
                at += 1
            replies = await self._store.client.write(some)
            removed += sum(reply if isinstance(reply, int) else int(reply[0]) for reply in replies)
            # Proportional to the work, so small slices pause briefly.
            await asyncio.sleep(SLICE_PAUSE_S * facts / SLICE_FACTS)
        return removed
