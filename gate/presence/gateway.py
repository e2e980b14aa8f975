"""A Gateway's lease under one epoch, and the Sessions that were opened under it through this process.

The Sessions are those that would be opened again if Redis lost them. They are kept in memory only: a process that dies has
nothing to bring back, and the lease that it renewed ends by itself. A higher epoch is another `Gateway`, which may `adopt` the
Sessions of the one before it.

Calls of the same moment are sent together (`Batches`, one per process): many connects at once take a few pipelines, not a round
trip each. What is submitted in one turn of the loop is sent at its end, in the order of submission. All calls of a batch share
one future; a `PendingResult` has the index of its reply. A lost server fails the whole batch. A call that the server refuses
fails alone.

Made by `session_service`. The RESP port has one for each lease of its connections, and tries a connect step by step, since a
task for each would cost a storm too much. `local_gateway` has one for each App whose WebSockets this process holds.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from gate.clock import monotonic_ms, wall_ms
from gate.core.presence import SESSION_RANDOM_BYTES, CloseReason, Verified, session_parts
from gate.core.sessions import CloseOutcome, GatewayKey, OpenOutcome, OpenSession
from gate.core.token import encoded
from gate.errors import GateError, StoreUnavailable, Unavailable
from gate.replica.authorization import VERIFY_AGAIN_FOR_MS
from gate.store.link import Reply
from gate.store.presence import OPEN_OUTCOMES, closed
from gate.store.slicing import SlicedCall, Slices, answered

if TYPE_CHECKING:
    from gate.presence.session_service import SessionService

LOOKED_OVER_AT_LEAST = 200
# So many looks, one with each renewal, go over all Sessions of a Gateway: a minute and a half with a lease of 15 s.
LOOKS_FOR_ALL = 16
# How long what was closed is remembered, while more is closed: longer than what Redis may lose with `appendfsync everysec`.
CLOSED_KEPT_MS = 5_000

IDS_A_DRAW = 512

# Some 6 ms of the server's time, in scripts of `slicing.MAX_ROWS_A_SCRIPT` Sessions.
MAX_CALLS_A_BATCH = 512
# 1 ms of this process's time to write them: calls of a thousand arguments each would make its other work wait.
MAX_ARGS_A_BATCH = 8_192
# Pipelines that are not answered yet: enough to keep the server busy; what comes meanwhile goes along with the next.
MAX_UNDER_WAY = 4
# Batches that wait for that: past this, what is submitted is refused at once, rather than later or never.
MAX_QUEUED = 256

T = TypeVar("T")


class IdPool:
    """Ids of new Sessions; one a process, and never across a fork.

    The kernel's random bytes are drawn for many at once: a call for each cost a storm a tenth of its time.
    """

    __slots__ = ("_at", "_drawn")

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def next(self, user: bytes) -> str:
        """An id that was not given before, for a Session of this User."""
        at = self._at
        if at == len(self._drawn):
            self._drawn, at = os.urandom(SESSION_RANDOM_BYTES * IDS_A_DRAW), 0
        self._at = at + SESSION_RANDOM_BYTES
        # As `core.presence.session_id`, which a storm of connects need not call for it.
        return (encoded(self._drawn[at : self._at]) + b"." + encoded(user)).decode()


class Gateway:
    """One Gateway of one App. `open` and `close` raise `Unavailable` where too many calls are under way."""

    __slots__ = (
        "_looked_over",
        "_service",
        "app_key",
        "asked_at_ms",
        "closed",
        "epoch",
        "holds",
        "name",
        "on_lost",
        "server_id",
        "sessions",
    )

    def __init__(self, service: SessionService, key: GatewayKey, epoch: int, *, holds: bool = True) -> None:
        self.app_key, self.name = key
        self.epoch = epoch
        self.holds = holds
        """False if the lease was refused: `epoch` is the one that counts, and nothing can be opened under this one."""
        self.sessions: dict[str, OpenSession] = {}
        """Those that are open, as far as this process knows, by id."""
        self.closed: deque[tuple[int, bytes, str]] = deque()
        """When, User and stored id of the Sessions that were closed last."""
        self.asked_at_ms = monotonic_ms()
        self.server_id = ""
        """The run of Redis that has the Sessions; empty where they may be lost."""
        self.on_lost: Callable[[str, CloseReason], None] | None = None
        """Called with the id of a Session that could not be brought back, and why; its client is still connected."""
        self._service = service
        self._looked_over: list[OpenSession] = []

    @property
    def key(self) -> GatewayKey:
        """The App's key and this Gateway's name."""
        return self.app_key, self.name

    def new_session(self, by: Verified, platform: str, ip: str) -> OpenSession:
        """A Session to `open`, with an id of its own."""
        return OpenSession(
            by.app, self.name, self.epoch, by.user, self._service.ids.next(by.user), platform, ip, by.minted_at_ms,
            by.log_epoch, by.log_seq,
        )  # fmt: skip

    def open(self, session: OpenSession) -> PendingResult[OpenOutcome]:
        """Open a new Session, or reopen one that Redis lost. With any outcome but `OK`, the Session is not open."""
        # It may have been opened under a lower one before.
        session.epoch = self.epoch
        call = self._service.store.opening(session)
        if session.since_ms is None:  # after the call was built: the script must see it as new
            session.since_ms = wall_ms()
        return self._service.batches.submit(call, partial(self._opened, session))

    async def open_verified(self, session: OpenSession, by: Verified) -> OpenOutcome:
        """`open`, and wait for it; where it is `BARRED`, as `open_again`. What may be open after a failure is closed."""
        try:
            outcome = await self.open(session).wait()
        except BaseException as fault:
            self._abandon_failed(session, fault)
            raise
        return await self.open_again(session, by) if outcome is OpenOutcome.BARRED else outcome

    async def open_again(self, session: OpenSession, by: Verified) -> OpenOutcome:
        """Open a Session that was `BARRED`, each time that this Replica has applied more of its User's Partition.

        Raises `TokenRefused` if its User may not connect any more, and `Unavailable` after `VERIFY_AGAIN_FOR_MS`.
        """
        until_ms, outcome = monotonic_ms() + VERIFY_AGAIN_FOR_MS, OpenOutcome.BARRED
        try:
            while outcome is OpenOutcome.BARRED:
                by = await self._service.admission.verify_again(by, until_ms)
                session.verify(by)
                session.since_ms = None  # it is new: nothing was opened yet
                outcome = await self.open(session).wait()
        except BaseException as fault:
            self._abandon_failed(session, fault)
            raise
        return outcome

    def close(self, session_id: str, why: CloseReason) -> PendingResult[CloseOutcome]:
        """Close a Session of this Gateway. Raises `InvalidInput` for what is no Session's id."""
        stored_id, user = session_parts(session_id)
        self.sessions.pop(session_id, None)
        call = self._service.store.closing(self.app_key, self.name, self.epoch, user, stored_id, why)
        return self._service.batches.submit(call, partial(self._closed, user, stored_id))

    def abandon(self, session_id: str, why: CloseReason = "lost") -> None:
        """Close a Session whose client is gone or never learned of it, if it is open, as soon as Redis is reachable."""
        self.sessions.pop(session_id, None)  # at once, or a renewal would bring it back until then
        self._service.abandon(self, session_id, why)

    def forget(self, session_id: str) -> None:
        """Another one closed this Session: it is not brought back."""
        self.sessions.pop(session_id, None)

    def lose(self, session_id: str, why: CloseReason) -> None:
        """Forget a Session that Redis lost and that may not be brought back; its client is disconnected if it is held here."""
        self.sessions.pop(session_id, None)
        if self.on_lost is not None:
            self.on_lost(session_id, why)

    def adopt(self, sessions: Iterable[OpenSession]) -> None:
        """Take over Sessions of a lower epoch: the next renewal opens them again under this one."""
        for session in sessions:
            session.epoch = self.epoch
            self.sessions[session.id] = session
        self.server_id = ""

    def look_over(self) -> None:
        """Begin to forget what others closed of a Gateway that need not report kicks. Call it with each renewal."""
        self._service.look_over(self)

    def forget_all(self) -> None:
        """Forget all Sessions: the lease ended long ago, and they stay closed."""
        self.sessions.clear()
        self.closed.clear()
        self._looked_over.clear()

    def silent_ms(self) -> int:
        """Record that the lease is requested now. Returns the ms since the previous request."""
        now_ms = monotonic_ms()
        silent_ms, self.asked_at_ms = now_ms - self.asked_at_ms, now_ms
        return silent_ms

    def some_sessions(self) -> list[OpenSession]:
        """Some of the open Sessions, others with each call until it was all of them."""
        waiting = self._looked_over = self._looked_over or list(self.sessions.values())
        # From the end, as taking from there moves nothing.
        at = max(0, len(waiting) - max(LOOKED_OVER_AT_LEAST, len(self.sessions) // LOOKS_FOR_ALL))
        some = waiting[at:]
        del waiting[at:]
        return some

    def closed_lately(self) -> list[tuple[bytes, str]]:
        """Recently closed Sessions as (User, stored id), from the last few seconds that had closes."""
        return [closed[1:] for closed in self.closed]

    def _abandon_failed(self, session: OpenSession, fault: BaseException) -> None:
        """Close what may have been opened: no other place would. Most refusals say that it was not."""
        if not isinstance(fault, GateError) or (isinstance(fault, StoreUnavailable) and fault.outcome == "unknown"):
            self.abandon(session.id)

    def _opened(self, session: OpenSession, reply: Reply) -> OpenOutcome:
        outcome = OPEN_OUTCOMES[reply]
        if outcome is OpenOutcome.OK:
            self.sessions[session.id] = session
        return outcome

    def _closed(self, user: bytes, stored_id: str, reply: Reply) -> CloseOutcome:
        outcome = closed(reply)
        if outcome is CloseOutcome.CLOSED:
            now_ms = monotonic_ms()
            self.closed.append((now_ms, user, stored_id))
            # It never empties, as the newest was just added.
            while self.closed[0][0] < now_ms - CLOSED_KEPT_MS:
                self.closed.popleft()
        return outcome


class PendingResult(msgspec.Struct, Generic[T], frozen=True):
    """One future reply. Once `arrival` is done, `result` returns the parsed reply, or raises the failure."""

    arrival: asyncio.Future[list[Reply]]
    at: int
    """Index of its reply in the batch."""
    read: Callable[[Reply], T]
    asks_only: bool

    def result(self) -> T:
        """What the reply says. Raises `StoreUnavailable`."""
        away = self.arrival.exception()
        if self.asks_only and isinstance(away, StoreUnavailable):
            raise StoreUnavailable(str(away))  # the batch's outcome is that of what others wrote in it
        reply = self.arrival.result()[self.at]
        return self.read(answered(reply) if isinstance(reply, Exception) else reply)

    async def wait(self) -> T:
        """`result` as soon as there is one."""
        with suppress(StoreUnavailable):  # which `result` raises
            await asyncio.shield(self.arrival)
        return self.result()


class Batches:
    """All calls of one process to one Redis. `aclose` when done: it waits for what is under way."""

    def __init__(self, slices: Slices, most_under_way: int = MAX_UNDER_WAY) -> None:
        self._slices = slices
        self._most_under_way = most_under_way
        self._calls: list[SlicedCall] = []
        self._args = 0
        self._is_full = False
        self._arrival: asyncio.Future[list[Reply]] | None = None
        self._queue: deque[tuple[list[SlicedCall], asyncio.Future[list[Reply]]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    def submit(self, call: SlicedCall, read: Callable[[Reply], T], asks_only: bool = False) -> PendingResult[T]:
        """Send a call with the others of this turn; one that `asks_only` changes nothing.

        Raises `Unavailable` where too many are waited for already.
        """
        if self._arrival is None:
            if len(self._queue) >= MAX_QUEUED:
                raise Unavailable("too many calls are under way; try again")
            loop = asyncio.get_running_loop()
            self._arrival = loop.create_future()
            loop.call_soon(self._send, self._arrival)
        pending = PendingResult(self._arrival, len(self._calls), read, asks_only)
        self._calls.append(call)
        self._args += len(call.args) + len(call.parts)
        if len(self._calls) >= MAX_CALLS_A_BATCH or self._args >= MAX_ARGS_A_BATCH:
            self._is_full = True
            self._send(self._arrival)
        return pending

    async def aclose(self) -> None:
        """Wait for what is under way."""
        self._send(self._arrival)
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _send(self, turn: asyncio.Future[list[Reply]] | None) -> None:
        """End the batch of this turn, unless it was full and went before; then send what waits, as far as may be under way.

        While the server is busy, the batch goes on growing instead.
        """
        is_present = turn is not None and turn is self._arrival
        if is_present and (self._is_full or len(self._under_way) < self._most_under_way):
            assert turn is not None
            self._queue.append((self._calls, turn))
            self._calls, self._args, self._arrival, self._is_full = [], 0, None, False
        while self._queue and len(self._under_way) < self._most_under_way:
            calls, arrival = self._queue.popleft()
            task = asyncio.get_running_loop().create_task(self._exchange(calls, arrival))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        # What waits goes first: only an empty queue ends the batch that still grows.
        self._send(None if self._queue else self._arrival)

    async def _exchange(self, calls: list[SlicedCall], arrival: asyncio.Future[list[Any]]) -> None:
        try:
            arrival.set_result(await self._slices.exchange(calls))
        except Exception as problem:  # callers get a bug as well, or they would wait for ever
            arrival.set_exception(problem)
            arrival.exception()  # marks it as retrieved: all callers may have disconnected
            if not isinstance(problem, StoreUnavailable):
                raise
