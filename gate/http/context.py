"""One authenticated request: what an endpoint may use (`Deps`), and the few things that it does with the request.

HTTP starts before Redis or the Replica are there. A use of one that is not there yet raises what its `Ready` raises. A message
on a WebSocket is an `AppContext` too, without an HTTP request of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import orjson
from aiohttp import web

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.scopes import Caller
from gate.errors import InvalidInput, Stale, Unavailable
from gate.http.bodies import (
    MAX_BATCH_BYTES,
    MAX_BATCH_PARTS,
    MAX_CLIENT_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_PARTS,
    Bodies,
    Payer,
    read_body,
    refuse_many_parts,
)
from gate.http.forms import Form
from gate.http.limits import Limiter
from gate.http.options import HttpOptions
from gate.http.peers import Origin, client_address
from gate.http.pushing import Pushing
from gate.http.room import LongWork, Streams, Unauthenticated
from gate.http.routing import user_in
from gate.http.tracing import Trace
from gate.metrics import WRITE_ACK_SECONDS, WRITE_APPLIED
from gate.presence.local_gateway import LocalGateway
from gate.presence.shared_feeds import SharedFeeds
from gate.presence.watching import Watches
from gate.readiness import Ready
from gate.replica.reading import Reading
from gate.store.acks import Acknowledger, Applied
from gate.store.app_writes import AppWrites
from gate.store.presence import PresenceStore
from gate.store.store import Store
from gate.store.writer import Attribution, WriteReceipt

REVISION = "X-Gate-Revision"
APPLIED = "X-Gate-Applied"
PENDING_REASON = "X-Gate-Pending-Reason"
_JSON = "application/json"

CALL_ID = web.RequestKey("request_id", str)
"""The id that the answer and the log give for the request."""
WHO = web.RequestKey("who", dict[str, str])
"""Who was authenticated, for the access log: `app`, `key` or `operator`."""


def _nothing_missing() -> list[str]:
    return []


def _count_nothing(*_: object) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Deps:
    """Everything an endpoint may reach for."""

    replica_when_ready: Ready[Reading]
    store_when_ready: Ready[Store]
    acks_when_ready: Ready[Acknowledger]
    presence: PresenceStore
    feeds: SharedFeeds
    options: HttpOptions = field(default_factory=HttpOptions)
    limiter: Limiter = field(default_factory=Limiter)
    bodies: Bodies = field(default_factory=Bodies)
    """The bytes of requests' bodies that are in flight."""
    long_work: LongWork = field(default_factory=LongWork)
    """Room for bulk calls."""
    streams: Streams = field(default_factory=Streams)
    """The event streams that are open."""
    unauthenticated: Unauthenticated = field(default_factory=Unauthenticated)
    """The WebSockets whose clients have not sent a Token yet."""
    pinging: Pushing = field(default_factory=Pushing)
    """Turns of WebSockets that are pinged."""
    pushing: Pushing = field(default_factory=Pushing)
    """Turns of WebSockets to which something is sent unasked."""
    looking: Pushing = field(default_factory=lambda: Pushing(share=0.05))
    """Turns of WebSockets whose watched Users may have become hidden."""
    gateway: LocalGateway | None = None
    """What holds the Sessions of WebSockets; None where this node takes none."""
    roles_missing: Callable[[], list[str]] = _nothing_missing
    """Names of the roles on this node that do not answer."""
    warnings: Callable[[], list[str]] = _nothing_missing
    """What is wrong although every role answers: clocks that differ."""
    metrics_text: Callable[[], bytes] = bytes
    """The Prometheus exposition."""
    count_request: Callable[[str, int, float], None] = _count_nothing
    """(group of endpoints, status, seconds), once a request."""
    trace: Trace | None = None
    """Adds the span of a request; None without `--otel-endpoint`."""
    count_late: Callable[[str], None] = _count_nothing
    """(why), once a write that was not as durable in time as `--durability` asks."""
    count_verdicts: Callable[[Mapping[str, int]], None] = _count_nothing
    """How often each word was answered, once a request that checked."""
    now_ms: Callable[[], int] = wall_ms

    # Cached, so that what is there costs no call; what raises is not kept.

    @cached_property
    def replica(self) -> Reading:
        """This node's copy of the facts. `ReplicaError` before it was made."""
        return self.replica_when_ready.get()

    @cached_property
    def store(self) -> Store:
        """Redis. `StoreUnavailable` before it has been reached."""
        return self.store_when_ready.get()

    @cached_property
    def acks(self) -> Acknowledger:
        """Waits until a write is effective. `StoreUnavailable` before Redis has been reached."""
        return self.acks_when_ready.get()

    @cached_property
    def watches(self) -> Watches:
        """The Users that WebSockets of this process watch."""
        return Watches(self.presence, self.feeds)

    def refuse_stale_ms(self, stale_ms: int, app: AppFacts | None = None) -> None:
        """Raise `Stale` where checks of the App are refused from facts of that age; without an App, the deployment's policy.

        The age is to be read before the facts: `replica.stale_ms`.
        """
        if not stale_ms:
            return  # fresh, as nearly always
        bound_ms = self.options.max_staleness_ms if self.options.on_stale == "refuse" else 0
        if app is not None and app.has_own_age_limit:
            bound_ms = app.age_limit_ms(bound_ms)
        if bound_ms and stale_ms > bound_ms:
            by = "App" if app is not None and app.max_staleness_ms else "deployment"
            raise Stale(f"this node's facts are {stale_ms} ms old, and the {by} refuses past {bound_ms} ms")

    def address_of(self, request: web.Request | Origin) -> str:
        """Where the request's client is, behind the proxies that are trusted."""
        trusted = self.options.trusted_proxies
        return client_address(request, trusted) if trusted else request.remote or ""


def query_of(raw_path: str) -> Form:
    """The query string. Read from the bytes as sent, so that ids may be percent-encoded bytes of any kind."""
    return Form(raw_path.partition("?")[2].encode("utf-8", "surrogateescape"))


class Effect(NamedTuple):
    """A write's Revisions, how far it got, and which durability it has not reached, in words; "" if it has."""

    revision: str
    applied: Applied
    late: str = ""

    @property
    def fields(self) -> dict[str, object]:
        """Of an answer in JSON."""
        shown: dict[str, object] = {"revision": self.revision, "applied": self.applied}
        return shown | {"pending_reason": self.late} if self.late else shown

    @property
    def headers(self) -> dict[str, str]:
        """Of any answer."""
        shown = {REVISION: self.revision, APPLIED: self.applied}
        return shown | {PENDING_REASON: self.late.encode("ascii", "backslashreplace").decode()} if self.late else shown


class Context:
    """Base class of a request: its dependencies and its time."""

    __slots__ = ()

    deps: Deps
    now_ms: int

    async def effective(self, written: WriteReceipt) -> Effect:
        """Wait until the write is effective, within bounds.

        The write is in by now: whatever goes wrong with the waiting is `pending`, never an error.
        """
        started = perf_counter()
        try:
            applied, late = await self.deps.acks.acknowledge(written, self.deps.options.ack_timeout_ms)
        except Unavailable:
            applied, late = "pending", ""
        WRITE_APPLIED.labels(applied).inc()
        WRITE_ACK_SECONDS.observe(perf_counter() - started)
        if late:
            self.deps.count_late(late)
        return Effect(written.text, applied, late)


class AppContext(Context):
    """A request of an App or of one of its Users, over HTTP or on a WebSocket."""

    __slots__ = ()

    facts: AppFacts
    """The App's settings when the request was authenticated."""

    @property
    def app_key(self) -> str:
        """The App's key."""
        return self.facts.key

    def writes(self, why: str = "", by: str = "") -> AppWrites:
        """The writes to the App's facts, for this audit reason and by this actor."""
        return AppWrites(self.deps.store, self.facts, self.now_ms, Attribution(by, why))


class RequestContext(Context):
    """An HTTP request that was authenticated."""

    __slots__ = ()

    request: web.Request

    @property
    def payer(self) -> Payer:
        """Whose budget the body counts against."""
        return Payer("console", (self.deps.address_of(self.request), b""))

    def query(self) -> Form:
        """The query string."""
        return query_of(self.request.raw_path)

    async def json_bytes(self, is_batch: bool = False) -> bytes:
        """The body, declared as JSON; that of a batch may be longer."""
        most, most_parts = (MAX_BATCH_BYTES, MAX_BATCH_PARTS) if is_batch else (MAX_JSON_BYTES, MAX_JSON_PARTS)
        payer = self.payer
        if payer.kind == "client":
            most = MAX_CLIENT_BYTES
        body = await read_body(self.request, self.deps.bodies, payer, most, _JSON)
        refuse_many_parts(body, most_parts)
        if not body:
            raise InvalidInput("body", "must be a JSON object, an empty one was sent")
        return body

    async def batch(self) -> dict[str, object]:
        """The body of a batch, as a JSON object."""
        try:
            parsed = orjson.loads(await self.json_bytes(is_batch=True))
        except orjson.JSONDecodeError as fault:
            raise InvalidInput("body", f"must be JSON: {fault}") from None
        if not isinstance(parsed, dict):
            raise InvalidInput("body", f"must be a JSON object, got {type(parsed).__name__}")
        return parsed


@dataclass(slots=True)
class AppRequest(RequestContext, AppContext):
    """An HTTP request of an App."""

    request: web.Request
    deps: Deps
    facts: AppFacts
    now_ms: int
    caller: Caller
    """Who was authenticated: the App, one of its keys, or one of its Users."""
    effect: Effect | None = field(default=None, init=False)
    """What became of its write, for an answer whose body does not say so."""

    @property
    def payer(self) -> Payer:
        """The App."""
        return Payer("app", (self.facts.key, b""))

    def path_user(self) -> bytes:
        """The User that the path names."""
        return user_in(self.request.raw_path)
