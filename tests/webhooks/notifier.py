"""What tests of presence webhooks share: a Gateway that plays, a notifier that runs, and what a receiver heard."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.store.presence import PresenceStore
from gate.store.store import Store
from gate.webhooks.presence import PresenceNotifier
from harness.waiting import wait_until_async
from tests.presence.played import Gateway
from tests.webhooks.receiver import Receiver

IN_TIME_S = 15.0
KEY, SECRET = "app", "secret-of-the-app"


def app_with_webhook(url: str, key: str = KEY) -> AppFacts:
    """An App with a presence webhook there."""
    return AppFacts(key=key, secrets=(SECRET,), presence_webhook_url=url)


class HandClock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = 5_000

    def __call__(self) -> int:
        return self.now_ms


class Deployment:
    """One deployment: its facts, its Presence, and what its notifiers counted."""

    def __init__(self, store: Store, presence: PresenceStore) -> None:
        self.store = store
        self.presence = presence
        self.counted: Counter[str] = Counter()

    def notifier(self, who: str = "node", **settings: Any) -> PresenceNotifier:
        """The notifier of one node. It delivers nothing before it runs or looks."""

        def count_batch(outcome: str) -> None:
            self.counted[f"batches {outcome}"] += 1

        def count_changes(outcome: str, many: int) -> None:
            self.counted[f"changes {outcome}"] += many

        client = settings.pop("client", self.presence.client)
        return PresenceNotifier(self.store.apps, client, who, count_batch, count_changes, **settings)

    async def add(self, url: str, key: str = KEY) -> Gateway:
        """Create an App with its presence webhook at `url`; return a Gateway of it."""
        app = app_with_webhook(url, key)
        await self.store.apps.create(app, wall_ms())
        return await Gateway(self.presence, app).lease()

    async def set_url(self, url: str, key: str = KEY) -> None:
        """Another address, or none."""
        await self.store.apps.put(app_with_webhook(url, key), wall_ms())


@asynccontextmanager
async def notifying(*notifiers: PresenceNotifier) -> AsyncIterator[None]:
    """They run meanwhile. A bug in one fails the test."""
    running = [asyncio.create_task(notifier.run()) for notifier in notifiers]
    try:
        yield
        for task in running:
            if task.done():
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def watches(notifier: PresenceNotifier, key: str = KEY) -> None:
    """Wait until it has claimed the App: events from now on are delivered."""

    def has_claimed() -> bool:
        one = notifier.receivers.get(key)
        return one is not None and one.cursor is not None

    await wait_until_async(has_claimed, IN_TIME_S, "the App to be claimed")


async def looked(notifier: PresenceNotifier) -> None:
    """One round to its end, where it does not run: what happens afterwards is not read by what the round began."""
    await notifier.look()
    begun = [one.running for one in notifier.receivers.values() if one.running is not None]
    if begun:
        await asyncio.wait(begun)


def batches(receiver: Receiver) -> list[list[dict[str, Any]]]:
    """The arrays that were received, repeated ones too."""
    return [orjson.loads(callback.body) for callback in receiver.callbacks]


def changes(receiver: Receiver) -> list[tuple[str, str]]:
    """User and status of all that was received, in order."""
    return [(one["userid"], one["status"]) for batch in batches(receiver) for one in batch]


async def heard(receiver: Receiver, wanted: Sequence[tuple[str, str]]) -> None:
    """Until exactly this was received."""
    await wait_until_async(lambda: len(changes(receiver)) >= len(wanted), IN_TIME_S, f"{len(wanted)} changes")
    assert changes(receiver) == list(wanted)


def online(users: Sequence[bytes]) -> list[tuple[str, str]]:
    """What is to be heard of Users that came."""
    return [(user.decode(), "0") for user in users]
