"""An App's feed: what is new since a cursor, for callers that come back now and then, and events as they happen.

`GET /v1/presence/changes?since=&limit=`: what is new since a cursor, one line a User.

    {"changes": [{"user": "alice", "online": true, "at_ms": …, "platforms": [{"platform": "iOS", "online": true, "at_ms": …}]}],
     "cursor": …, "more": false}

A reader first takes the head (no `since`), then reads the state (`/v1/presence/online`), and then asks for changes again and
again, with the cursor of the answer before. Every change that follows on from a cursor is reported once: what came in between
is collapsed into the newest. If entries of the feed are no longer kept since a cursor, or Redis lost some, the answer is 410
`cursor-gone`, and the reader begins again.

`/v1/events`: an App's feed as server-sent events, in order, from a cursor on, without end.

    id: 6543…-17-62…
    event: online
    data: {"user":"alice","platform":"iOS","session":…,"gateway":"edge-1","ip":…,"at_ms":…,"since_ms":…}

`id` is the cursor behind the event: a client that comes back with it (`Last-Event-ID`, as browsers do by themselves, or
`since`) misses nothing. A line `id` alone moves the cursor of a reader whose filter lets little through. If the feed can't be
read on from a cursor, an `event: reset` says so, with the newest cursor as its `id`, and the stream ends: read the state again.

While Redis is away the stream stays open and silent but for its comments, and goes on when Redis is back. A reader that
takes nothing for half a minute is cut off; it finds what it missed by its cursor.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Self

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gate.clock import monotonic_ms
from gate.core.presence import KINDS, Cursor, Event, EventFilter, Kind, parse_cursor, parse_gateway
from gate.core.scopes import PRESENCE
from gate.errors import AppUnknown, FeedReset, InvalidInput, ReplicaError, ScopeMissing, StoreUnavailable
from gate.http.auth import admitted_caller
from gate.http.bodies import release_body
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.errors import CredentialsWrong
from gate.http.fields import FeedCursor, GatewayName, IdJson, json_id, up_to
from gate.http.forms import Form, Query
from gate.http.requests import Body

# Of the feed in one answer: some 1.5 MB to read, some 40 ms to collapse.
MAX_ENTRIES = 10_000
DEFAULT_ENTRIES = 1_000
READ_AGAIN = (
    "take a new cursor (leave `since` out), read the state with GET /v1/presence/online, and go on from that cursor"
)


class ChangesQuery(Query, frozen=True):
    """Since when, and how many."""

    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)] = DEFAULT_ENTRIES
    since: FeedCursor | None = None


class PlatformChange(Struct, kw_only=True):
    """The newest state of a platform that came or went."""

    platform: str
    online: bool
    at_ms: int


class PresenceChange(Struct, kw_only=True):
    """A User's newest state, and that of the platforms that came or went."""

    user: IdJson
    online: bool
    at_ms: int
    platforms: list[PlatformChange]


class PresenceChanges(Struct, kw_only=True):
    """What is new. Ask again with `cursor`: at once where there is `more`."""

    changes: list[PresenceChange]
    cursor: str
    more: bool


async def changes(call: AppRequest, query: ChangesQuery) -> PresenceChanges:
    """→ changes, cursor, more. Without `since`: the newest cursor and no changes. `limit` bounds how many entries of the feed
    are looked at; where there are `more`, ask again at once."""
    feeds = call.deps.feeds
    if query.since is None:
        return PresenceChanges(changes=[], cursor=str(await feeds.head(call.app_key)), more=False)
    after = cursor_named(query.since, "since")
    try:
        events = await feeds.read(call.app_key, after, query.limit)
    except FeedReset as reset:
        raise FeedReset(f"{reset}: {READ_AGAIN}") from None
    cursor = events[-1].cursor if events else after
    # A full read may have been the last one: then one more call gets nothing, which is cheaper than to read one more.
    return PresenceChanges(changes=collapsed(events), cursor=str(cursor), more=len(events) == query.limit)


def cursor_named(text: str, parameter: str) -> Cursor:
    """The cursor that a caller gives back; `InvalidInput` by this name."""
    try:
        return parse_cursor(text)
    except InvalidInput as fault:
        raise InvalidInput(parameter, fault.problem) from None


def collapsed(events: Iterable[Event]) -> list[PresenceChange]:
    """Each User's newest state, and of each platform that came or went; whose newest change is the oldest stands first."""
    users: dict[bytes, dict[str, Event]] = {}
    for event in events:
        if event.kind == "kick":  # what it led to is an event of its own
            continue
        # Taken out and put back, since a dict keeps its order: the User whose newest change is the oldest stays first.
        platforms = users.pop(event.user, {})
        platforms.pop(event.platform, None)
        users[event.user] = {**platforms, event.platform: event}
    return [_change(user, list(platforms.values())) for user, platforms in users.items()]


def _change(user: bytes, newest: list[Event]) -> PresenceChange:
    platforms = [
        PlatformChange(platform=one.platform, online=one.kind in ("online", "platform-online"), at_ms=one.since_ms)
        for one in newest
    ]
    is_online = newest[-1].kind != "offline"
    return PresenceChange(user=json_id(user), online=is_online, at_ms=newest[-1].since_ms, platforms=platforms)


# Events as they happen


MAX_FOLLOWED_IN_QUERY = 1_000
MAX_FOLLOWED_USERS = 10_000
# How often something is sent whatever happens: proxies close what is silent for a minute.
BEAT_S = 15.0
# How often it is looked whether the reader is still there: one that left takes the place of another.
LOOK_S = 1.0
# How long a reader may take nothing while its buffers are full.
SLOW_S = 30.0
# A reader whose filter let none of so many through gets its position.
SKIPPED_EVENTS = 1_000
RETRY_MS = 2_000
# Readers of a node that shuts down come back spread over this time.
DRAIN_RETRY_MS = (500, 5_000)
CONTENT_TYPE = "text/event-stream"

_HEADERS = {"Content-Type": f"{CONTENT_TYPE}; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class WatchQuery(Query, frozen=True):
    """Which events: of kinds, of Users, of the Sessions of one Gateway; and since which cursor."""

    kinds: (
        Annotated[
            str,
            Meta(
                description=f"With commas between them, of {', '.join(KINDS)}.",
                extra_json_schema={"format": "event-kinds"},
            ),
        ]
        | None
    ) = None
    users: Annotated[
        list[bytes], Meta(min_length=1, max_length=MAX_FOLLOWED_IN_QUERY, description="Only these, a field each.")
    ] = msgspec.field(default_factory=list)
    gateway: (
        Annotated[
            GatewayName,
            Meta(description="Only Sessions that this Gateway holds, and only their kicks unless kinds are named."),
        ]
        | None
    ) = None
    since: FeedCursor | None = None

    @classmethod
    def read(cls, form: Form) -> Self:
        """As of any query, but an empty list is refused: its reader would get the events of all Users."""
        watch = super().read(form)
        for name, value in (("kinds", watch.kinds), ("users", watch.users), ("gateway", watch.gateway)):
            if form.has(name) and not value:
                raise InvalidInput(name, "must hold something, or be left out")
        return watch


class Watching(Body, frozen=True):
    """Which events: of kinds, of Users, of the Sessions of one Gateway; and since which cursor."""

    IS_BATCH: ClassVar[bool] = True

    users: Annotated[list[bytes], up_to(MAX_FOLLOWED_USERS)] | None = None
    kinds: Annotated[list[Kind], Meta(extra_json_schema={"minItems": 1})] | None = None
    gateway: GatewayName | None = None
    since: FeedCursor | None = None


async def watch(call: AppRequest, query: WatchQuery) -> web.StreamResponse:
    """`?kinds=a,b&users=a&users=b&gateway=&since=`. Without a cursor it begins with what comes next. With `gateway`: the kicks
    of Sessions that this Gateway holds, or the kinds that are named."""
    wanted = _wanted(None if query.kinds is None else query.kinds.split(","), query.users, query.gateway)
    return await _streamed(call, wanted, query.since)


async def watch_many(call: AppRequest, body: Watching) -> web.StreamResponse:
    """As GET, for more Users than a query string should hold."""
    release_body(call.request)  # the stream lasts for hours
    return await _streamed(call, _wanted(body.kinds, body.users or [], body.gateway), body.since)


def _wanted(kinds: Sequence[str] | None, users: Sequence[bytes], gateway: str | None) -> EventFilter:
    if kinds is None:
        kinds = KINDS if gateway is None else ("kick",)
    elif not kinds:  # as for Users: an empty list does not mean all
        raise InvalidInput("kinds", f"must hold at least one of {', '.join(KINDS)}, or be left out")
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidInput("kinds", f"must be of {', '.join(KINDS)}, got {kind[:40]!r}")
    named = None if gateway is None else parse_gateway(gateway.encode())
    return EventFilter(frozenset(kinds), frozenset(users), named)


async def _streamed(call: AppRequest, wanted: EventFilter, since: str | None) -> web.StreamResponse:
    """The whole stream. What is wrong with the request is raised before the first byte, and nothing after it."""
    # The header wins: a browser repeats the URL that it began with, whose `since` is old by then.
    since = call.request.headers.get("Last-Event-ID") or since
    response = web.StreamResponse(headers=_HEADERS)
    # Before the head is sent: what is wrong until then is an ordinary answer.
    with call.deps.streams.admitted(call.app_key):
        after = await call.deps.feeds.head(call.app_key) if since is None else cursor_named(since, "since")
        await response.prepare(call.request)
        if call.request.method != "HEAD":
            await _Stream(call, wanted, response).serve(after)
    return response


class _Cut(Exception):
    """The reader disconnected, or is too slow."""


class _Stream:
    """One reader's stream, after the head of the response was sent."""

    def __init__(self, call: AppRequest, wanted: EventFilter, response: web.StreamResponse) -> None:
        self._call = call
        self._wanted = wanted
        self._response = response
        self._place: Cursor | None = None
        self._sent: Cursor | None = None
        self._skipped = 0
        self._sent_at_ms = 0

    async def serve(self, after: Cursor) -> None:
        """Run until the reader disconnects or may not read on, the feed is reset or the service drains."""
        self._place = after
        try:
            await self._send(b"retry: %d\n%b" % (RETRY_MS, self._id()))
            try:
                await self._follow(self._call.deps.feeds.follow(self._call.app_key, after))
            except FeedReset as reset:
                await self._send_reset(reset)
            await self._response.write_eof()
        except (_Cut, ConnectionError):
            self._cut()
        except Exception:
            self._cut()  # the head of the response is sent, so no error status can follow
            raise

    async def _follow(self, following: AsyncGenerator[Sequence[Event], None]) -> None:
        ending: asyncio.Future[Any] = asyncio.ensure_future(self._call.deps.streams.ending.wait())
        coming: asyncio.Future[Sequence[Event]] | None = None
        try:
            while self._is_served():
                # Kept over the timeout: cancelling it would end the generator, and with it the place in the feed.
                coming = coming or asyncio.ensure_future(anext(following))
                await asyncio.wait({coming, ending}, timeout=min(LOOK_S, BEAT_S), return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    await self._send(b"retry: %d\n\n" % random.randint(*DRAIN_RETRY_MS))
                    return
                if coming.done():
                    events, coming = coming.result(), None
                    await self._send_events(events)
                await self._beat_if_due()
        except StopAsyncIteration:  # the feeds are closed
            return
        finally:
            ending.cancel()
            if coming is not None:
                coming.cancel()
                # A generator can't be closed while it runs.
                await asyncio.wait([coming])
            await following.aclose()

    def _is_served(self) -> bool:
        """Whether the App still exists and accepts the reader's credentials. Raises `_Cut` if the reader disconnected."""
        transport = self._call.request.transport
        if transport is None or transport.is_closing():
            raise _Cut
        # Without a Replica no credential can be compared: the stream goes on, as checks do.
        with suppress(ReplicaError), self._call.deps.replica as snapshot:
            try:
                admitted_caller(self._call.request.headers, snapshot).require(PRESENCE)
            except (CredentialsWrong, ScopeMissing, AppUnknown):
                return False
        return True

    async def _send_events(self, events: Sequence[Event]) -> None:
        wanted = [event for event in events if self._wanted.has(event)]
        self._place = events[-1].cursor
        self._skipped += len(events) - len(wanted)
        if wanted:
            self._sent = wanted[-1].cursor
            await self._send(b"".join(map(_framed, wanted)))

    async def _beat_if_due(self) -> None:
        if self._skipped >= SKIPPED_EVENTS or monotonic_ms() - self._sent_at_ms >= BEAT_S * 1_000:
            self._skipped = 0
            await self._send(self._id() if self._sent != self._place else b":\n\n")

    def _id(self) -> bytes:
        """Return a line that moves the reader's cursor without an event."""
        self._sent = self._place
        return b"id: %b\n\n" % str(self._place).encode()

    async def _send_reset(self, reset: FeedReset) -> None:
        try:
            head = await self._call.deps.feeds.head(self._call.app_key)
        except StoreUnavailable:  # the reader reconnects with its cursor, and gets the reset then
            return
        reset_json = {
            "cursor": str(head),
            "message": f"{reset}: read the state (GET /v1/presence/online), and go on from here",
        }
        await self._send(b"id: %b\nevent: reset\ndata: %b\n\n" % (str(head).encode(), msgspec.json.encode(reset_json)))

    async def _send(self, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(SLOW_S):
                await self._response.write(chunk)
        except TimeoutError:
            raise _Cut from None
        self._sent_at_ms = monotonic_ms()

    def _cut(self) -> None:
        transport = self._call.request.transport
        if transport is not None:
            # Not closed: that would wait for a reader that takes nothing.
            transport.abort()


def _framed(event: Event) -> bytes:
    data = msgspec.json.encode(event_json(event))  # JSON has no line breaks of its own
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(event.cursor).encode(), event.kind.encode(), data)


def event_json(event: Event) -> dict[str, object]:
    """Return an event as JSON. `at_ms` is when it was written, `since_ms` when it happened: a departure is written later."""
    shown: dict[str, object] = {
        "kind": event.kind,
        "user": json_id(event.user),
        "session": event.session,
        "platform": event.platform,
        "gateway": event.gateway.decode(),
        "ip": event.ip,
        "at_ms": event.at_ms,
        "since_ms": event.since_ms,
    }
    return shown | {"reason": event.why} if event.why else shown


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/presence/changes", "GET"): Endpoint(
        "Which Users came and went since a cursor", changes, scopes=PRESENCE, faults=("cursor-gone",)
    ),
    ("/v1/events", "GET"): Endpoint(
        "What happens, as it happens", watch, scopes=PRESENCE, faults=("too-many-streams",), content_type=CONTENT_TYPE
    ),
    ("/v1/events", "POST"): Endpoint(
        "What happens to many Users, as it happens",
        watch_many,
        faults=("too-many-streams",),
        content_type=CONTENT_TYPE,
        scopes=PRESENCE,
    ),
}
