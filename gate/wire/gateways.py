"""What Gateways say: LEASE, CONNECT, DISCONNECT, TOUCH.

A Token is verified here, on this node's Replica, in the bracket that the command runs in; then Redis is asked, with what came
in the same moment from all connections. A Session of which the Gateway never learned, because its connection or Redis went away
first, is closed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec

from gate.auth_failures import TOKEN_REASONS, auth_failed
from gate.clock import wall_ms
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
from gate.core.sessions import CloseOutcome, OpenOutcome, OpenSession
from gate.errors import (
    GateError,
    InvalidInput,
    SessionRefused,
    StoreUnavailable,
    TokenRefused,
    Unavailable,
)
from gate.replica.authorization import authorize_connect
from gate.wire import replies
from gate.wire.client import Client
from gate.wire.ports import Gateway, PendingResult
from gate.wire.table import PendingReply

# Sessions of one GATE.TOUCH.
MAX_TOUCHED = 1_000
# So many of one GATE.TOUCH count for one reply where what a connection waits for is bounded: ten calls of a thousand, which
# travel in one batch if Redis is busy, take 3 ms to write.
SESSIONS_A_REPLY = 10


def lease(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.LEASE gateway epoch` → for how many ms the lease holds; what follows on the connection waits for it."""
    name, epoch = parse_gateway(arguments[0]), parse_epoch(arguments[1])
    if name.startswith(LOCAL_GATEWAY_PREFIX):
        own = LOCAL_GATEWAY_PREFIX.decode()
        raise InvalidInput("gateway", f"names that begin with {own} are those of Gate's own nodes: choose another")
    service, app_key = client.session_service(), client.app().app.key

    async def take() -> Gateway:
        gateway = await service.lease(app_key, name, epoch)
        if not gateway.holds:
            raise SessionRefused(
                "fenced",
                f"epoch {epoch} of the Gateway {name.decode()} is over (now {gateway.epoch}): take a higher epoch, "
                "then connect its Sessions again",
            )
        gateway.look_over()
        return gateway

    taking = asyncio.get_running_loop().create_task(take())

    def word() -> bytes:
        gateway = taking.result()
        # The connection may have sent AUTH for another App while Redis was asked.
        if client.app_key == app_key:
            client.hold_lease(gateway)
        return replies.integer(service.lease_ttl_ms)

    def abandon() -> None:
        """Taken for a connection that is gone: unless another one speaks for the Gateway, none does."""
        taking.add_done_callback(let_go)

    def let_go(taken: asyncio.Task[Gateway]) -> None:
        if taken.exception() is None:
            client.worker.let_go_if_unheld(taken.result())

    return PendingReply(taking, word, holds_back=True, abandon=abandon)


def connect(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.CONNECT token platform gateway [ip]` → the id of the Session."""
    worker = client.worker
    if worker.session_service is None:
        client.session_service()  # raises what says so
    platform = parse_platform(arguments[1])
    ip = parse_address(arguments[3]) if len(arguments) > 3 else ""
    # As sent: a name of which there is a lease needs no check of its form.
    gateway = client.leases.get((client.app().app.key, arguments[2]))
    if gateway is None:
        name = parse_gateway(arguments[2]).decode()
        raise SessionRefused(
            "no-lease", f"this connection holds no lease of the Gateway {name}: send GATE.LEASE gateway epoch first"
        )
    if worker.draining:
        raise SessionRefused("draining", "this node is shutting down: connect the Session through another one")
    client.app_if_young()
    try:
        # Latin-1 takes any bytes: what is no Token is refused as malformed.
        by = authorize_connect(worker.reading, arguments[0].decode("latin-1"), wall_ms(), gateway.app_key)
    except TokenRefused as refused:
        if reason := TOKEN_REASONS.get(refused.fault):
            auth_failed("resp", reason, gateway.app_key, client.peer)
        raise
    session = gateway.new_session(by, platform, ip)
    connecting = _Connecting(gateway, by, session, gateway.open(session))
    return PendingReply(connecting.pending.arrival, connecting.word, abandon=connecting.abandon)


class _Connecting(msgspec.Struct):
    """One GATE.CONNECT, until it is answered.

    Nothing of it refers to itself, as closures would that call each other: in a storm only the collector could free those.
    """

    gateway: Gateway
    by: Verified
    session: OpenSession
    pending: PendingResult[OpenOutcome]
    is_abandoned: bool = False

    def abandon(self) -> None:
        self.is_abandoned = True
        self.gateway.abandon(self.session.id)

    def word(self) -> bytes | PendingReply:
        """The reply, or where a Change barred the User, what else to wait for."""
        try:
            outcome = self.pending.result()
        except StoreUnavailable as away:
            # It may be open, and no reply will say under which id.
            if away.outcome == "unknown":
                self.abandon()
            raise
        if outcome is OpenOutcome.OK:
            # `abandon` closes it; this later outcome put it back among the Sessions to keep.
            if self.is_abandoned:
                self.gateway.forget(self.session.id)
            return replies.bulk(self.session.id.encode())
        if outcome is OpenOutcome.BARRED:
            again = asyncio.get_running_loop().create_task(self.gateway.open_again(self.session, self.by))
            # Cancelled, it closes what it may have opened.
            return PendingReply(again, partial(self._word_again, again), abandon=again.cancel)
        raise _refusal(outcome, self.gateway)

    def _word_again(self, again: asyncio.Task[OpenOutcome]) -> bytes:
        if again.cancelled():
            raise Unavailable("the connection ended while the User was verified again: no Session was opened")
        outcome = again.result()
        if outcome is OpenOutcome.OK:
            return replies.bulk(self.session.id.encode())
        raise _refusal(outcome, self.gateway)


def disconnect(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.DISCONNECT session [LOGOUT]` → 1, or 0 if it was gone. `LOGOUT`: the User meant to leave."""
    if len(arguments) > 1 and arguments[1].upper() != b"LOGOUT":
        raise InvalidInput("LOGOUT", "is all that may follow the session")
    why: CloseReason = "logout" if len(arguments) > 1 else "closed"
    client.session_service()
    session_id, app_key = arguments[0].decode("latin-1"), client.app().app.key
    held = [gateway for (app, _), gateway in client.leases.items() if app == app_key]
    if not held:
        raise SessionRefused("no-lease", "this connection holds no lease: send GATE.LEASE gateway epoch first")
    # The id does not say which Gateway has it; a script that finds it held by another one leaves it.
    closing = [gateway.close(session_id, why) for gateway in held]

    def word() -> bytes:
        outcomes = {pending.result() for pending in closing}
        if CloseOutcome.CLOSED in outcomes:
            return replies.ONE
        if outcomes == {CloseOutcome.FOREIGN}:
            raise SessionRefused("foreign", "another Gateway holds this Session: close it from there")
        return replies.ZERO

    if len(closing) == 1:
        return PendingReply(closing[0].arrival, word)
    # All calls of a batch have the same future, which `gather` would cancel with itself.
    arrivals = [asyncio.shield(pending.arrival) for pending in closing]
    return PendingReply(asyncio.gather(*arrivals, return_exceptions=True), word)


def touch(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.TOUCH session [session …]` → how many there are: their Users were active just now."""
    if len(arguments) > MAX_TOUCHED:
        raise InvalidInput("sessions", f"at most {MAX_TOUCHED} in one GATE.TOUCH, {len(arguments)} were sent")
    pending = client.session_service().touch(client.app().app.key, [one.decode("latin-1") for one in arguments])
    weight = 1 + len(arguments) // SESSIONS_A_REPLY
    return PendingReply(pending.arrival, lambda: replies.integer(pending.result()), weight=weight)


def _refusal(outcome: OpenOutcome, gateway: Gateway) -> GateError:
    name, epoch = gateway.name.decode(), gateway.epoch
    if outcome is OpenOutcome.NO_LEASE:
        return SessionRefused("no-lease", f"Redis lost the lease of the Gateway {name}: send GATE.LEASE {name} {epoch}")
    if outcome is OpenOutcome.FENCED:
        problem = f"epoch {epoch} of the Gateway {name} is over: take a higher epoch, then connect its Sessions again"
        return SessionRefused("fenced", problem)
    return SessionRefused(
        "full", f"this User has {MAX_SESSIONS_A_USER} Sessions, the most there may be; close some first"
    )
