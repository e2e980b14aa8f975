"""What every endpoint may use: a Replica to read, a Store to write, a way to wait until a write is effective, the options.

HTTP starts before Redis or the Replica are there. A use of one that is not there yet raises what its `Ready` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from aiohttp import web

from gate.clock import wall_ms
from gate.http.bodies import Bodies
from gate.http.limits import Limiter
from gate.http.options import HttpOptions
from gate.http.peers import Origin, client_address
from gate.http.pinging import Pinging
from gate.http.room import LongWork, Streams
from gate.presence.local_gateway import LocalGateway
from gate.presence.shared_feeds import SharedFeeds
from gate.readiness import Ready
from gate.replica.reading import Reading
from gate.store.acks import Acknowledger
from gate.store.presence import PresenceStore
from gate.store.store import Store


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
    pinging: Pinging = field(default_factory=Pinging)
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
    count_late: Callable[[str], None] = _count_nothing
    """(why), once a write that was not as durable in time as `--durability` asks."""
    count_applied: Callable[[str, float], None] = _count_nothing
    """(all, node or pending; milliseconds waited), once a write."""
    count_verdicts: Callable[[Mapping[str, int]], None] = _count_nothing
    """How often each word was answered, once a request that checked."""
    count_websocket: Callable[[str, str], None] = _count_nothing
    """(opened, closed or message; why or of what type)."""
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

    def address_of(self, request: web.Request | Origin) -> str:
        """Where the request's client is, behind the proxies that are trusted."""
        return client_address(request, self.options.trusted_proxies)
