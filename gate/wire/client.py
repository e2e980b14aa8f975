"""What one RESP connection has agreed on, and what its worker lends it.

Handlers get a `Client` and nothing else, so they can be tested without a socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import TYPE_CHECKING, get_args

from gate.clock import monotonic_ms, monotonic_us
from gate.core.app_secrets import caller_with
from gate.core.model import AppFacts
from gate.core.scopes import Caller, Scope
from gate.core.sessions import GatewayKey
from gate.core.verdict import Word
from gate.errors import GateError, Stale, Unavailable
from gate.native import Sockets
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.wire.long_reads import LongReads
from gate.wire.ports import Gateway, SessionService
from gate.wire.queued import Queued
from gate.wire.turns import LIGHT_SHARE, SLICE_US, TURN_BYTES, Times, Turns

if TYPE_CHECKING:
    from gate.wire.table import Table

# Commands before AUTH: what clients send on connecting is ten at most, and a probe sends PINGs.
MAX_STRANGER_COMMANDS = 256
# On one connection, of which the fifth closes it: guessing costs a new connection each time.
MAX_WRONG_AUTHS = 5

# Of this process: each worker gives the same ids, to its own connections.
_ids = count(1)


class NoAuth(GateError):
    """The command needs an App and the connection has none (any more)."""


class WrongPass(GateError):
    """The App key or secret is wrong; which of the two is not said."""


class NoProto(GateError):
    """HELLO asked for a protocol version that is not spoken here."""


class Reply(GateError):
    """An error reply whose text is already as Redis words it."""


class Habit(Reply):
    """The same for what clients try by habit and go on without: it is not counted as an error."""


class Worker:
    """What all connections of one worker share: the Reading, the turns, the limits, the counts.

    `max_staleness_ms` 0 means that checks are answered however old the facts are (`--on-stale serve`), except those of Apps
    with a failure policy of their own (`age_limit_ms`).
    """

    def __init__(
        self,
        reading: Reading,
        *,
        max_staleness_ms: int = 0,
        started_at_ms: int = 0,
        time_bounds_us: tuple[int, ...] = (),
    ) -> None:
        self.times = Times(time_bounds_us)
        self.reading = reading
        self.max_staleness_ms = max_staleness_ms
        self.started_at_ms = started_at_ms or monotonic_ms()
        self.given: dict[Word, int] = dict.fromkeys(get_args(Word), 0)
        """How often Python gave each Verdict; `words` adds what the core gave. Not a Counter, which takes twice as long."""
        self.connections = 0
        self.connections_total = 0
        self.errors = 0
        self.draining = False
        """The service is being stopped: no new Sessions."""
        self.session_service: SessionService | None = None
        """The way to Presence, once its Redis was reached."""
        self.lease_holders: Counter[Gateway] = Counter()
        """How many connections hold each lease."""
        self.turns = Turns()
        self.long_reads = LongReads(reading, self.turns)
        self.buffer = bytearray(TURN_BYTES)
        """Where each socket is read to, one after another: what came is taken from it before the next is read."""
        self.received = memoryview(self.buffer)
        self.sockets: Sockets | None = None
        """The core's poll, where there is one: it reads the sockets then."""
        self.waiting_for_events = 0
        """Connections in `GATE.EVENTS … BLOCK`."""
        self.queued_bytes = 0
        """Of all commands between MULTI and the answer to EXEC."""
        self.queues: dict[Queued, None] = {}
        """Those between MULTI and EXEC, the oldest first."""
        self._age_ms: int | None = None

    def begin(self) -> None:
        """Begin a read bracket, which `reading.release` ends. Raises `ReplicaError`."""
        # Before the facts, like every age; without a limit it is read only if a command asks.
        self._age_ms = self.stale_ms() if self.max_staleness_ms else None
        self.reading.refresh()

    def begin_dated(self) -> None:
        """Begin a bracket whose age is read now, so that nothing in it moves to other facts. Raises `ReplicaError`."""
        self.reading.release()
        self._age_ms = self.stale_ms()
        self.reading.refresh()

    def age_ms(self) -> int:
        """`stale_ms` from before this bracket's facts were read: a process that is paused in between answers no old ones.

        Unless the deployment has a limit, it is read when first asked for, and the facts once more after it: sync Apps again.
        """
        if self._age_ms is None:
            self.reading.release()  # to read the age may move to another file
            self._age_ms = self.stale_ms()
            self.reading.refresh()
        return self._age_ms

    def look(self, syncs: Collection[Callable[[], object]]) -> bool:
        """For the core's poll: whether the age of the facts permits checks; and take up what moved, of these Apps."""
        try:
            if self.max_staleness_ms and self.stale_ms() > self.max_staleness_ms:
                return False
            if syncs:
                self.reading.catch_up(syncs)
        except GateError:
            return False  # the general way says what is wrong
        return True

    def take_times(self) -> tuple[list[int], int]:
        """How many answered chunks took how long since the last call, by `time_bounds_us`, and the sum in us."""
        counts, sum_us = self.times.take()
        if self.sockets is not None:
            by_core, core_us = self.sockets.take_times()
            counts, sum_us = [one + other for one, other in zip(counts, by_core, strict=True)], sum_us + core_us
        return counts, sum_us

    def close(self) -> None:
        """Give the Replica back."""
        self.long_reads.close()
        self.reading.close()

    def stale_ms(self) -> int:
        """How stale the next bracket's facts are, in ms; 0 while fresh, and past every limit where no replicator has run."""
        return self.reading.stale_ms()

    def age_limit_ms(self, app: AppReading) -> int:
        """The age of facts past which the App's checks are refused, by its own policy or the deployment's; 0 for never."""
        return app.app.age_limit_ms(self.max_staleness_ms) if app.has_own_age_limit else self.max_staleness_ms

    def refuse_stale_ms(self, app: AppReading, stale_ms: int) -> None:
        """Raise `Stale` where checks of the App are refused from facts of that age."""
        limit_ms = self.age_limit_ms(app)
        if limit_ms and stale_ms > limit_ms:
            by = "App" if app.app.max_staleness_ms else "deployment"
            raise Stale(f"the Replica is {stale_ms} ms old and this {by} refuses past {limit_ms} ms: ask another node")

    def swap_reading(self, reading: Reading, age_ms: int | None) -> tuple[Reading, int | None]:
        """What commands are answered from until it is swapped back, for a part of a long transaction; gives what it was."""
        before = self.reading, self._age_ms
        self.reading, self._age_ms = reading, age_ms
        return before

    def let_go_if_unheld(self, gateway: Gateway) -> None:
        """Stop to remember a Gateway's Sessions a lease from now, unless a connection speaks for it."""
        if not self.lease_holders[gateway]:
            # A Counter keeps keys whose count is 0, and by them each Gateway that ever was.
            del self.lease_holders[gateway]
            if self.session_service is not None:
                self.session_service.let_go(gateway)

    def count(self, words: list[Word]) -> None:
        """Add a batch of Verdicts to the counts; the allowed ones cost one pass in C."""
        counts = self.given
        allowed = words.count("allowed")
        counts["allowed"] += allowed
        if allowed != len(words):
            for word in words:
                if word != "allowed":
                    counts[word] += 1

    @property
    def words(self) -> dict[Word, int]:
        """How often each Verdict was given, what the compiled core counted included."""
        for word, given in self.reading.take_counts():
            self.given[word] += given
        return self.given


class Usage:
    """How much of the worker's time one connection used lately. Begins as one that used much, as newcomers may be many."""

    __slots__ = ("_at_us", "_used_us")

    def __init__(self) -> None:
        self._at_us = monotonic_us()
        self._used_us = SLICE_US

    def add(self, from_us: int, until_us: int) -> None:
        """It had a turn."""
        left_us = self._used_us - (from_us - self._at_us) // LIGHT_SHARE
        self._used_us = (left_us if left_us > 0 else 0) + until_us - from_us
        self._at_us = from_us

    @property
    def is_light(self) -> bool:
        """Whether it used little: less than a slice, and no more than its share before."""
        return self._used_us - (monotonic_us() - self._at_us) // LIGHT_SHARE < SLICE_US


class Client:
    """One connection's agreed state."""

    __slots__ = (
        "_plain_table",
        "_secret",
        "app_key",
        "app_reading",
        "caller",
        "facts",
        "hot_app",
        "id",
        "leases",
        "name",
        "peer",
        "queued",
        "quitting",
        "resp3",
        "stranger_commands",
        "table",
        "usage",
        "worker",
        "wrong_auths",
    )

    def __init__(self, worker: Worker, table: Table, peer: str = "") -> None:
        self.worker = worker
        self.usage = Usage()
        self.table = self._plain_table = table
        """What answers commands: another one between MULTI and EXEC, so that no command has to ask which."""
        self.queued: Queued | None = None
        """Since MULTI; None outside of a transaction."""
        self.id = next(_ids)
        self.peer = peer
        self.quitting = False
        self.name = b""
        self.resp3 = False
        self.leases: dict[GatewayKey, Gateway] = {}
        """The leases that this connection took."""
        self.app_key: str | None = None
        self.app_reading: AppReading | None = None
        self.hot_app: AppReading | None = None
        """`app_reading`, but None between MULTI and EXEC and without the scope: no check is answered by the fast ways then."""
        self.facts: AppFacts | None = None
        """The App's settings among which the secret was last found; where it has others by now, `app` looks again."""
        self.caller: Caller | None = None
        """Whom the secret stands for by those settings."""
        self.stranger_commands = 0
        """Sent since there was an App."""
        self.wrong_auths = 0
        self._secret = b""

    def bind(self, app_key: str, app_reading: AppReading, secret: bytes, caller: Caller) -> None:
        """From now on this connection speaks for the App, as long as `secret` is one of the App's or of its keys."""
        self.app_key = app_key
        self.app_reading = app_reading
        self.stranger_commands = 0
        # Kept as sent: it is compared again whenever the App's settings change.
        self._secret = secret
        self._stand(app_reading.app, caller)

    def unbind(self) -> None:
        """Forget the App and every agreement (RESET)."""
        self._let_go()
        self.let_go_of_leases()
        self.resp3 = False
        self.name = b""

    def app(self) -> AppReading:
        """The bound App, inside the current bracket; `NoAuth` without one, when it was removed, or its secret dropped."""
        bound = self.app_reading
        if bound is None:
            raise NoAuth("Authentication required. Send AUTH app-key app-secret")
        if not bound.sync():
            self.unbind()
            raise NoAuth("The App of this connection was removed. Send AUTH app-key app-secret of another")
        # By identity: an App that was read again is another object, whatever is in it.
        if bound.app is not self.facts:
            caller = caller_with(bound.app, self._secret)
            if caller is None:
                # Its leases stay: the Gateway's clients are still connected, and a new AUTH goes on with them.
                self._let_go()
                raise NoAuth("The secret that this connection gave is no longer accepted. Send AUTH app-key app-secret")
            self._stand(bound.app, caller)
        return bound

    def app_if_young(self) -> AppReading:
        """The bound App, from facts as young as its failure policy demands. Raises as `app`, and `Stale`."""
        app, worker = self.app(), self.worker
        if worker.max_staleness_ms or app.has_own_age_limit:
            age_ms = worker.age_ms()
            app = self.app()  # to read the age may move to newer facts, and other settings
            worker.refuse_stale_ms(app, age_ms)
        return app

    def permit(self, needed: Sequence[Scope]) -> None:
        """Raise `ScopeMissing` unless the secret stands for these scopes, and what `app` raises."""
        self.app()
        assert self.caller is not None, "it is bound together with the App"
        # In C, since each command comes by here.
        if not self.caller.scopes.issuperset(needed):
            self.caller.require(needed)  # words the refusal

    def _stand(self, facts: AppFacts, caller: Caller) -> None:
        """By these settings the secret is this caller's."""
        self.facts, self.caller = facts, caller
        self._choose_hot()

    def _choose_hot(self) -> None:
        may_check = self.queued is None and self.caller is not None and "check" in self.caller.scopes
        self.hot_app = self.app_reading if may_check else None

    def begin_queue(self, table: Table) -> None:
        """MULTI: from now on `table` answers, which queues."""
        self.queued, self.table, self.hot_app = Queued(self.worker), table, None

    def end_queue(self) -> Queued | None:
        """EXEC, DISCARD, RESET, or the connection is gone: what was queued, if MULTI was sent."""
        queued, self.queued = self.queued, None
        if queued is not None:
            queued.begin()
        self.table = self._plain_table
        self._choose_hot()
        return queued

    def session_service(self) -> SessionService:
        """The way to Presence. Raises `Unavailable` until its Redis was reached."""
        if self.worker.session_service is None:
            raise Unavailable("Presence has not been reached yet: repeat it a moment later")
        return self.worker.session_service

    def hold_lease(self, gateway: Gateway) -> None:
        """This connection speaks for the Gateway at that epoch, and no other one, from now on."""
        key = gateway.app_key, gateway.name
        # A renewal gives the same one. A higher epoch is another, in the place of the lower.
        if self.leases.get(key) is not gateway:
            self._drop_lease(key)
            self.leases[key] = gateway
            self.worker.lease_holders[gateway] += 1

    def gone(self) -> None:
        """The connection is: nothing outlives it."""
        if (queued := self.end_queue()) is not None:
            queued.drop()
        self.let_go_of_leases()

    def let_go_of_leases(self) -> None:
        """The connection is gone, or forgets what it agreed on."""
        # A copy, as each drop removes one.
        for key in list(self.leases):
            self._drop_lease(key)

    def _drop_lease(self, key: GatewayKey) -> None:
        gateway = self.leases.pop(key, None)
        if gateway is None:
            return
        # Another connection may speak for the same Gateway.
        self.worker.lease_holders[gateway] -= 1
        self.worker.let_go_if_unheld(gateway)

    def _let_go(self) -> None:
        self.app_key = None
        self.app_reading = self.hot_app = None
        if self.queued is not None:
            self.queued.spoil()
        self.facts = self.caller = None
        self._secret = b""
