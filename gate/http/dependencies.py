"""What HTTP needs of the world: a Replica to read, a store to write, a way to wait until a write is effective.

The store and the Replica satisfy these Protocols by their shape; nothing here is implemented here. `Deps` carries them,
with the node's options, into every endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aiohttp import web

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.presence import Verified
from gate.core.revision import Position, Revision
from gate.core.token import Claims
from gate.core.verdict import Verdict, Word
from gate.http.administration import Apps, Operators
from gate.http.bodies import Bodies
from gate.http.limits import Limiter
from gate.http.long_work import LongWork
from gate.http.options import HttpOptions
from gate.http.peers import Origin, client_address
from gate.http.pinging import Pinging
from gate.http.presence_ports import Feeds, Presence
from gate.http.streams import Streams
from gate.presence.local_gateway import LocalGateway
from gate.readiness import ReplicaState
from gate.store.acks import Acknowledged
from gate.store.audit import AuditEntry, DeploymentEntry
from gate.store.deactivation import DeactivatedUser, Operation
from gate.store.penalties import Penalties
from gate.store.places import Place
from gate.store.users import Enrolment, Profile
from gate.store.writer import Attribution, WriteReceipt

Applied = Literal["all", "node", "pending"]


class AppView(Protocol):
    """One App's facts at one moment."""

    @property
    def facts(self) -> AppFacts:
        """The App's settings."""
        ...

    def verdict(self, sender: bytes, recipient: bytes, /) -> Verdict:
        """May the one message the other, now?"""
        ...

    def words(self, senders: Sequence[bytes], recipients: Sequence[bytes], /) -> Sequence[Word]:
        """Words for pairs given as two columns, in order, all of one commit."""
        ...

    def words_of(self, pairs: list[object], /) -> tuple[Sequence[Word], Mapping[str, int]]:
        """As `words`, for `[sender, recipient]` pairs of text; and how often each was given. `TypeError` for others."""
        ...

    def words_to(self, sender: bytes, recipients: Sequence[bytes], /) -> Sequence[Word]:
        """Words for one sender and many recipients, in order, all of one commit."""
        ...

    def explain(self, sender: bytes, recipient: bytes, /) -> dict[str, Any]:
        """Every rule with the facts it looked at, fit for JSON."""
        ...

    def user(self, user: bytes, /) -> UserFacts:
        """What is known of one User; `NO_FACTS` if nothing is."""
        ...

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes, /) -> int:
        """When the entry ends (`FOREVER_MS`: never), or 0 if there is none. One that has ended may still be found."""
        ...


class Replica(Protocol):
    """This node's copy of the facts; synchronous. Methods raise `ReplicaError` while there is none."""

    @property
    def partitions(self) -> int:
        """How many Partitions the deployment has."""
        ...

    def one_commit(self) -> AbstractContextManager[object]:
        """A block whose reads are of one commit. It must not await; `status_page` is asked before it."""
        ...

    def app(self, app_key: str, /) -> AppView | None:
        """The App at its newest committed facts, or None if there is no such App."""
        ...

    def admitted(self, shown: str, now_ms: int, /) -> Verified:
        """Whom a Token lets connect, and by which Change; `TokenRefused`."""
        ...

    def verify_token(self, shown: str, now_ms: int, /) -> Claims:
        """What a valid Token says; `TokenRefused` for any other."""
        ...

    def applied(self, partition: int, /) -> Position | None:
        """How far this Partition's Changelog is applied."""
        ...

    def applied_all(self) -> Sequence[Revision]:
        """One Revision a Partition, of those that have a history."""
        ...

    def revision_of(self, app_key: str, users: Iterable[bytes], /) -> str:
        """How far the Partitions of these Users are applied, as text."""
        ...

    def decided(self, app_key: str, sender: bytes, recipient: bytes, /) -> tuple[AppFacts, str, Verdict] | None:
        """An App's settings, the Revision of the two Users and the Verdict, of one commit; None if there is no such App."""
        ...

    def stale_ms(self) -> int:
        """As the status page says."""
        ...

    def status_page(self) -> ReplicaState:
        """The live status."""
        ...

    def reaches(self, revisions: Sequence[Revision], /) -> bool | None:
        """Whether all these Revisions are applied; None where they belong to another history."""
        ...


class Entry(Protocol):
    """One entry of a list, as a page lists it."""

    @property
    def member(self) -> bytes: ...
    @property
    def until_ms(self) -> int: ...


class Users(Protocol):
    """Who is registered, and as what."""

    async def enrol(
        self, app: AppFacts, user: bytes, now_ms: int, name: str | None = None, portrait: str | None = None
    ) -> WriteReceipt | None:
        """Register unless registered; a name or portrait that is given replaces the old one."""
        ...

    async def enrol_for_token(
        self, app: AppFacts, user: bytes, now_ms: int, name: str | None = None, portrait: str | None = None
    ) -> Enrolment:
        """As `enrol`, and the moment that the User's new Token is to carry."""
        ...

    async def refresh(self, app_key: str, user: bytes, name: str | None, portrait: str | None) -> None:
        """Change a registered User's name or portrait; None leaves it."""
        ...

    async def facts(self, app_key: str, users: Sequence[bytes]) -> Sequence[UserFacts]:
        """Each User's facts as stored: an end that has passed shows, entries that have ended count in the sizes."""
        ...

    async def profiles(self, app_key: str, users: Sequence[bytes]) -> Sequence[Profile | None]:
        """Each User's profile; None for one that is not registered."""
        ...

    async def page(self, app_key: str, offset: int, count: int, *, newest_first: bool = False) -> Sequence[Profile]:
        """Registered Users in the order of their registration."""
        ...

    async def behind(
        self, app_key: str, place: Place | None, count: int, *, newest_first: bool = False
    ) -> tuple[Sequence[Profile], Place | None]:
        """The next ones, behind a place, and that of the last."""
        ...

    async def count(self, app_key: str) -> int:
        """How many Users are registered."""
        ...

    async def erase(
        self, app_key: str, users: Sequence[bytes], now_ms: int, because: Attribution = ...
    ) -> WriteReceipt:
        """Delete Users with everything of their own."""
        ...

    async def revoke_tokens(
        self, app_key: str, users: Sequence[bytes], before_ms: int, now_ms: int, because: Attribution = ...
    ) -> WriteReceipt:
        """Refuse Tokens minted before a moment."""
        ...


class Lists(Protocol):
    """Blacklists, Whitelists and the switch between them."""

    async def add(
        self,
        app_key: str,
        kind: ListKind,
        owner: bytes,
        members: Sequence[bytes],
        until_ms: int,
        now_ms: int,
        ceiling: int,
        why: str = "",
        by: str = "",
    ) -> WriteReceipt:
        """Add all or, past the ceiling, none (`ListFull`)."""
        ...

    async def remove(
        self,
        app_key: str,
        kind: ListKind,
        owner: bytes,
        members: Sequence[bytes],
        now_ms: int,
        why: str = "",
        by: str = "",
    ) -> WriteReceipt:
        """Remove these members, listed or not."""
        ...

    async def page(
        self, app_key: str, kind: ListKind, owner: bytes, now_ms: int, before: int | None, count: int
    ) -> tuple[Sequence[Entry], int | None]:
        """Entries newest first, and where the next page begins."""
        ...

    async def switch(
        self, app_key: str, users: Sequence[bytes], on: bool, now_ms: int, why: str = "", by: str = ""
    ) -> WriteReceipt:
        """Switch these Users' whitelists on or off."""
        ...

    async def switches(self, app_key: str, users: Sequence[bytes]) -> Sequence[bool]:
        """Whether each User's whitelist is on."""
        ...


class Deactivation(Protocol):
    """Users that are gone: denied at once, erased soon after."""

    async def deactivate(self, app_key: str, users: Sequence[bytes], now_ms: int) -> Operation:
        """Deactivate all these Users, deactivated already or not."""
        ...

    async def reactivate(
        self, app_key: str, users: Sequence[bytes], now_ms: int, after_ms: int, *, refuse_early: bool
    ) -> Operation:
        """Give these ids back; where it is too early for one, none (`ReactivationTooEarly`), or each as its callback says."""
        ...

    async def page(self, app_key: str, offset: int, count: int) -> Sequence[DeactivatedUser]:
        """Deactivated Users, the latest first."""
        ...


class Audit(Protocol):
    """Who did what to whom."""

    async def page(
        self,
        app_key: str,
        count: int,
        *,
        user: bytes | None = None,
        from_ms: int = 0,
        to_ms: int = FOREVER_MS,
        cursor: str | None = None,
    ) -> tuple[list[AuditEntry], str | None]:
        """The latest first, and the next page's cursor."""
        ...

    async def order_kick(self, app_key: str, user: bytes, because: Attribution, session: str, platform: str) -> str:
        """Note that Sessions are about to be closed; the id of the entry."""
        ...

    async def settle_kick(
        self, app_key: str, user: bytes, because: Attribution, session: str, platform: str, ordered: str, closed: int
    ) -> None:
        """Put how many were closed in the place of the order."""
        ...

    async def deployment_page(
        self, count: int, *, from_ms: int, to_ms: int, cursor: str | None
    ) -> tuple[Sequence[DeploymentEntry], str | None]: ...


class Nonces(Protocol):
    """Nonces seen, for Apps with `strict_signature`."""

    async def spend(self, app_key: str, nonce: str, until_ms: int) -> bool:
        """True the first time, False after that; `until_ms` is when its signature passes no more."""
        ...


class Store(Protocol):
    """Redis, behind one method a noun."""

    @property
    def apps(self) -> Apps: ...
    @property
    def operators(self) -> Operators: ...
    @property
    def users(self) -> Users: ...
    @property
    def bans(self) -> Penalties: ...
    @property
    def mutes(self) -> Penalties: ...
    @property
    def lists(self) -> Lists: ...
    @property
    def deactivation(self) -> Deactivation: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def nonces(self) -> Nonces: ...


class Acknowledger(Protocol):
    """Waits until a write is effective."""

    async def acknowledge(self, written: WriteReceipt, timeout_ms: int) -> Acknowledged:
        """How far the write got within the time, and what its durability lacks."""
        ...


def _nothing_missing() -> list[str]:
    return []


def _count_nothing(*_: object) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Deps:
    """Everything an endpoint may reach for."""

    replica: Replica
    store: Store
    acks: Acknowledger
    presence: Presence
    feeds: Feeds
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

    def address_of(self, request: web.Request | Origin) -> str:
        """Where the request's client is, behind the proxies that are trusted."""
        return client_address(request, self.options.trusted_proxies)
