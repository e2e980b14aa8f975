"""What Gateways say: LEASE, CONNECT, DISCONNECT, TOUCH.

A Token is verified here, on this node's Replica, in the bracket that the command runs in; then Redis is asked, with what came
in the same moment from all connections. A Session of which the Gateway never learned, because its connection or Redis went away
first, is closed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gate.clock import monotonic_ms, wall_ms
from gate.core.presence import (
    LOCAL_GATEWAY_PREFIX,
    MAX_SESSIONS_A_USER,
    CloseReason,
    Verified,
    parse_address,
    parse_epoch,
    parse_gateway,
    parse_platform,
)
from gate.errors import (
    GateError,
    InvalidInput,
    SessionRefused,
    StoreUnavailable,
    TokenRefused,
    Unavailable,
)
from gate.replica.authorization import admitted, applied_of, may_stay
from gate.replica.reading import Reading
from gate.wire import replies
from gate.wire.client import Client
from gate.wire.pending_reply import PendingReply
from gate.wire.ports import PendingSession, SessionService

MAX_TOUCHED = 1_000
"""Sessions of one GATE.TOUCH."""
SESSIONS_A_REPLY = 10
"""So many of one GATE.TOUCH count for one reply where what a connection waits for is bounded: ten calls of a thousand, which
travel in one batch if Redis is busy, take 3 ms to write."""
VERIFY_AGAIN_EVERY_S = 0.005
VERIFY_AGAIN_FOR_MS = 1_000
"""How long a connect waits for this Replica to apply the Change for which the User's Sessions were closed."""


def lease(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.LEASE gateway epoch` → for how many ms the lease holds; what follows on the connection waits for it."""
    gateway, epoch = parse_gateway(arguments[0]), parse_epoch(arguments[1])
    if gateway.startswith(LOCAL_GATEWAY_PREFIX):
        own = LOCAL_GATEWAY_PREFIX.decode()
        raise InvalidInput("gateway", f"names that begin with {own} are those of Gate's own nodes: choose another")
    service, app_key = client.session_service(), client.app().app.key

    async def take() -> bytes:
        leased = await service.lease(app_key, gateway, epoch, lambda *whom: _may_connect(client.worker.reading, *whom))
        if not leased.holds:
            raise SessionRefused(
                "fenced",
                f"epoch {epoch} of the Gateway {gateway.decode()} is over (now {leased.epoch}): take a higher epoch, "
                "then connect its Sessions again",
            )
        service.look_over(app_key, gateway, epoch)
        return replies.integer(service.lease_ttl_ms)

    taking = asyncio.get_running_loop().create_task(take())

    def word() -> bytes:
        reply = taking.result()
        if client.app_key == app_key:
            client.hold_lease(gateway, epoch)
        return reply

    def abandon() -> None:
        """Taken for a connection that is gone: unless another one speaks for the Gateway, nobody does."""
        taking.add_done_callback(let_go)

    def let_go(taken: asyncio.Task[bytes]) -> None:
        if taken.exception() is None:
            client.worker.let_go_if_unheld(app_key, gateway, epoch)

    return PendingReply(taking, word, holds_back=True, abandon=abandon)


def connect(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.CONNECT token platform gateway [ip]` → the id of the Session."""
    worker, service = client.worker, client.session_service()
    platform, gateway = parse_platform(arguments[1]), arguments[2]
    ip = parse_address(arguments[3]) if len(arguments) > 3 else ""
    app_key, epoch = _lease_of(client, gateway)
    if worker.draining:
        raise SessionRefused("draining", "this node is shutting down: connect the Session through another one")
    worker.refuse_if_stale()
    shown = arguments[0].decode("latin-1")
    verified = admitted(worker.reading, shown, wall_ms(), app_key)
    return _Connecting(service, worker.reading, shown, (app_key, gateway, epoch), platform, ip).attempt(verified)


class _Connecting:
    """One GATE.CONNECT, until it is answered.

    Nothing of it refers to itself, as closures would that call each other: in a storm only the collector could free those.
    """

    __slots__ = (
        "_again_until_ms",
        "_by",
        "_ip",
        "_is_abandoned",
        "_moved",
        "_now",
        "_platform",
        "_reading",
        "_service",
        "_shown",
        "_under",
    )

    _by: Verified
    _now: PendingSession
    _moved: asyncio.Task[None]

    def __init__(
        self,
        service: SessionService,
        reading: Reading,
        shown: str,
        under: tuple[str, bytes, int],
        platform: str,
        ip: str,
    ) -> None:
        self._service = service
        self._reading = reading
        self._shown = shown
        self._under = under
        self._platform = platform
        self._ip = ip
        self._again_until_ms = 0

    def attempt(self, by: Verified) -> PendingReply:
        _, gateway, epoch = self._under
        self._is_abandoned = False
        self._now = self._service.open(by, gateway, epoch, self._platform, self._ip)
        self._by = by
        return PendingReply(self._now.pending.arrival, self._word, abandon=self._abandon)

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._service.abandon(*self._under, self._now.session)

    def _word(self) -> bytes | PendingReply:
        try:
            opened = self._now.pending.result()
        except StoreUnavailable as away:
            if away.outcome == "unknown":
                self._abandon()
            raise
        app_key, gateway, epoch = self._under
        if opened == "ok":
            if self._is_abandoned:
                self._service.forget(app_key, gateway, self._now.session)
            return replies.bulk(self._now.session)
        if opened == "barred":
            self._again_until_ms = self._again_until_ms or monotonic_ms() + VERIFY_AGAIN_FOR_MS
            moved = _moved_past(self._reading, app_key, self._by, self._again_until_ms)
            self._moved = asyncio.get_running_loop().create_task(moved)
            return PendingReply(self._moved, self._again)
        raise _refusal(opened, gateway, epoch)

    def _again(self) -> PendingReply:
        self._moved.result()
        return self.attempt(_verified_anew(self._reading, self._under[0], self._shown))


def disconnect(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.DISCONNECT session [LOGOUT]` → 1, or 0 if it was gone. `LOGOUT`: the User meant to leave."""
    if len(arguments) > 1 and arguments[1].upper() != b"LOGOUT":
        raise InvalidInput("LOGOUT", "is all that may follow the session")
    why: CloseReason = "logout" if len(arguments) > 1 else "closed"
    service, session = client.session_service(), arguments[0].decode("latin-1")
    app_key = client.app().app.key
    held = [(gateway, epoch) for (app, gateway), epoch in client.leases.items() if app == app_key]
    if not held:
        raise SessionRefused("no-lease", "this connection holds no lease: send GATE.LEASE gateway epoch first")
    pending = [service.close(app_key, gateway, epoch, session, why) for gateway, epoch in held]

    def word() -> bytes:
        ends = {pending.result() for pending in pending}
        if "closed" in ends:
            return replies.ONE
        if ends == {"foreign"}:
            raise SessionRefused("foreign", "another Gateway holds this Session: close it from there")
        return replies.ZERO

    if len(pending) == 1:
        return PendingReply(pending[0].arrival, word)
    return PendingReply(
        asyncio.gather(*(asyncio.shield(pending.arrival) for pending in pending), return_exceptions=True), word
    )


def touch(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.TOUCH session [session …]` → how many there are: their Users were active just now."""
    if len(arguments) > MAX_TOUCHED:
        raise InvalidInput("sessions", f"at most {MAX_TOUCHED} in one GATE.TOUCH, {len(arguments)} were sent")
    pending = client.session_service().touch(client.app().app.key, [one.decode("latin-1") for one in arguments])
    weight = 1 + len(arguments) // SESSIONS_A_REPLY
    return PendingReply(pending.arrival, lambda: replies.integer(pending.result()), weight=weight)


def _lease_of(client: Client, raw: bytes) -> tuple[str, int]:
    """The App and the epoch under which this connection speaks for a Gateway; `InvalidInput` for what is no name of one."""
    app_key = client.app().app.key
    epoch = client.leases.get((app_key, raw))
    if epoch is None:
        name = parse_gateway(raw).decode()
        raise SessionRefused(
            "no-lease", f"this connection holds no lease of the Gateway {name}: send GATE.LEASE gateway epoch first"
        )
    return app_key, epoch


def _refusal(opened: str, gateway: bytes, epoch: int) -> GateError:
    name = gateway.decode()
    if opened == "nolease":
        return SessionRefused("no-lease", f"Redis lost the lease of the Gateway {name}: send GATE.LEASE {name} {epoch}")
    if opened == "fenced":
        problem = f"epoch {epoch} of the Gateway {name} is over: take a higher epoch, then connect its Sessions again"
        return SessionRefused("fenced", problem)
    return SessionRefused(
        "full", f"this User has {MAX_SESSIONS_A_USER} Sessions, the most there may be; close some first"
    )


def _verified_anew(reading: Reading, app_key: str, shown: str) -> Verified:
    reading.refresh()
    try:
        return admitted(reading, shown, wall_ms(), app_key)
    finally:
        reading.release()


async def _moved_past(reading: Reading, app_key: str, by: Verified, deadline_ms: int) -> None:
    """Until this Replica has applied more of the User's Partition than when its Token was verified."""
    while monotonic_ms() < deadline_ms:
        await asyncio.sleep(VERIFY_AGAIN_EVERY_S)
        reading.refresh()
        try:
            applied = applied_of(reading, app_key, by.user)
        finally:
            reading.release()
        if applied != (by.log_epoch, by.log_seq):
            return
    raise Unavailable(
        "this Replica has yet to apply the Change for which the User's Sessions were closed; connect again"
    )


def _may_connect(reading: Reading, app_key: str, user: bytes, minted_at_ms: int) -> Verified | None:
    """A bracket of its own: whether a Session that Redis lost may be brought back."""
    reading.refresh()
    try:
        return may_stay(reading, app_key, user, minted_at_ms, wall_ms())
    except TokenRefused:
        return None
    finally:
        reading.release()
