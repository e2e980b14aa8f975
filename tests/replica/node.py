"""A replicator that runs next to the test, and readers of the same directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.revision import Revision
from gate.core.verdict import Word
from gate.replica.ports import Announcer, ChangeSource, Upstream
from gate.replica.positions import reaches
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from gate.replica.replicator import Replicator
from gate.replica.status_page import State, StatusView
from harness.waiting import wait_until_async

PATIENCE_S = 20.0
APP = "app"


class Node:
    """A running replicator and a reader on the same machine, for a test."""

    def __init__(self, directory: Path, source: ChangeSource, announcer: Announcer, **options: Any) -> None:
        self.directory = directory
        self.replicator = Replicator(directory, Upstream(source, announcer), **options)
        self.logged: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._reader: Reading | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)  # the writer opens the file before any reader of this process

    async def stop(self) -> None:
        """In order, as on SIGTERM."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._task is not None:
            self.replicator.stop()
            await asyncio.wait_for(self._task, PATIENCE_S)
            self._task = None

    async def _run(self) -> None:
        structlog.configure(processors=[self._keep])
        try:
            await self.replicator.run()
        finally:
            structlog.reset_defaults()

    def _keep(self, _logger: Any, _method: str, event: Any) -> Any:
        self.logged.append(dict(event))
        raise structlog.DropEvent

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def reader(self) -> Reading:
        if self._reader is None:
            self._reader = Reading(self.directory)
        return self._reader

    @property
    def status_page(self) -> StatusView:
        return self.reader.view()

    def word(self, sender: bytes, recipient: bytes) -> Word:
        with self.reader as snapshot:
            return app_of(snapshot, APP).decide(sender, recipient, wall_ms()).word

    def settings(self) -> AppFacts | None:
        with self.reader as snapshot:
            app = snapshot.app(APP)
            return app.app if app else None

    def reasons(self) -> list[str]:
        """Why snapshots were loaded, out of the log lines."""
        return [line["reason"] for line in self.logged if "reason" in line and line["event"].endswith("in use")]

    async def until(self, condition: Callable[[], object | Awaitable[object]], what: str) -> None:
        def asked() -> object:
            if self._task is not None and self._task.done():
                self._task.result()
                raise AssertionError(f"the replicator ended while waiting for: {what}")
            return condition()

        await wait_until_async(asked, PATIENCE_S, what)

    async def until_ready(self) -> None:
        await self.until(self.replicator.ready.is_set, "the node to be ready")

    async def until_state(self, state: State) -> None:
        await self.until(lambda: self.status_page.state is state, f"the state {state.name}")

    async def until_word(self, sender: bytes, recipient: bytes, word: Word) -> None:
        await self.until(lambda: self.word(sender, recipient) == word, f"{sender!r} to {recipient!r}: {word}")

    async def until_reloaded(self, generation: int) -> None:
        await self.until(
            lambda: self.status_page.generation == generation and self.status_page.state is State.CURRENT,
            f"generation {generation} to be current",
        )


@asynccontextmanager
async def running(directory: Path, source: ChangeSource, announcer: Announcer, **options: Any) -> AsyncIterator[Node]:
    node = Node(directory, source, announcer, **options)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def reached(replica: Reading, revisions: Iterable[Revision]) -> bool | None:
    """Whether all of these are applied; None where one is of another history."""
    with replica as snapshot:
        return reaches(snapshot, revisions)
