"""The core's poll alone, on real sockets: which it reads, what it passes on, and the effect of faults."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

import pytest

from gate import native
from gate.native import Socket, Sockets
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.wire.line import Line
from gate.wire.resp import LONE_BYTES
from gate.wire.turns import SLICE_US, TURN_BYTES, Turns
from tests.native.peers import BLACKLISTED, ledger
from tests.replica.ledger import Ledger, said
from tests.wire.line import RecordingTransport, command

__all__ = ["ledger"]
pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)


class LocalSession:
    """One socket under a poll, its peer, and what was called."""

    def __init__(self, poll: Sockets, app: AppReading | None) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
        self.calls: list[tuple[object, ...]] = []
        self.fault: Exception | None = None
        self.socket: Socket = poll.add(self.near.fileno(), self._bytes, self._end, self._unsent, lambda *_: None)
        self.socket.resume()
        self.app = app
        self.arm()

    def arm(self) -> None:
        if self.app is not None and self.app.checks is not None:
            self.socket.arm(self.app.checks, self.app.sync)

    def _bytes(self, received: bytes, is_full: bool, was_answered: bool) -> None:
        self.calls.append((received, is_full, was_answered))
        if self.fault is not None:
            raise self.fault

    def _end(self, is_broken: bool) -> None:
        self.calls.append(("end", is_broken))

    def _unsent(self, left: bytes) -> None:
        self.calls.append(("unsent", left))

    def fill(self, sent: bytes) -> int:
        """As often as there is room; how often."""
        times = 0
        with contextlib.suppress(BlockingIOError):
            while self.far.send(sent) == len(sent):
                times += 1
        return times

    def received(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return self.far.recv(1 << 20)
        return b""

    def close(self) -> None:
        self.socket.leave()
        self.near.close()
        self.far.close()


class Table:
    """A poll over a facts file, and its seats."""

    def __init__(
        self,
        ledger: Ledger,
        look: Callable[[Collection[Callable[[], object]]], bool],
        *,
        is_limited: bool = False,
        turns: Any = None,
        bounds_us: tuple[int, ...] = (),
    ):
        assert native.core is not None
        self.reading = Reading(ledger.directory)
        self.reading.refresh()
        app = self.reading.app("app")
        self.reading.release()
        assert app is not None and app.checks is not None
        self.app = app
        turns = turns or Turns()
        self.poll = native.core.Sockets(look, is_limited, turns, TURN_BYTES, LONE_BYTES, SLICE_US, bounds_us)
        self.seats: list[LocalSession] = []

    def seat(self, *, is_armed: bool = True) -> LocalSession:
        self.seats.append(LocalSession(self.poll, self.app if is_armed else None))
        return self.seats[-1]

    def close(self) -> None:
        for seat in self.seats:
            seat.close()
        self.poll.close()
        self.reading.close()


@pytest.fixture
def table(ledger: Ledger) -> Iterator[Table]:
    made = Table(ledger, lambda _: True)
    yield made
    made.close()


SIXTY_FOUR = b"*3\r\n$10\r\nGATE.CHECK\r\n$16\r\n" + b"f" * 16 + b"\r\n$5\r\nalice\r\n"


@pytest.mark.parametrize("is_full", [True, False])
def test_who_floods_does_not_keep_others_from_being_read(table: Table, is_full: bool) -> None:
    """Level-triggered events come in the same order in every pass: a socket without room must be first in the next."""
    chunk = (SIXTY_FOUR + b"*0\r\n") * (TURN_BYTES // 64 + 1)
    chunk = chunk[:TURN_BYTES] if is_full else SIXTY_FOUR * (TURN_BYTES // len(SIXTY_FOUR))
    flooding = [table.seat() for _ in range(8)]
    rounds = min(seat.fill(chunk) for seat in flooding)
    singles = [table.seat() for _ in range(60)]
    for seat in singles:
        seat.far.send(BLACKLISTED)
    assert rounds >= 5
    for _ in range(4):
        table.poll.serve()
        for seat in flooding:
            seat.arm()
            seat.received()
    assert [seat.received() for seat in singles] == [b":0\r\n"] * 60


def test_a_full_turn_of_checks_is_handed_over_for_its_next_turn(table: Table) -> None:
    eight = command("GATE.CHECK", "bob", "alice" + "x" * 22)
    assert len(eight) == 64
    seat = table.seat()
    seat.far.send(eight * 256)
    table.poll.serve()
    assert (seat.received(), seat.calls) == (b":1\r\n" * 256, [(b"", True, True)])


def test_one_pass_in_eight_is_timed_and_each_chunk_of_it_counts(ledger: Ledger) -> None:
    table = Table(ledger, lambda _: True, bounds_us=(1, 10_000_000))
    assert table.poll.take_times() == ([0, 0, 0], 0)
    seats = [table.seat() for _ in range(2)]
    for _ in range(16):
        for seat in seats:
            seat.far.send(BLACKLISTED)
        table.poll.serve()
        for seat in seats:
            assert seat.received() == b":0\r\n"
    counts, sum_us = table.poll.take_times()
    # Reads of nothing are passes too, so that fewer than two of sixteen may be timed, and never one chunk of two.
    assert sum(counts) in (2, 4) and counts[2] == 0
    assert sum_us >= 2 * counts[1]
    assert table.poll.take_times() == ([0, 0, 0], 0)
    table.close()


def test_times_have_few_bounds(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="too many bounds"):
        Table(ledger, lambda _: True, bounds_us=tuple(range(25)))


def test_a_look_that_fails_costs_no_connection_what_it_sent(ledger: Ledger) -> None:
    def look(_: object) -> bool:
        raise RuntimeError("look")

    table = Table(ledger, look, is_limited=True)
    seats = [table.seat(), table.seat(is_armed=False), table.seat()]
    for seat in seats:
        seat.far.send(BLACKLISTED)
    with pytest.raises(RuntimeError, match="look"):
        table.poll.serve()
    assert [seat.calls for seat in seats] == [[(BLACKLISTED, False, False)]] * 3
    table.close()


def test_a_commit_costs_the_apps_that_are_asked_about(ledger: Ledger) -> None:
    looked: list[object] = []
    table: Table

    def look(syncs: Collection[Callable[[], object]]) -> bool:
        looked.append(syncs)
        table.reading.catch_up(syncs)
        return True

    table = Table(ledger, look)
    seats = [table.seat() for _ in range(3)]
    for wanted in (b":0\r\n", b":1\r\n"):
        for seat in seats[:2]:
            seat.far.send(BLACKLISTED)
        table.poll.serve()
        assert [seat.received() for seat in seats] == [wanted, wanted, b""]
        ledger.commit(said("unblocked", b"alice", b"bob"))
    assert looked == [{table.app.sync}]
    table.close()


def test_a_fault_amid_the_answers_costs_no_connection_what_it_sent(ledger: Ledger) -> None:
    class Broken:
        @property
        def is_busy(self) -> bool:
            raise RuntimeError("busy")

    table = Table(ledger, lambda _: True, turns=Broken())
    seats = [table.seat(), table.seat()]
    for seat in seats:
        seat.far.send(BLACKLISTED)
    with pytest.raises(RuntimeError, match="busy"):
        table.poll.serve()
    assert [seat.calls for seat in seats] == [[(BLACKLISTED, False, False)]] * 2
    table.close()


def test_what_fails_for_some_is_handed_over_to_the_others(table: Table) -> None:
    seats = [table.seat() for _ in range(5)]
    for seat in seats:
        seat.far.send(BLACKLISTED + b"PING\r\n")
    seats[1].fault = RuntimeError("one")
    with pytest.raises(RuntimeError, match="one"):
        table.poll.serve()
    assert [seat.calls for seat in seats] == [[(b"PING\r\n", False, True)]] * 5
    for seat in seats:
        seat.far.send(b"PING\r\n")
    seats[3].fault = KeyError("two")
    with pytest.raises(ExceptionGroup) as group:
        table.poll.serve()
    assert group.value.exceptions == (seats[1].fault, seats[3].fault)
    assert [len(seat.calls) for seat in seats] == [2] * 5
    assert [seat.received() for seat in seats] == [b":0\r\n"] * 5


def test_one_that_leaves_in_a_pass_is_read_no_more_and_nothing_is_sent(table: Table) -> None:
    first, second = table.seat(is_armed=False), table.seat()
    first.far.send(b"x")
    first.socket.leave()
    for seat in (first, second):
        seat.far.send(BLACKLISTED)
    assert first.socket.send(b"reply") == 0
    first.near.close()
    heir = table.seat(is_armed=False)  # most likely under the same number
    heir.far.send(b"heir")
    first.socket.leave()
    first.socket.pause()
    first.socket.resume()
    table.poll.serve()
    assert (first.calls, heir.calls, second.received()) == ([], [(b"heir", False, False)], b":0\r\n")


def test_the_end_and_a_broken_peer_are_reported_once(table: Table) -> None:
    ending, sending, broken = table.seat(), table.seat(), table.seat()
    ending.far.shutdown(socket.SHUT_WR)
    sending.far.send(BLACKLISTED)
    sending.far.shutdown(socket.SHUT_WR)
    broken.near.send(b"unread")
    broken.far.close()
    for _ in range(3):
        table.poll.serve()
    assert (ending.calls, broken.calls) == ([("end", False)], [("end", True)])
    assert (sending.received(), sending.calls) == (b":0\r\n", [("end", False)])


def test_a_poll_that_could_not_be_made_closes_no_descriptor(ledger: Ledger) -> None:
    assert native.core is not None
    before = os.fstat(0)
    with pytest.raises(TypeError):
        native.core.Sockets()
    gc.collect()
    assert os.path.samestat(before, os.fstat(0))


def test_replies_that_cannot_be_written_end_the_connection() -> None:
    """Else the peer would take the next reply for the one that was lost."""

    class Full(RecordingTransport):
        def write(self, sent: bytes) -> None:
            raise MemoryError

    transport = Full()
    line = Line(cast(asyncio.Transport, transport), None, lambda *_: None, lambda *_: None)
    with pytest.raises(MemoryError):
        line.write(b":1\r\n")
    assert transport.aborted
