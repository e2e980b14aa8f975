"""MULTI, EXEC, DISCARD: commands that are queued, carried out together, and answered in one array.

Clients send pipelines this way by default. EXEC answers first what the Replica answers, all of it from one commit: at once if
that is little, else in turns (`long_reads`). Behind that, what asks Redis is sent in the order of the queue, each command by
itself: no more of them than a connection may wait for (`line.MAX_AWAITED`), and nothing past a lease before the lease is
answered, since a connect may depend on it. As in Redis, a command that fails leaves the others as they are.

Where queueing met an error, EXEC answers EXECABORT, and nothing ran. A connection that is lost loses its queue; if that happens
while its EXEC is carried out, what was not sent to Redis by then is not.

Called by `gate.wire.commands`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence

from gate.clock import monotonic_us
from gate.core.revision import Revision
from gate.errors import AppUnknown, GateError
from gate.wire import checks, replies
from gate.wire.checks import RevisionDemand
from gate.wire.client import Client, NoAuth, Reply
from gate.wire.line import MAX_AWAITED
from gate.wire.long_reads import View
from gate.wire.queued import Entry, Queued
from gate.wire.refusals import refused
from gate.wire.table import Asking, Command, Handler, InMulti, PendingReply, Table
from gate.wire.turns import SLICE_US, in_turn
from gate.wire.waiting import too_late

# What is decided in the turn that brought EXEC: 0.3 ms, or 1.5 ms where no User is cached.
AT_ONCE_WEIGHT = 256

QUEUED = replies.simple("QUEUED")


def multi(table: Table) -> Handler:
    """`MULTI`; from then on `table` answers."""

    def begin(client: Client, arguments: Sequence[bytes]) -> bytes:
        client.begin_queue(table)
        return replies.OK

    return begin


def nested(client: Client, arguments: Sequence[bytes]) -> bytes:
    """MULTI behind MULTI."""
    raise Reply("ERR MULTI calls can not be nested: send EXEC or DISCARD first")


def discard(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`DISCARD`."""
    queued = client.end_queue()
    if queued is None:
        raise Reply("ERR DISCARD without MULTI: there is nothing to discard, send MULTI first")
    queued.drop()
    return replies.OK


def watch(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`WATCH`."""
    raise Reply(
        "ERR WATCH is not supported: there are no keys here. Send MULTI and EXEC without it; "
        "a check that demands a Revision has MIN"
    )


def unwatch(client: Client, arguments: Sequence[bytes]) -> bytes:
    """`UNWATCH`: nothing is watched."""
    return replies.OK


def queueing(command: Command) -> Command:
    """The row that stands for the command between MULTI and EXEC: same arguments, but queued."""
    if command.in_multi is InMulti.AT_ONCE:
        return command

    def put(client: Client, arguments: Sequence[bytes]) -> bytes:
        assert client.queued is not None
        client.queued.put(command, arguments)
        # Read now, so that EXEC waits once for all of them, and not for each in turn.
        if len(arguments) > 2 and command.answer in _MAY_DEMAND:
            client.queued.demand(checks.demanded(arguments))
        return QUEUED

    return command._replace(answer=_not_queued if command.in_multi is InMulti.NEVER else put)


def _not_queued(client: Client, arguments: Sequence[bytes]) -> bytes:
    raise Reply("ERR Command not allowed inside a transaction: send it before MULTI or after EXEC")


def execute(client: Client, arguments: Sequence[bytes]) -> bytes | RevisionDemand | PendingReply:
    """`EXEC` → an array of replies. Where a check demands Revisions that are not here yet, all wait for them, as one would."""
    queued = client.queued
    if queued is None:
        raise Reply("ERR EXEC without MULTI: send MULTI first, then the commands, then EXEC")
    # Before the other refusal: what made room for others was spoiled by that, not by an error of its own.
    if queued.made_room:
        client.end_queue()
        raise Reply(
            "EXECABORT Transaction discarded: it waited longest for its EXEC when the memory for transactions was full. "
            "Nothing of it was carried out: send all of it again, and EXEC at once"
        )
    if queued.is_spoiled:
        client.end_queue()
        raise Reply(
            "EXECABORT Transaction discarded because of previous errors: nothing of it was carried out. "
            "Correct the command that was refused, and send all of it again"
        )
    if demanded := _demanded(client, queued):
        # It waits now for what it demands, and may not be dropped for others meanwhile.
        queued.begin()
        return RevisionDemand(demanded, late=lambda: _carried_out(client))
    return _carried_out(client)


def _demanded(client: Client, queued: Queued) -> tuple[Revision, ...]:
    return tuple(one for one in queued.demanded.values() if checks.is_still_to_come(client.worker.reading, one))


_MAY_DEMAND: tuple[Handler, ...] = (checks.check, checks.verdict)


def _carried_out(client: Client) -> bytes | PendingReply:
    queued = client.end_queue()
    assert queued is not None
    execution = Execution(client, queued)
    if queued.weight > AT_ONCE_WEIGHT and client.app_key is not None:
        return execution.later(client.app_key)
    try:
        # In the place of the batch's own bracket: all of EXEC is one commit, with an age that was read before it.
        client.worker.begin_dated()
    except GateError as outage:
        for _ in execution.facts(outage):
            pass
    else:
        for _ in execution.facts():
            pass
    if execution.asks:
        return execution.later(None)
    queued.drop()
    return execution.reply()


class Execution:
    """One EXEC."""

    def __init__(self, client: Client, queued: Queued) -> None:
        self._client = client
        self._worker = client.worker
        self._queued = queued
        self._entries: Sequence[Entry] = queued.entries
        self._answers: list[bytes] = [b""] * len(queued.entries)
        self.asks: deque[tuple[int, Asking]] = deque()
        """What is still to be sent to Redis, with its place in the array."""
        self._awaited: deque[tuple[int, PendingReply]] = deque()
        self._awaited_weight = 0
        self._undoings: list[Callable[[], object]] = []
        """Of all commands that were sent to Redis, answered or not: the peer gets their replies only at the end."""
        self._is_abandoned = False

    def reply(self) -> bytes:
        return replies.array_header(len(self._answers)) + b"".join(self._answers)

    # From the Replica

    def facts(self, outage: GateError | None = None) -> Generator[None, None, None]:
        """Answer from the bracket at hand what needs no Redis, and line up the rest; yields between two commands."""
        for at, (command, arguments) in enumerate(self._entries):
            # Not before the first: a turn that was waited for answers something.
            if at:
                yield
            try:
                if command.needs is not None:
                    if outage is not None:
                        raise outage
                    self._client.permit(command.needs)
                if command.answer is checks.check_many:
                    self._answers[at] = yield from checks.check_many_in_pieces(self._client, arguments)
                elif command.in_multi is InMulti.REDIS:
                    self.asks.append((at, self._asking(command, arguments)))
                else:
                    self._answers[at] = self._at_once(command, arguments)
            except GateError as refusal:
                self._answers[at] = self._refused(refusal)

    def _at_once(self, command: Command, arguments: Sequence[bytes]) -> bytes:
        reply = command.answer(self._client, arguments)
        if isinstance(reply, RevisionDemand):
            return too_late(self._worker, reply)
        assert isinstance(reply, bytes), command
        return reply

    def _asking(self, command: Command, arguments: Sequence[bytes]) -> Asking:
        if command.decide is not None:
            return command.decide(self._client, arguments)

        def ask() -> bytes | PendingReply:
            if command.needs is not None:
                self._client.permit(command.needs)
            # Permitted again by now: the App or its key may be gone since the facts were read.
            reply = command.answer(self._client, arguments)
            assert not isinstance(reply, RevisionDemand), command
            return reply

        return ask

    def _in_view(self, view: View) -> Generator[None, None, None]:
        """`facts` from another Reading, which is in the place of the worker's for each piece."""
        client, worker, pieces = self._client, self._worker, self.facts()
        by_view = client.facts, client.caller
        # In the view the App may have other settings. What is found by them is kept for the view alone.
        is_done = False
        while not is_done:
            bound = client.app_reading, client.facts, client.caller, client.hot_app
            before = worker.swap_reading(view.reading, view.stale_ms)
            if client.app_reading is not None:
                client.app_reading, (client.facts, client.caller) = view.app, by_view
            try:
                # `self` stands for the end, since no piece yields it.
                is_done = next(pieces, self) is self
            finally:
                worker.swap_reading(*before)
                if client.app_reading is not None:  # else its secret was dropped, and it has no App any more
                    by_view = client.facts, client.caller
                    client.app_reading, client.facts, client.caller, client.hot_app = bound
            yield

    # From Redis

    def later(self, long_read_of: str | None) -> PendingReply:
        """The rest of the work, in turns; with the App's key if nothing was read from the Replica yet."""
        reading = None
        if long_read_of is not None:
            reading = self._worker.long_reads.submit(long_read_of, self._in_view)
        carrying = asyncio.get_running_loop().create_task(self.carry_out(reading))
        carrying.add_done_callback(self._end)

        def word() -> bytes:
            try:
                return carrying.result()
            except AppUnknown as gone:
                raise NoAuth(f"{gone}. Send AUTH app-key app-secret of another") from gone

        return PendingReply(carrying, word, holds_back=True, abandon=self._doubt, cancel=carrying.cancel, listens=True)

    def _end(self, carrying: asyncio.Task[bytes]) -> None:
        self._queued.drop()  # only now: many that are carried out at the same time fill the memory, too
        if not carrying.cancelled():
            carrying.exception()  # looked at, since the peer may be gone by then

    async def carry_out(self, reading: asyncio.Future[None] | None) -> bytes:
        """All of it; behind what is read from the Replica in turns, if anything is."""
        if reading is not None:
            await reading
        while self.asks or self._awaited:
            # Then wait only for the first reply that is missing: later ones may have come before it.
            await in_turn(self._worker.turns, self._go_on)
            if self._awaited and not self._is_next_here() and (self._is_full() or not self.asks):
                await asyncio.wait([self._awaited[0][1].arrival])
        return self.reply()

    def _go_on(self) -> None:
        """Ask, and take what came, for a slice."""
        until_us = monotonic_us() + SLICE_US
        while monotonic_us() < until_us:
            # Replies first: each makes room for a question.
            if self._is_next_here():
                self._take()
            elif self.asks and not self._is_full():
                self._ask(*self.asks.popleft())
            else:
                break

    def _is_next_here(self) -> bool:
        return bool(self._awaited) and self._awaited[0][1].arrival.done()

    def _is_full(self) -> bool:
        # Behind a lease nothing is asked before its answer: a connect may depend on it.
        return self._awaited_weight >= MAX_AWAITED or (bool(self._awaited) and self._awaited[-1][1].holds_back)

    def _ask(self, at: int, ask: Asking) -> None:
        try:
            self._worker.begin()
        except GateError as outage:
            self._answers[at] = self._refused(outage)
            return
        try:
            reply = ask()
        except GateError as refusal:
            self._answers[at] = self._refused(refusal)
            return
        finally:
            self._worker.reading.release()
        if isinstance(reply, bytes):
            self._answers[at] = reply
            return
        self._note_undoing(reply)
        self._awaited.append((at, reply))
        self._awaited_weight += reply.weight

    def _take(self) -> None:
        at, later = self._awaited.popleft()
        self._awaited_weight -= later.weight
        try:
            reply = later.word()
        except GateError as refusal:
            reply = refused(refusal)
        if isinstance(reply, PendingReply):
            # Its turn is still the first, whatever else it waits for.
            self._awaited.appendleft((at, reply))
            self._awaited_weight += reply.weight
            self._note_undoing(reply)
        else:
            self._answers[at] = reply

    def _note_undoing(self, reply: PendingReply) -> None:
        if reply.abandon is not None:
            self._undoings.append(reply.abandon)
            # Sent after the peer's last word: no client will learn of it.
            if self._is_abandoned:
                reply.abandon()

    def _doubt(self) -> None:
        """The peer may be gone."""
        self._is_abandoned = True
        for undo in self._undoings:
            undo()

    def _refused(self, refusal: GateError) -> bytes:
        self._worker.errors += 1
        return refused(refusal)
