"""A Redis in memory, which a test can trim, empty, restore, fork and switch off at any step; and a node that only listens.

It follows the store's contract in `replica.ports`. The tests on real servers cover timing and the wire.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from gate.clock import monotonic_ms
from gate.core.changes import Change
from gate.core.revision import NOWHERE, Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable
from tests.replica.model import Changes, Model, subject_of

READ_LIMIT = 1_000


class ScriptedRedis:
    """A `ChangeSource`. `write` does the work of a script: change the facts and append the Change, in one step."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.logs = [Changes(f"{partition + 1:016x}") for partition in range(partitions)]
        self.model = Model()
        self.first_held = [1] * partitions
        self.is_away = False
        self.server_id = "run-1"
        self.snapshots = 0
        self.calls: list[str] = []
        self.during_snapshot: Callable[[int], None] = lambda step: None
        self._epochs_made = partitions
        self._news = asyncio.Event()

    def write(self, partition: int, kind: str, user: bytes = b"", members: Sequence[bytes] = (), **rest: Any) -> Change:
        log = self.logs[partition]
        change = log.app_set(**rest) if kind == "app-set" else log(kind, user, members, **rest)
        self.model.apply(change)
        self._news.set()
        return change

    # What may happen to it

    def trim(self, partition: int, first_held: int) -> None:
        self.first_held[partition] = first_held

    def lose_entry(self, partition: int, seq: int) -> None:
        """An unexplained hole."""
        log = self.logs[partition].log
        log[:] = [change for change in log if change.seq != seq]

    def restart_empty(self) -> None:
        self.server_id += "'"
        self.model = Model()
        self.logs = [Changes("") for _ in range(self.partitions)]
        self.first_held = [1] * self.partitions
        self._news.set()

    def saved(self) -> tuple[Model, list[Changes], list[int]]:
        return copy.deepcopy((self.model, self.logs, self.first_held))

    def restore(self, saved: tuple[Model, list[Changes], list[int]]) -> None:
        self.server_id += "'"
        self.model, self.logs, self.first_held = copy.deepcopy(saved)
        self._news.set()

    # ChangeSource

    def reconnect(self, problem: str) -> None:
        self.calls.append("reconnect")

    @property
    def is_partly_away(self) -> bool:
        return False

    async def prepare(self) -> None:
        self._answer("prepare")
        for log in self.logs:
            if not log.epoch:
                self._epochs_made += 1
                log.epoch = f"{self._epochs_made:016x}"

    async def heads(self) -> list[Position]:
        self._answer("heads")
        return [self._head(log) for log in self.logs]

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        self._answer("write_id_at")
        return next((change.write_id for change in self._held(partition) if change.seq == seq), None)

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        self._answer("read")
        found = self._after(after)
        if not found:
            self._news.clear()
            try:
                async with asyncio.timeout(block_ms / 1_000):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._answer("read")
            found = self._after(after)
        return found

    async def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """One part at a time, each read at its own moment, as a SCAN does."""
        self.snapshots += 1
        shown: set[object] = set()
        step = 0
        for _ in range(2):  # what was made meanwhile may show as well
            for subject in [subject_of(part) for part in self.model.parts()]:
                self._answer("snapshot")
                if subject in shown or (part := self.model.part(subject)) is None:
                    continue
                shown.add(subject)
                yield [part]
                self.during_snapshot(step)
                step += 1
                await asyncio.sleep(0)

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.is_away:
            raise StoreUnavailable("away, as the test says")

    def _held(self, partition: int) -> list[Change]:
        return [change for change in self.logs[partition].log if change.seq >= self.first_held[partition]]

    def _after(self, after: Sequence[Position]) -> dict[int, list[Change]]:
        found = {
            partition: [change for change in self._held(partition) if change.seq > position.seq][:READ_LIMIT]
            for partition, position in enumerate(after)
        }
        return {partition: batch for partition, batch in found.items() if batch}

    def _head(self, log: Changes) -> Position:
        if not log.epoch:
            return NOWHERE
        last = log.log[-1] if log.log else None
        return Position(log.epoch, last.seq if last else 0, last.write_id if last else "")


class Listener:
    """An `Announcer` that records its announcements."""

    def __init__(self, source: ScriptedRedis) -> None:
        self._source = source
        self.said: list[dict[int, Position]] = []
        self.renewals = 0
        self.has_left = False

    @property
    def server_id(self) -> str:
        return self._source.server_id

    @property
    def reached_at_ms(self) -> int:
        return monotonic_ms()

    @property
    def address_problem(self) -> str:
        return ""

    async def serve_requests(self, asked: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    async def renew(self, applied: Mapping[int, Position]) -> str:
        self._source._answer("renew")
        self.renewals += 1
        self.said.append(dict(applied))
        return self.server_id

    async def announce(self, applied: Mapping[int, Position], server_id: str) -> None:
        if server_id == self.server_id:
            self._source._answer("announce")
            self.said.append(dict(applied))

    async def leave(self) -> None:
        self._source._answer("leave")
        self.has_left = True
