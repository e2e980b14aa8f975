"""A worker's connection slots, and who may hold one.

A stranger is a connection without an App: it has not sent `AUTH` yet, or its App or secret is gone. Strangers may not keep
clients with credentials out, and which of both a newcomer is shows only after it was let in. So every newcomer is let in while
there is a slot, and has a bounded time to authenticate; once nine slots of ten are taken, the oldest stranger makes room. The
last tenth is therefore for those with an App and for the unix socket, whose file mode says who may connect.

A connection of the TLS port has its slot and its time from the moment it was accepted, as a `Handshake` first.

An attacker who floods the port has to open as many connections as strangers have slots, at least a tenth of all, in the time
that a client takes to send its `AUTH`. Called by `listener`.
"""

from __future__ import annotations

from gate.tls import Handshake
from gate.wire.connection import Connection

# How long a connection may go on without an App: a client sends AUTH at once, a person types it.
AUTH_WITHIN_MS = 10_000
# The same once nine slots of ten are taken.
AUTH_WITHIN_WHEN_FULL_MS = 1_000
# One slot of so many is kept from strangers.
KEPT_SHARE = 10

Holder = Connection | Handshake

FULL = (
    "ERR too many connections without AUTH: this one was closed to make room. "
    "Connect again and send AUTH app-key app-secret at once"
)


class Slots:
    """Of one worker. With fewer than ten there are none to keep."""

    def __init__(self, most: int, auth_within_ms: int = AUTH_WITHIN_MS) -> None:
        self._most = most
        self._kept = most // KEPT_SHARE
        self._auth_within_ms = auth_within_ms
        self._taken: set[Holder] = set()
        self._strangers: dict[Holder, int] = {}
        """Since when, in that order. Those that are being closed are in neither."""

    @property
    def _are_scarce(self) -> bool:
        return len(self._taken) > self._most - self._kept

    def take(self, newcomer: Holder, now_monotonic_ms: int) -> bool:
        """Give a connection a slot, if necessary by closing another one. False if no slot is free."""
        self._taken.add(newcomer)
        if self._kept and self._are_scarce:
            self._make_room()
        # Still so if all others have an App or came by the unix socket.
        if len(self._taken) > self._most:
            self._taken.discard(newcomer)
            return False
        self._strangers[newcomer] = now_monotonic_ms
        return True

    def pass_on(self, handshake: Handshake, connection: Connection) -> bool:
        """The handshake is done: its connection goes on in its slot and its time. False if it lost the slot meanwhile."""
        # Its time goes on: a slow handshake gets no second one.
        since_ms = self._strangers.pop(handshake, None)
        if since_ms is None:
            return False
        self._taken.remove(handshake)
        self._taken.add(connection)
        self._strangers[connection] = since_ms
        return True

    def free(self, connection: Holder) -> None:
        """It is closed."""
        self._taken.discard(connection)
        self._strangers.pop(connection, None)

    def stands(self, connection: Connection, now_monotonic_ms: int) -> None:
        """It got an App, or has none any more."""
        self._strangers.pop(connection, None)
        # At the end of the order: its time begins now.
        if connection.is_stranger and connection in self._taken:
            self._strangers[connection] = now_monotonic_ms

    def close_late_ones(self, now_monotonic_ms: int) -> None:
        """Those that had their time to authenticate."""
        within_ms = self._auth_within_ms
        if self._kept and self._are_scarce:
            within_ms = min(within_ms, AUTH_WITHIN_WHEN_FULL_MS)
        late = [one for one, since_ms in self._strangers.items() if now_monotonic_ms - since_ms >= within_ms]
        for connection in late:
            self._leave(
                connection, f"NOAUTH No AUTH within {within_ms / 1_000:g} s: send AUTH app-key app-secret first"
            )

    def _make_room(self) -> None:
        """Take the slot of the oldest stranger, where strangers have more than the newcomers' share, or all are taken."""
        if len(self._strangers) < self._kept and len(self._taken) <= self._most:
            return
        # A dict keeps the order in which they came.
        oldest = next((one for one in self._strangers if not one.is_local), None)
        if oldest is not None:
            self._leave(oldest, FULL)

    def _leave(self, connection: Holder, problem: str) -> None:
        self.free(connection)
        connection.refuse(problem)
