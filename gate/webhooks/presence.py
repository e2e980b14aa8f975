"""The presence webhook: tells each App's feed to its receiver, batch by batch, from a cursor that Redis keeps.

At least once, and in order: the cursor moves behind a batch that was taken, and the next batch is not sent before. What is not
taken is tried again, later each time, for as long as it takes; meanwhile the feed waits in Redis, which keeps some 130,000
entries. What it no longer keeps is counted as lost, and the oldest that is kept comes next.

One node at a time tells an App: it claims the App, renews that, and begins no attempt that could end more than `CLAIM_MS` after
the last renewal. A node that dies is replaced once another has seen no renewal for so long on its own monotonic clock. All Apps
share one short poll; only one that has something to tell costs more, and one whose receiver hangs holds up nobody. Apps without
such a webhook are not looked at unless settings change.

Called by the background role, `run` until cancelled. The facts may lie in another Redis than Presence; either may be away.
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
from gate.webhooks.presence_body import JSON_TYPE, body_of, told_of

LOOK_EVERY_MS = 250
"""How soon what changed is found: a receiver hears of it well within a second."""
LIST_EVERY_MS = 1_000
"""At most so often are settings read again, however many writes there are."""
MOST_A_BATCH = 100
MOST_A_READ = 1_000
RENEW_EVERY_MS = 3_000
TRY_EVERY_MS = 1_000
"""How often to look at what another node has: it takes over `CLAIM_MS` and twice that after the last renewal, at most."""
ATTEMPT_MS = int(TIMEOUT_S * 1_000) + 500
"""What must be left of a claim when an attempt begins."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 1_000, 60_000
GRACE_S = 1.0
"""For attempts that are under way when the process is told to stop."""
SKEW_US = 60_000_000
"""How far apart the clocks of servers that stand in for each other may be. So much is told again where a feed went back."""

_log = structlog.get_logger()

CountBatch = Callable[[str], None]
"""Counts what became of an attempt at a batch: `delivered` or `failed`."""
CountChanges = Callable[[str, int], None]
"""Counts entries of the feed: `delivered` or `lost`, and how many."""


class Receiver:
    """One App with the webhook, whoever tells it."""

    def __init__(self, app: AppFacts, client: Client) -> None:
        self.app = app
        self.feed = Feed(client, app.key)
        self.cursor: Cursor | None = None
        """Behind what was told. None while the App is not ours; what Redis keeps may lag behind it, not the other way round."""
        self.batch: list[Event] = []
        """Read, and not taken yet."""
        self.kept: Cursor | None = None
        """What Redis kept when it was last asked, whoever told; should it lose that, this is where to go on."""
        self.is_checked = False
        """Whether the cursor was held against this server's feed; one that went back may have come to the same number again."""
        self.failures = 0
        self.not_before_ms = 0
        self.ours_until_ms = 0
        self.claim_at_ms = 0
        self.running: asyncio.Task[None] | None = None

    @property
    def claiming(self) -> Claiming:
        """What to ask for."""
        return Claiming(self.app.key, self.cursor)

    def begin_anew(self) -> None:
        """Forget failures: there is another address to try."""
        self.failures, self.not_before_ms = 0, 0

    def let_go(self, now_ms: int) -> None:
        """It is another's."""
        self.cursor, self.batch, self.ours_until_ms, self.is_checked = None, [], 0, False
        self.claim_at_ms = now_ms + TRY_EVERY_MS
        self.begin_anew()

    def put_off(self, now_ms: int) -> None:
        """An attempt failed."""
        self.not_before_ms = now_ms + min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(self.failures, 16))
        self.failures += 1


class PresenceNotifier:
    """One a process."""

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
        """Tell for ever. When cancelled, what is claimed is given back, so that another node goes on at once."""
        async with self.poster:
            try:
                while True:
                    await self.look()
                    await asyncio.sleep(LOOK_EVERY_MS / 1_000)
            finally:
                await self._leave()

    async def look(self) -> None:
        """One round: who is to be told, who tells, and whether there is something to tell. Does not wait for receivers."""
        try:
            await self._list()
        except StoreUnavailable as away:  # the Apps that are known are told meanwhile
            _log.debug("settings are read later", problem=str(away))
        try:
            await self._forget()
            await self._claim()
            await self._begin()
        except StoreUnavailable as away:
            _log.debug("presence webhooks are put off", problem=str(away))

    # Who is to be told

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
        if is_first:  # of Apps that had one while no node ran
            self.to_forget += others
        for app in wanted:
            known = self.receivers.setdefault(app.key, Receiver(app, self._client))
            if known.app.presence_webhook_url != app.presence_webhook_url:
                known.begin_anew()
            known.app = app
        for app_key in self.receivers.keys() - {app.key for app in wanted}:
            await _end(self.receivers.pop(app_key))
            self.to_forget.append(app_key)

    async def _forget(self) -> None:
        """A webhook that comes back begins with what happens then, not with what it missed."""
        forgotten = [app_key for app_key in self.to_forget if app_key not in self.receivers]
        if forgotten:
            # What a node that died has claimed can't be forgotten before that claim may be taken over.
            forgotten = await self._claims.forget(forgotten)
        self.to_forget = forgotten

    # Who tells

    async def _claim(self) -> None:
        now_ms = self._clock()
        # What another took over while an attempt was under way is not asked for before that attempt has ended.
        due = [one for one in self.receivers.values() if now_ms >= one.claim_at_ms and (one.cursor or _is_free(one))]
        claims = await self._claims.claim([one.claiming for one in due]) if due else []
        for one, claim in zip(due, claims, strict=True):
            self._note(one, claim, now_ms)
        begun = [one for one, claim in zip(due, claims, strict=True) if claim.is_ours and one.cursor is None]
        for one in begun:
            one.cursor = one.kept or await one.feed.head()
            await self._renew(one)

    async def _renew(self, one: Receiver) -> bool:
        """Keep the claim, and the cursor with it; whether the App is still ours."""
        now_ms = self._clock()
        (claim,) = await self._claims.claim([one.claiming])
        self._note(one, claim, now_ms)
        return claim.is_ours

    def _note(self, one: Receiver, claim: Claim, asked_at_ms: int) -> None:
        one.kept = claim.cursor or one.kept
        if not claim.is_ours:
            one.let_go(asked_at_ms)
            return
        one.cursor = one.cursor or claim.cursor
        one.ours_until_ms = asked_at_ms + CLAIM_MS
        one.claim_at_ms = asked_at_ms + RENEW_EVERY_MS if one.cursor else 0

    async def _leave(self) -> None:
        self._is_leaving = True
        under_way = [one.running for one in self.receivers.values() if one.running is not None]
        if under_way:  # or the next node would tell what a receiver is just being told
            await asyncio.wait(under_way, timeout=GRACE_S)
        await asyncio.gather(*(_end(one) for one in self.receivers.values()))
        ours = [one.claiming for one in self.receivers.values() if one.cursor is not None]
        try:
            await self._claims.give_back(ours)
        except StoreUnavailable as away:  # others take them over when they are not renewed
            _log.debug("presence webhooks are not given back", problem=str(away))

    # What is told

    async def _begin(self) -> None:
        now_ms = self._clock()
        idle = [one for one in self.receivers.values() if one.cursor and _is_free(one) and now_ms >= one.not_before_ms]
        heads = await self._claims.heads([one.app.key for one in idle])
        if self._client.server_id != self._server_id:
            self._server_id = self._client.server_id
            for one in self.receivers.values():
                one.is_checked = False
        for one, head in zip(idle, heads, strict=True):
            if one.cursor and (one.batch or not one.is_checked or not _is_at(one.cursor, head)):
                one.running = asyncio.create_task(self._tell(one), name=f"the presence webhook of {one.app.key}")

    async def _tell(self, one: Receiver) -> None:
        """Everything that is there, until nothing is left or something is in the way."""
        try:
            while one.cursor is not None and not self._is_leaving:
                place, batch = (one.cursor, one.batch) if one.batch else await self._read(one, one.cursor)
                if not _is_ours(one):  # another's meanwhile
                    return
                one.cursor, one.batch, one.is_checked = place, batch, True
                if not batch or not await self._take(one, batch):
                    return
                if not _is_ours(one):  # which tells this batch again
                    return
                one.cursor, one.batch = batch[-1].cursor, []
                if not await self._renew(one):
                    return
        except (StoreUnavailable, FeedReset) as fault:  # the next look finds it as it is then
            _log.debug("a presence webhook is put off", app=one.app.key, problem=str(fault))

    async def _take(self, one: Receiver, batch: Sequence[Event]) -> bool:
        """Whether the receiver took the batch."""
        told = told_of(batch)
        if not told:
            return True
        if one.ours_until_ms - self._clock() < ATTEMPT_MS and not await self._renew(one):
            return False
        problem = await self.poster.post(one.app, one.app.presence_webhook_url, body_of(told), JSON_TYPE)
        if problem:
            one.put_off(self._clock())
            self._count_batch("failed")
            _log.info("a presence webhook did not take a batch", app=one.app.key, changes=len(told), attempt=one.failures,
                      problem=problem)  # fmt: skip
            return False
        one.begin_anew()
        self._count_batch("delivered")
        self._count_changes("delivered", len(told))
        return True

    # What is lost

    async def _read(self, one: Receiver, after: Cursor) -> tuple[Cursor, list[Event]]:
        """What comes next, and the place before it."""
        try:
            return await self._read_on(one, after, MOST_A_BATCH)
        except FeedReset as reset:
            return await self._read_anew(one, after, str(reset))

    async def _read_on(self, one: Receiver, after: Cursor, most: int) -> tuple[Cursor, list[Event]]:
        """What comes next that this version understands, and the place before it."""
        while True:
            try:
                return after, await one.feed.read(after, most)
            except FeedUnreadable as unread:
                _log.error("a presence webhook can't be told all of the feed", app=one.app.key, lost=unread.many,
                           problem=str(unread))  # fmt: skip
                self._count_changes("lost", unread.many)
                after = behind(unread, after)

    async def _read_anew(self, one: Receiver, after: Cursor, problem: str) -> tuple[Cursor, list[Event]]:
        """From the oldest that is kept; where the feed went back, without what was told. Other slices as they were."""
        slices, lost = await one.feed.slices(), 0
        places, batch = list(after.over(len(slices)).places[: len(slices)]), list[Event]()
        for feed in slices:
            try:
                await feed.read(places[feed.at], 1)
            except FeedUnreadable:
                continue  # which is seen to behind this
            except FeedReset:
                places[feed.at], kept, lost_here = await _anew(feed, places[feed.at])
                # Some of each: what is told is where to read on in that slice.
                batch += kept[: max(1, MOST_A_BATCH // len(slices))]
                lost += lost_here
        _log.warning("a presence webhook can't be told all of the feed", app=one.app.key, cursor=str(after), lost=lost,
                     problem=problem)  # fmt: skip
        self._count_changes("lost", lost)
        place = cursor_of(places)
        return (place, following(place, batch)) if batch else await self._read_on(one, place, MOST_A_BATCH)


async def _anew(feed: SliceFeed, after: Cursor) -> tuple[Cursor, list[Event], int]:
    """In one slice: a place, what is to be told behind it, without what was told before; and how many entries are lost."""
    kept = await feed.read_oldest(MOST_A_READ)
    lost = _lost(after, kept)
    place = BEGINNING if kept else await feed.oldest()
    while told := _told_before(after, kept):
        place, kept = kept[told - 1].cursor, kept[told:]
        if not kept:
            kept = await feed.read(place, MOST_A_READ)
    return place, kept, lost


def _lost(after: Cursor, kept: Sequence[Event]) -> int:
    """How many entries behind a cursor are known to be gone; of a feed that began anew, those of the new one."""
    if not kept:
        return 0
    oldest = kept[0].cursor
    return max(0, oldest.seq - 1 - (after.seq if oldest.epoch == after.epoch else 0))


def _told_before(after: Cursor, kept: Sequence[Event]) -> int:
    """How many of these, from the first on, were told before the feed went back: what it lost then are its newest entries."""
    many = 0
    for event in kept:
        place = event.cursor
        if place.epoch != after.epoch or place.seq > after.seq or place.at_us > after.at_us - SKEW_US:
            break
        many += 1
    return many


def _is_at(cursor: Cursor, head: Sequence[tuple[str, int]]) -> bool:
    return [(place.epoch, place.seq) for place in cursor.over(len(head)).places] == head


def _is_ours(one: Receiver) -> bool:
    return one.cursor is not None


def _is_free(one: Receiver) -> bool:
    """Whether no attempt is under way. A bug in the last one escapes here."""
    if one.running is not None and one.running.done():
        one.running.result()
        one.running = None
    return one.running is None


async def _end(one: Receiver) -> None:
    if one.running is not None:
        one.running.cancel()
        await asyncio.wait([one.running])
