"""The presence webhook: sends each App's feed to its receiver, batch by batch, from a cursor that is stored in Redis.

Delivery is at least once, and in order: the cursor moves when the receiver has accepted a batch, and only then is the next
batch sent. A batch that was not accepted is sent again until it is, with growing delays. Meanwhile the feed stays in Redis,
which keeps some 130,000 entries. Entries that Redis dropped are counted as lost; delivery continues with the oldest kept.

One node at a time delivers for an App: it claims the App, renews the claim, and starts no attempt that could end more than
`CLAIM_MS` after the last renewal. Another node takes over when its own monotonic clock has seen no renewal for that long.
All Apps share one short poll. Only an App with new entries costs more, and a receiver that hangs does not delay the others.
Apps without such a webhook are read again only when settings change.

Called by the background role; `run` runs until it is cancelled. The facts may be stored in another Redis than Presence, and
either may be unreachable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from gate.clock import monotonic_ms
from gate.core.model import AppFacts
from gate.core.presence import BEGINNING, Cursor, Event, cursor_of, following
from gate.errors import FeedReset, FeedUnreadable, StoreUnavailable
from gate.store.apps import Apps
from gate.store.client import Client
from gate.store.feed import Feed, behind
from gate.store.slice_feed import SliceFeed
from gate.store.webhook_claims import CLAIM_MS, Claim, Claiming, WebhookClaims
from gate.webhooks.posting import TIMEOUT_S, Poster
from gate.webhooks.presence_body import JSON_TYPE, body_of, webhook_events

# Interval of the poll: a receiver gets a change well within a second.
LOOK_EVERY_MS = 250
# Shortest interval between two reads of the settings, however often they change.
LIST_EVERY_MS = 1_000
MOST_A_BATCH = 100
MOST_A_READ = 1_000
RENEW_EVERY_MS = 3_000
# Interval between attempts at another node's claim. A takeover follows the last renewal by at
# most `CLAIM_MS` plus twice this.
TRY_EVERY_MS = 1_000
# A claim must last at least this long when an attempt starts.
ATTEMPT_MS = int(TIMEOUT_S * 1_000) + 500
FIRST_WAIT_MS, LONGEST_WAIT_MS = 1_000, 60_000
# For attempts in progress when the process shuts down.
GRACE_S = 1.0
# Largest difference between the clocks of servers that replace each other. After a rollback of the feed, entries of this
# last stretch of time are delivered again.
SKEW_US = 60_000_000

_log = structlog.get_logger()

CountBatch = Callable[[str], None]
"""Counts attempts to deliver a batch, by outcome: `delivered` or `failed`."""
CountChanges = Callable[[str, int], None]
"""Adds to the count of feed entries by outcome: `delivered` or `lost`."""


class Receiver:
    """One App with the webhook, whichever node delivers for it."""

    def __init__(self, app: AppFacts, client: Client) -> None:
        self.app = app
        self.feed = Feed(client, app.key)
        self.cursor: Cursor | None = None
        """After the last delivered entry; None while another node has the claim. The cursor in Redis may be behind it."""
        self.batch: list[Event] = []
        """Read, and not accepted yet."""
        self.kept: Cursor | None = None
        """The cursor in Redis at the last read, whichever node stored it. Delivery continues here if Redis loses it."""
        self.is_checked = False
        """Whether the cursor was compared with this server's feed. A feed that was rolled back may reuse the same number."""
        self.failures = 0
        self.not_before_ms = 0
        self.ours_until_ms = 0
        self.claim_at_ms = 0
        self.running: asyncio.Task[None] | None = None

    @property
    def claiming(self) -> Claiming:
        """The claim to request."""
        return Claiming(self.app.key, self.cursor)

    def reset_backoff(self) -> None:
        """Allow the next attempt at once: the last one succeeded, or the URL is new."""
        self.failures, self.not_before_ms = 0, 0

    def let_go(self, now_ms: int) -> None:
        """Another node has the claim."""
        self.cursor, self.batch, self.ours_until_ms, self.is_checked = None, [], 0, False
        self.claim_at_ms = now_ms + TRY_EVERY_MS
        self.reset_backoff()

    def put_off(self, now_ms: int) -> None:
        """An attempt failed; delay the next one."""
        self.not_before_ms = now_ms + min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(self.failures, 16))
        self.failures += 1


class PresenceNotifier:
    """Delivers the presence webhooks of all Apps that this node has claimed. One per process."""

    def __init__(
        self,
        apps: Apps,
        client: Client,
        who: str,
        count_batch: CountBatch = lambda outcome: None,
        count_changes: CountChanges = lambda outcome, many: None,
        clock: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._apps = apps
        self._client = client
        self._claims = WebhookClaims(client, who, clock)
        self._count_batch = count_batch
        self._count_changes = count_changes
        self._clock = clock
        self.poster = Poster()
        self.receivers: dict[str, Receiver] = {}
        self._moved_at: tuple[Any, ...] | None = None
        self._list_at_ms = 0
        self.to_forget: list[str] = []
        self._server_id = ""
        self._is_leaving = False

    async def run(self) -> None:
        """Deliver until cancelled. Cancelling gives the claims back, so that another node continues at once."""
        async with self.poster:
            try:
                while True:
                    await self.look()
                    await asyncio.sleep(LOOK_EVERY_MS / 1_000)
            finally:
                await self._leave()

    async def look(self) -> None:
        """Run one round: read the settings, claim Apps, start deliveries. Does not wait for receivers."""
        try:
            await self._list()
        except StoreUnavailable as away:  # the Apps that are known are served meanwhile
            _log.debug("settings are read later", problem=str(away))
        try:
            await self._forget()
            await self._claim()
            await self._begin()
        except StoreUnavailable as away:
            _log.debug("presence webhooks are put off", problem=str(away))

    # Which Apps have the webhook

    async def _list(self) -> None:
        now_ms = self._clock()
        if now_ms < self._list_at_ms:
            return
        moved_at = await self._apps.moved_at()
        if moved_at == self._moved_at:
            return
        is_first = self._moved_at is None
        wanted, others = await self._apps.with_presence_webhook()
        self._moved_at, self._list_at_ms = moved_at, now_ms + LIST_EVERY_MS
        if is_first:  # of Apps whose webhook was removed while no node ran
            self.to_forget += others
        for app in wanted:
            known = self.receivers.setdefault(app.key, Receiver(app, self._client))
            if known.app.presence_webhook_url != app.presence_webhook_url:
                known.reset_backoff()
            known.app = app
        for app_key in self.receivers.keys() - {app.key for app in wanted}:
            await _end(self.receivers.pop(app_key))
            self.to_forget.append(app_key)

    async def _forget(self) -> None:
        """Delete the cursors of removed webhooks: one that is configured again starts with the changes from then on."""
        forgotten = [app_key for app_key in self.to_forget if app_key not in self.receivers]
        if forgotten:
            # The claim of a node that died can't be deleted before another node may take it over.
            forgotten = await self._claims.forget(forgotten)
        self.to_forget = forgotten

    # Which node delivers

    async def _claim(self) -> None:
        now_ms = self._clock()
        # If another node took the claim during an attempt, the claim is requested again only after that attempt has ended.
        due = [
            receiver
            for receiver in self.receivers.values()
            if now_ms >= receiver.claim_at_ms and (receiver.cursor or _is_free(receiver))
        ]
        claims = await self._claims.claim([receiver.claiming for receiver in due]) if due else []
        for receiver, claim in zip(due, claims, strict=True):
            self._note(receiver, claim, now_ms)
        begun = [
            receiver for receiver, claim in zip(due, claims, strict=True) if claim.is_ours and receiver.cursor is None
        ]
        for receiver in begun:
            receiver.cursor = receiver.kept or await receiver.feed.head()
            await self._renew(receiver)

    async def _renew(self, receiver: Receiver) -> bool:
        """Renew the claim and store the cursor. False if another node has the claim."""
        now_ms = self._clock()
        (claim,) = await self._claims.claim([receiver.claiming])
        self._note(receiver, claim, now_ms)
        return claim.is_ours

    def _note(self, receiver: Receiver, claim: Claim, asked_at_ms: int) -> None:
        receiver.kept = claim.cursor or receiver.kept
        if not claim.is_ours:
            receiver.let_go(asked_at_ms)
            return
        receiver.cursor = receiver.cursor or claim.cursor
        receiver.ours_until_ms = asked_at_ms + CLAIM_MS
        receiver.claim_at_ms = asked_at_ms + RENEW_EVERY_MS if receiver.cursor else 0

    async def _leave(self) -> None:
        self._is_leaving = True
        under_way = [receiver.running for receiver in self.receivers.values() if receiver.running is not None]
        if under_way:  # without this wait, the next node would deliver a batch that the receiver is just accepting
            await asyncio.wait(under_way, timeout=GRACE_S)
        await asyncio.gather(*(_end(receiver) for receiver in self.receivers.values()))
        ours = [receiver.claiming for receiver in self.receivers.values() if receiver.cursor is not None]
        try:
            await self._claims.give_back(ours)
        except StoreUnavailable as away:  # other nodes take the claims over when they are no longer renewed
            _log.debug("presence webhooks are not given back", problem=str(away))

    # Delivery

    async def _begin(self) -> None:
        now_ms = self._clock()
        idle = [
            receiver
            for receiver in self.receivers.values()
            if receiver.cursor and _is_free(receiver) and now_ms >= receiver.not_before_ms
        ]
        heads = await self._claims.heads([receiver.app.key for receiver in idle])
        if self._client.server_id != self._server_id:
            self._server_id = self._client.server_id
            for receiver in self.receivers.values():
                receiver.is_checked = False
        for receiver, head in zip(idle, heads, strict=True):
            if receiver.cursor and (receiver.batch or not receiver.is_checked or not _is_at(receiver.cursor, head)):
                receiver.running = asyncio.create_task(
                    self._deliver(receiver), name=f"the presence webhook of {receiver.app.key}"
                )

    async def _deliver(self, receiver: Receiver) -> None:
        """Deliver until the feed has no more entries, an attempt fails, or another node takes the claim."""
        try:
            while receiver.cursor is not None and not self._is_leaving:
                place, batch = (
                    (receiver.cursor, receiver.batch) if receiver.batch else await self._read(receiver, receiver.cursor)
                )
                if not _is_ours(receiver):  # another node took the claim during the read
                    return
                receiver.cursor, receiver.batch, receiver.is_checked = place, batch, True
                if not batch or not await self._post(receiver, batch):
                    return
                if not _is_ours(receiver):  # the new owner delivers this batch again
                    return
                receiver.cursor, receiver.batch = batch[-1].cursor, []
                if not await self._renew(receiver):
                    return
        except (StoreUnavailable, FeedReset) as fault:  # the next round starts from what Redis has then
            _log.debug("a presence webhook is put off", app=receiver.app.key, problem=str(fault))

    async def _post(self, receiver: Receiver, batch: Sequence[Event]) -> bool:
        """Send a batch. True if the receiver accepted it, or if it has no entry for the receiver."""
        changes = webhook_events(batch)
        if not changes:
            return True
        if receiver.ours_until_ms - self._clock() < ATTEMPT_MS and not await self._renew(receiver):
            return False
        problem = await self.poster.post(receiver.app, receiver.app.presence_webhook_url, body_of(changes), JSON_TYPE)
        if problem:
            receiver.put_off(self._clock())
            self._count_batch("failed")
            _log.info("a presence webhook did not take a batch", app=receiver.app.key, changes=len(changes),
                      attempt=receiver.failures, problem=problem)  # fmt: skip
            return False
        receiver.reset_backoff()
        self._count_batch("delivered")
        self._count_changes("delivered", len(changes))
        return True

    # Reading, and counting what is lost

    async def _read(self, receiver: Receiver, after: Cursor) -> tuple[Cursor, list[Event]]:
        """Return the next entries, and the position before them."""
        try:
            return await self._read_on(receiver, after, MOST_A_BATCH)
        except FeedReset as reset:
            return await self._read_after_reset(receiver, after, str(reset))

    async def _read_on(self, receiver: Receiver, after: Cursor, most: int) -> tuple[Cursor, list[Event]]:
        """Return the next entries that this version can read, and the position before them."""
        while True:
            try:
                return after, await receiver.feed.read(after, most)
            except FeedUnreadable as unread:
                _log.error("a presence webhook misses unreadable entries of the feed", app=receiver.app.key, lost=unread.many,
                           problem=str(unread))  # fmt: skip
                self._count_changes("lost", unread.many)
                after = behind(unread, after)

    async def _read_after_reset(self, receiver: Receiver, after: Cursor, problem: str) -> tuple[Cursor, list[Event]]:
        """Read each slice that was reset from its oldest kept entry, without those delivered before a rollback.

        The positions in the other slices do not change.
        """
        slices, lost = await receiver.feed.slices(), 0
        places, batch = list(after.over(len(slices)).places[: len(slices)]), list[Event]()
        for feed in slices:
            try:
                await feed.read(places[feed.at], 1)
            except FeedUnreadable:
                continue  # `_read_on` skips these
            except FeedReset:
                places[feed.at], kept, lost_here = await _after_reset(feed, places[feed.at])
                # Some of each slice: the last delivered entry is the position to continue from in that slice.
                batch += kept[: max(1, MOST_A_BATCH // len(slices))]
                lost += lost_here
        _log.warning("a presence webhook can't continue at its cursor", app=receiver.app.key, cursor=str(after), lost=lost,
                     problem=problem)  # fmt: skip
        self._count_changes("lost", lost)
        place = cursor_of(places)
        return (place, following(place, batch)) if batch else await self._read_on(receiver, place, MOST_A_BATCH)


async def _after_reset(feed: SliceFeed, after: Cursor) -> tuple[Cursor, list[Event], int]:
    """Return for one slice: a position, the entries to deliver after it, and how many entries are lost."""
    kept = await feed.read_oldest(MOST_A_READ)
    lost = _lost(after, kept)
    place = BEGINNING if kept else await feed.oldest()
    while delivered := _delivered_before(after, kept):
        place, kept = kept[delivered - 1].cursor, kept[delivered:]
        if not kept:
            try:
                kept = await feed.read(place, MOST_A_READ)
            except FeedUnreadable:
                break  # `_read_on` skips and counts these, from this position on
    return place, kept, lost


def _lost(after: Cursor, kept: Sequence[Event]) -> int:
    """Return how many entries after a cursor are known to be lost. In a feed with a new epoch, only its own are counted."""
    if not kept:
        return 0
    oldest = kept[0].cursor
    return max(0, oldest.seq - 1 - (after.seq if oldest.epoch == after.epoch else 0))


def _delivered_before(after: Cursor, kept: Sequence[Event]) -> int:
    """Return how many of these leading entries were already delivered. A rollback loses only the newest entries of a feed."""
    many = 0
    for event in kept:
        place = event.cursor
        if place.epoch != after.epoch or place.seq > after.seq or place.at_us > after.at_us - SKEW_US:
            break
        many += 1
    return many


def _is_at(cursor: Cursor, head: Sequence[tuple[str, int]]) -> bool:
    return [(place.epoch, place.seq) for place in cursor.over(len(head)).places] == head


def _is_ours(receiver: Receiver) -> bool:
    return receiver.cursor is not None


def _is_free(receiver: Receiver) -> bool:
    """Whether no attempt is in progress. Raises the exception of the last attempt, which is always a bug."""
    if receiver.running is not None and receiver.running.done():
        receiver.running.result()
        receiver.running = None
    return receiver.running is None


async def _end(receiver: Receiver) -> None:
    if receiver.running is not None:
        receiver.running.cancel()
        await asyncio.wait([receiver.running])
