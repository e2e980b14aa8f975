"""One RESP connection: bytes in, replies out, in order.

Each turn (`turns`): take commands from what was read, begin a read bracket, answer them, end it, write once; checks: `hot`.

What can make a connection wait, and the bound on it:

- Its next turn, while others have theirs.
- A check that demands a Revision (`MIN`) which is not here yet: later commands wait behind it, at most `MIN_WAIT_MS`, then it
  is answered `STALE`.
- A presence command, which asks Redis: commands behind it go on, their replies queue up behind its own (`Outbox`), and past
  `MAX_AWAITED` of those nothing more is read. A lease holds back what follows it, which may depend on it, and so does
  what is long in itself.
- `GATE.EVENTS … BLOCK` and EXEC, which may take long: as a lease, but the peer's end is noticed meanwhile.
- A peer that does not read its replies: nothing more is decided or read for it until it does; after `STALL_LIMIT_MS` it is cut.
- A peer that leaves a command unfinished: cut after `STALL_LIMIT_MS`. An idle connection between commands may stay for ever,
  once it gave the secret of an App.

Invariants: replies keep the order of commands; a fault of one peer costs that connection only; what was read and not answered
is less than one turn's bytes and one command.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gate.clock import monotonic_us
from gate.errors import GateError
from gate.tls import Handshake
from gate.wire.checks import HOT_REPLIES, RevisionDemand
from gate.wire.client import Client, Worker
from gate.wire.commands import COMMANDS, answer
from gate.wire.hot import answered, answered_now, batch_reply, begins_with_check
from gate.wire.line import Line, Outbox
from gate.wire.refusals import TOO_MANY
from gate.wire.replies import error
from gate.wire.resp import CommandReader
from gate.wire.table import PendingReply
from gate.wire.turns import PIECE_COMMANDS, SLICE_US, TIMED_EVERY, TURN_BYTES
from gate.wire.waiting import RevisionWait, too_late

if TYPE_CHECKING:
    from gate.wire.listener import WireServer

# How long a peer may leave a command unfinished, or its replies unread.
STALL_LIMIT_MS = 30_000
# An unfinished command of a peer without an App: by what others may hold, a few hundred would fill the memory.
MAX_STRANGER_BYTES = 64 * 1024
# All that a peer may send without an App: what clients send on connecting is less than 1 KiB.
STRANGER_BUDGET_BYTES = 2 * MAX_STRANGER_BYTES


class Connection(asyncio.BufferedProtocol):
    """See the module. Created by the listener, one a peer."""

    __slots__ = (
        "_backlog",
        "_draining",
        "_is_full",
        "_is_paused",
        "_rest",
        "_server",
        "_stalled_since_ms",
        "_stranger_bytes",
        "client",
        "handshake",
        "is_local",
        "is_stranger",
        "is_waiting",
        "line",
        "outbox",
        "reader",
        "revision_wait",
        "unread",
        "worker",
    )

    def __init__(self, worker: Worker, server: WireServer, handshake: Handshake | None = None) -> None:
        self.worker, self._server, self.handshake = worker, server, handshake  # the last one on the TLS port only
        self.client = Client(worker, COMMANDS)
        self.reader = CommandReader()
        self.line: Line | None = None
        self._rest = b""  # read, and not cut into commands yet
        self._backlog: list[list[bytes]] = []  # commands that were not answered yet
        self._is_full = False  # the last read filled the buffer: the peer sent more than one turn takes
        self.is_waiting = False  # for a turn
        self._is_paused = False  # nothing more is decided just now
        self.outbox = Outbox(self._on_ready)
        self.revision_wait = RevisionWait(worker, self._go_on)
        self._stalled_since_ms = self._stranger_bytes = 0
        self.unread = self._draining = False
        self.is_stranger = True
        """Whether it has no App."""
        self.is_local = False
        """Whether it came by the unix socket."""

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count in, or refuse where there are too many."""
        self.line = Line(cast(asyncio.Transport, transport), self.worker.sockets, self._received, self.client.usage.add)
        peer = transport.get_extra_info("peername")
        self.is_local = not isinstance(peer, tuple)
        self.client.peer = "unix" if self.is_local else f"{peer[0]}:{peer[1]}"
        if not self._server.opened(self):
            self.refuse(TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count out; nothing outlives the connection."""
        if self.line is not None:  # first: the transport closes the descriptor next, whatever is raised here
            self.line.leave()
            self.line = None
        self._server.closed(self)  # its slot is free at once
        self._backlog.clear()
        self._rest = b""
        self.outbox.abandon()
        self.client.gone()
        self.revision_wait.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self.worker.received

    def buffer_updated(self, nbytes: int) -> None:
        """Take it out of the buffer, which all connections share, and have a turn."""
        line, taken, times = self.line, 0, self.worker.times
        if self._draining or line is None:
            return
        if nbytes < TURN_BYTES and not (self.reader.pending or self._is_paused or self.outbox.waiting):
            times.chunks += 1
            timed_us = 0 if times.chunks % TIMED_EVERY else monotonic_us()
            taken, reply = answered_now(self.client, nbytes)
            if taken:
                self._stalled_since_ms = 0
                line.write(reply)
                if timed_us:
                    times.end(timed_us)
            if taken == nbytes:
                return
        self._received(self.worker.received[taken:nbytes].tobytes(), nbytes == TURN_BYTES, was_answered=taken > 0)

    def _received(self, received: bytes, is_full: bool, was_answered: bool) -> None:
        """What is left of what was read at once: of `TURN_BYTES`, or of less; and whether checks in front were answered."""
        if self._draining or self.line is None:
            return
        if was_answered:
            self._stalled_since_ms = 0
        if self.revision_wait.deadline_ms:
            self.revision_wait.received(is_rest=self._is_full)
        self._is_full = is_full
        self._rest += received  # less than one turn's bytes was left
        turns = self.worker.turns
        if self.client.app_reading is None:
            self._stranger_bytes += len(received)
        if turns.is_busy and (self.is_stranger or (turns.is_crowded and not self.client.usage.is_light)):
            self._wait_for_a_turn()
        else:
            self._go_on()

    def eof_received(self) -> bool:
        """The peer finished sending: its replies are flushed, then the transport closes itself."""
        self._server.stalls(self)
        self.outbox.abandon_pending()  # it may be gone: no Session is left without a client
        if self._backlog or self._rest or self.revision_wait.is_on or self.outbox:
            self._draining = True
            return True
        return False

    def pause_writing(self) -> None:
        """The peer does not read: stop deciding and reading for it."""
        self.unread = True
        self._hold()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self.unread = False
        self._stalled_since_ms = 0
        self._go_on()

    # Called by the listener

    def drain(self) -> None:
        """Answer what was received, then close; new bytes are ignored."""
        self._draining = True
        if self.line is not None:
            self.line.disarm()
        self.outbox.hurry()  # else a `BLOCK` of a minute would outlast the drain
        self._close_when_done()

    def refuse(self, problem: str) -> None:
        """Send the error and close, whatever else was to be answered."""
        if self.line is None or self.line.transport.is_closing():
            return
        self._draining, self._rest = True, b""  # what is received from here on is not answered
        self._backlog.clear()
        self.line.write(error(problem))
        self.line.close()
        self._server.stalls(self)

    def stalled_ms(self, now_monotonic_ms: int) -> int:
        """For how long the peer has owed bytes or reading, without getting anywhere; 0 if it owes nothing.

        It owes reading, too, where the connection closes as soon as the last replies are out. The rest of a command it owes
        only while it is read: what waits for an answer of ours to something earlier is not its doing.
        """
        has_turns_left = self._is_held() or self._backlog or self._rest or self.is_waiting
        owes_bytes = self.reader.pending and not has_turns_left
        if self.line is None or not (self.unread or owes_bytes or self.line.transport.is_closing()):
            self._stalled_since_ms = 0
            return 0
        self._stalled_since_ms = self._stalled_since_ms or now_monotonic_ms
        return max(1, now_monotonic_ms - self._stalled_since_ms)

    def abort(self) -> None:
        """Cut it."""
        if self.line is not None:
            self.line.abort()

    # Turns

    def _take_turn(self) -> None:
        self.is_waiting = False
        self._go_on()

    def _go_on(self) -> None:
        """Answer for one slice, then see what is next; nothing while it waits for its turn, or for what else holds it."""
        if self.line is None or self.is_waiting:
            return
        try:
            if not (self._is_held() or self.client.quitting):
                self._work()
            self._settle()
        except BaseException:
            self.abort()  # what escapes here would leave the peer waiting for ever
            raise

    def _work(self) -> None:
        from_us = now_us = monotonic_us()
        until_us = from_us + SLICE_US
        while now_us < until_us:
            if self._backlog:
                commands, self._backlog = self._backlog, []
            elif self._rest:
                if begins_with_check(self._rest) and not (self.reader.pending or self.reader.error):
                    taken, replies = answered(self.client, self._rest, until_us)
                    if taken:
                        self._stalled_since_ms, self._rest = 0, self._rest[taken:]
                        self._write(replies)
                        if self._is_held():
                            break
                        now_us = monotonic_us()
                        continue
                commands, self._rest = self.reader.take(self._rest)
            else:
                break
            if commands:
                self._stalled_since_ms = 0  # it got somewhere
                self._write(self._answered(commands, until_us))
                if self._is_held() or self.client.quitting:
                    break  # what follows waits, or is not answered any more
            now_us = monotonic_us()
        self.client.usage.add(from_us, now_us)

    def _settle(self) -> None:
        """After a slice: end a broken or quitting peer, watch one that owes bytes, and read on where nothing is left to do."""
        client, reader, line = self.client, self.reader, self.line
        if (client.app_reading is None) is not self.is_stranger:
            self.is_stranger, self._stranger_bytes = not self.is_stranger, 0
            self._server.stands(self)
        is_over_budget = self._stranger_bytes > STRANGER_BUDGET_BYTES or reader.pending > MAX_STRANGER_BYTES
        if self.is_stranger and reader.error is None and is_over_budget:
            reader.refuse("ERR Protocol error: unauthenticated request too big")
        if client.quitting or reader.error is not None or self._draining:
            self._close_when_done()
        if self._is_held():
            if self._backlog or self._rest:
                self.pause()
            return
        if self._backlog or self._rest or (self._is_full and not self._is_paused):
            self._wait_for_a_turn()
            return
        if self._is_paused:
            self.resume()
        if reader.pending:
            self._server.stalls(self)
            return
        self._stalled_since_ms, app = 0, client.hot_app
        if line is None or app is None or self._draining or client.quitting or self._is_paused or self.outbox.waiting:
            return
        # The core's poll knows the deployment's age limit only.
        if app.checks is not None and app.app is client.facts and not app.has_own_age_limit:
            line.arm(app.checks, app.sync)  # last: the core may answer as soon as this returns

    def _wait_for_a_turn(self) -> None:
        if self.line is not None and not (self.is_waiting or self.line.transport.is_closing()):
            self.is_waiting = True
            self.pause()
            self.worker.turns.wait(self._take_turn, is_stranger=self.is_stranger)

    # Deciding

    def _answered(self, commands: list[list[bytes]], until_us: int) -> bytes:
        """The replies of as many as may be answered now; the rest becomes the backlog."""
        if len(commands) > PIECE_COMMANDS:
            commands, self._backlog = commands[:PIECE_COMMANDS], commands[PIECE_COMMANDS:]
        worker = self.worker
        try:
            worker.begin()
        except GateError as fault:
            return self._one_by_one(commands, until_us, fault)
        try:
            written = HOT_REPLIES.get(commands[0][0])
            fast = None if written is None else batch_reply(self.client, commands, written)
            return fast or self._one_by_one(commands, until_us)
        finally:
            worker.reading.release()

    def _one_by_one(self, commands: list[list[bytes]], until_us: int, outage: GateError | None = None) -> bytes:
        client, replies, done = self.client, list[bytes](), 0
        for command in commands:
            reply = answer(client, command, outage)
            if isinstance(reply, RevisionDemand):
                if not self.revision_wait.is_over:
                    self.revision_wait.begin(reply)
                    self._hold()
                    break
                reply = too_late(self.worker, reply) if reply.late is None else reply.late()
            done += 1
            if isinstance(reply, PendingReply):
                self._write(b"".join(replies))  # first: they stand in front of it
                replies.clear()
                self.outbox.wait_for(reply)
                if self._is_held():
                    self._hold(listens=reply.listens)
                    break
            else:
                replies.append(reply)
            if client.quitting or monotonic_us() >= until_us:
                break
        if done < len(commands):
            self._backlog = commands[done:] + self._backlog
        return b"".join(replies)

    def _write(self, replies: bytes) -> None:
        if not replies or self.line is None:
            return
        if self.outbox:
            self.outbox.put(replies)  # behind those that wait, in the order of the commands
        else:
            self.line.write(replies)

    # Waiting

    def _on_ready(self, _: object) -> None:
        """Write what has its turn now. What escapes here would leave the peer waiting for ever, so it ends the connection."""
        try:
            ready = self.outbox.take_ready()
        except BaseException:
            self.abort()
            raise
        if ready and self.line is not None:
            self.line.write(ready)
            self._go_on()

    def _is_held(self) -> bool:
        return self.unread or self.revision_wait.is_on or self.outbox.is_full

    def _hold(self, *, listens: bool = False) -> None:
        """Go on later. One that listens reads on until more is sent, so as to notice its peer's end."""
        if listens:
            self.resume()  # it may have waited for its turn; `_settle` pauses it if there is more to do
            self._is_paused = True
        else:
            self.pause()
        self._server.stalls(self)

    def pause(self) -> None:
        """Read nothing more, and decide nothing, until `resume`."""
        self._is_paused = True
        if self.line is not None:
            self.line.pause()

    def resume(self) -> None:
        if self._is_paused and self.line is not None:
            self.line.resume()
        self._is_paused = False

    def _close_when_done(self) -> None:
        if self.line is None or self.line.transport.is_closing():
            return
        if self.client.quitting:
            self._backlog.clear()
            self._rest = b""
        if self._backlog or self._rest or (self.revision_wait.is_on and not self.client.quitting) or self.outbox:
            return
        if self.reader.error is not None and not self.client.quitting:
            self.line.write(error(self.reader.error))
        self._draining = True
        self.line.close()
        self._server.stalls(self)
