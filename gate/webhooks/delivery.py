"""Delivery: takes results that are due, POSTs each to its App's webhook, and records the outcome.

At least once: a result is removed after a 2xx answer, so a receiver may get one twice (same `operateId` and `userId`). After
any other answer it is sent again, with growing delays, and given up after the last of `WAITS_MS`. Redis counts the attempts,
so workers may die and nodes may share the work. Used by the background role.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gate.core.model import AppFacts
from gate.errors import AppUnknown, StoreUnavailable
from gate.store.apps import Apps
from gate.store.webhook_queue import QueuedWebhook, WebhookQueue
from gate.webhooks.callback import form_of
from gate.webhooks.posting import Poster

# After the 1st, 2nd, ... attempt, each up to half as long again: the last attempt is 7 to 11 hours after the first. The first
# wait is longer than an attempt may take: an attempt under way is not made twice.
WAITS_MS = (10_000, 30_000, 120_000, 600_000, 3_600_000, 3_600_000, 3_600_000, 14_400_000)
# Attempts at a time: a receiver that hangs holds up this many for `TIMEOUT_S` each.
MAX_UNDER_WAY = 64
FORM_TYPE = "application/x-www-form-urlencoded"

log = structlog.get_logger()

Outcome = Callable[[str], None]
"""Counts what became of an attempt: `delivered`, `failed`, `dead` or `unwanted`."""


class Deliverer:
    """One a process. `run_once` takes what is due and leaves it running; `drain` waits for that."""

    def __init__(
        self,
        queue: WebhookQueue,
        apps: Apps,
        consumer: str,
        count: Outcome = lambda outcome: None,
        waits_ms: tuple[int, ...] = WAITS_MS,
    ) -> None:
        self._queue = queue
        self._apps = apps
        self._consumer = consumer
        self._count = count
        self._waits_ms = waits_ms
        self._poster = Poster()
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Deliverer:
        await self._poster.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        """What is under way is left to the next attempt."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._poster.__aexit__(*failure)

    async def run_once(self) -> int:
        """Begin to deliver what is due, as far as there is room; answers how many. Raises `StoreUnavailable`."""
        room = MAX_UNDER_WAY - len(self._under_way)
        if room <= 0:
            return 0
        taken = await self._queue.take(self._consumer, room, self._waits_ms)
        for hook in taken:
            task = asyncio.get_running_loop().create_task(self._deliver(hook))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return len(taken)

    async def drain(self) -> None:
        """Wait for the attempts that are under way."""
        await asyncio.gather(*self._under_way)

    async def _deliver(self, hook: QueuedWebhook) -> None:
        try:
            app = await self._wanted(hook)
            problem = "" if app is None else await self._poster.post(app, app.webhook_url, form_of(hook), FORM_TYPE)
            if not problem:
                await self._queue.done(hook, is_wanted=app is not None)
            elif hook.attempt > len(self._waits_ms):
                await self._queue.bury(hook, problem)
            else:
                await self._queue.failed(hook, problem)
            outcome = "unwanted" if app is None else "delivered" if not problem else self._lost(hook, problem)
            self._count(outcome)
        except StoreUnavailable as away:  # it stays pending, and comes again
            log.debug("a webhook's result is not written down", problem=str(away))

    async def _wanted(self, hook: QueuedWebhook) -> AppFacts | None:
        """The App, if it is there and has a webhook."""
        try:
            app = await self._apps.get(hook.app)
        except AppUnknown:
            return None
        return app if app.webhook_url else None

    def _lost(self, hook: QueuedWebhook, problem: str) -> str:
        is_dead = hook.attempt > len(self._waits_ms)
        write = log.warning if is_dead else log.info
        write("a webhook did not take a result", app=hook.app, operation=hook.operation, attempt=hook.attempt,
              problem=problem, given_up=is_dead)  # fmt: skip
        return "dead" if is_dead else "failed"
