"""Batches into the store's BulkWriter, and what it refuses back to the line that asked for it.

A list that would pass the App's ceiling is refused when its script runs, long after its line was read; so the line
of each list is remembered until a flush has confirmed it. Flushing now and then bounds that memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gate.cli.import_batch import Batch, ListKey
from gate.cli.output import shown_id
from gate.core.model import AppFacts, ListKind

if TYPE_CHECKING:
    from gate.store.bulk import BulkWriter
    from gate.store.writer import WriteReceipt

FLUSH_ENTRIES = 500_000
"""At most so many lines are remembered, some 100 MB if each is a list of its own."""

Refuse = Callable[[str, int, str], None]
"""Called with file, line and problem."""

_WORDS = {ListKind.BLACKLIST: "Blacklist", ListKind.WHITELIST: "Whitelist"}


class ImportWriter:
    """Feeds one BulkWriter. `entries` counts what was handed over and not refused."""

    def __init__(self, bulk: BulkWriter, app: AppFacts, refuse: Refuse) -> None:
        self._bulk = bulk
        self._app = app
        self._ceiling = app.list_ceiling
        self._refuse = refuse
        self._lines: dict[ListKey, tuple[str, int]] = {}
        self._since_flush = 0
        self._reported = 0
        self.entries = 0

    async def put(self, batch: Batch) -> None:
        """Hand over a Batch; waits while too much is under way. Raises `StoreUnavailable`."""
        bulk = self._bulk
        refused = await self._refused(batch)
        for user, (_, at_ms, name, portrait) in batch.registered.items():
            if user not in refused:
                await bulk.register(user, name, portrait, at_ms)
        for user, ban in batch.bans.items():
            await bulk.ban(user, *ban)
        for user, mute in batch.mutes.items():
            await bulk.mute(user, *mute)
        for key, members in batch.lists.items():
            self._lines.setdefault(key, (batch.source, batch.lines[key]))
            await self._put_list(key, members)
        for user, on in batch.switches.items():
            await bulk.switch(user, on)
        self.entries += batch.entries - len(refused)
        self._since_flush += batch.entries
        if self._since_flush >= FLUSH_ENTRIES:
            await self.flush()

    async def flush(self) -> WriteReceipt:
        """Wait until everything is in, and report the lists that were refused. Raises `StoreUnavailable`."""
        result = await self._bulk.flush()
        for full in result.full[self._reported :]:
            file, line = self._lines.get((full.kind, full.owner), ("", 0))
            self._refuse(
                file,
                line,
                f"the {_WORDS[full.kind]} of {shown_id(full.owner)} holds {full.size:,} entries and {full.adding:,} more"
                f" would pass the App's ceiling of {self._ceiling:,}: these were left out (gate app set --list-ceiling)",
            )
            self.entries -= full.adding
        self._reported = len(result.full)
        self._lines.clear()
        self._since_flush = 0
        return result.written

    async def _refused(self, batch: Batch) -> frozenset[bytes]:
        """The Users past the App's limit; each is reported."""
        if self._app.most_users is None or not batch.registered:
            return frozenset()
        refused = await self._bulk.reserve(self._app, list(batch.registered))
        for user in refused:
            self._refuse(
                batch.source,
                batch.registered[user].line,
                f"the App may have {self._app.most_users:,} registered Users, and has them: {shown_id(user)} was left out"
                " (gate app set --user-limit, or --environment production)",
            )
        return frozenset(refused)

    async def _put_list(self, key: ListKey, members: dict[bytes, int]) -> None:
        by_end: dict[int, list[bytes]] = {}
        for member, until_ms in members.items():
            by_end.setdefault(until_ms, []).append(member)
        for until_ms, some in by_end.items():
            await self._bulk.add(*key, some, until_ms)
