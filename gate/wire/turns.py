"""A turn for every connection: how much one may read and do before the others have theirs.

A worker is one thread. A connection reads at most `TURN_BYTES` and works for about `SLICE_US`; then it reads nothing, so that
the kernel's buffer holds its peer back, and waits here. Between two rounds the loop looks at every socket: a peer whose
commands fit in a slice, as a router's do, never waits for a turn, only for what others do in one pass of the loop.

Bounds on one pass, however many connections have work: `ROUND_US` for those with an App, as much for what they send in the
meantime, one slice for those without. So strangers together take a small part of a worker, and never wait in front of a client
with credentials; and a client that uses little (`client.Usage`) waits for one pass at most.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

from gate.clock import monotonic_us

# Read at a time: a pipeline of 64 checks fits twice. What C reads of it takes 0.05 ms, the exact parser's pieces 0.5 ms.
TURN_BYTES = 16 * 1024
# Work of one connection before it waits for its next turn: some hundred of the dearer commands, or a thousand checks.
SLICE_US = 500
# Commands between two looks at the clock where they are decided together: 0.1 ms, or 1.5 ms where no User is cached.
PIECE_COMMANDS = 256
# Work for those who wait before the loop looks at every socket again: with what is read meanwhile, a pass is below 2 ms.
ROUND_US = 1_000
MOST_IN_A_ROUND = ROUND_US // SLICE_US
TIMED_EVERY = 8
# A connection may use one part of so many of a worker's time and still counts as one that uses little.
LIGHT_SHARE = 20

TakeTurn = Callable[[], None]


async def in_turn(turns: Turns, work: Callable[[], None]) -> None:
    """For a task: do some work of at most a slice when its turn comes, and go on behind that."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_turn() -> None:
        if done.done():  # cancelled, since the peer is gone
            return
        try:
            work()
        except BaseException as fault:
            done.set_exception(fault)
            raise
        done.set_result(None)

    turns.wait(take_turn)
    await done


class Times:
    """How long checks took, counted by bound: of chunks that Python answered, one in `TIMED_EVERY`. The core counts its own."""

    def __init__(self, bounds_us: Sequence[int] = ()) -> None:
        self.bounds_us = bounds_us
        self.chunks = 0
        """Those begun: the connection counts them itself, because most are not measured."""
        self._counts = [0] * (len(bounds_us) + 1)
        self._sum_us = 0

    def end(self, from_us: int) -> None:
        """A chunk is answered that was begun then."""
        took_us = monotonic_us() - from_us
        self._counts[bisect_left(self.bounds_us, took_us)] += 1
        self._sum_us += took_us

    def take(self) -> tuple[list[int], int]:
        """What was counted since the last call, and the sum in us."""
        taken = self._counts, self._sum_us
        self._counts, self._sum_us = [0] * len(self._counts), 0
        return taken


class Turns:
    """Who waits for a turn in one worker. Each waits at most once, and asks again if it has more to do."""

    __slots__ = ("_call_soon", "_known", "_strangers", "is_busy")

    def __init__(self, call_soon: Callable[[TakeTurn], object] | None = None) -> None:
        """`call_soon` is the running loop's unless given."""
        self._call_soon = call_soon
        self._known: deque[TakeTurn] = deque()
        self._strangers: deque[TakeTurn] = deque()
        # An attribute: asked on each read.
        self.is_busy = False
        """Whether anything waits for a turn: then what a stranger sends waits too."""

    @property
    def is_crowded(self) -> bool:
        """Whether a round is filled: then what is sent waits too, unless its connection used little lately."""
        return len(self._known) >= MOST_IN_A_ROUND

    def wait(self, take_turn: TakeTurn, *, is_stranger: bool = False) -> None:
        """Call it when its turn comes, in a later pass of the loop."""
        # Two queues: a round takes one stranger, however many there are.
        (self._strangers if is_stranger else self._known).append(take_turn)
        if not self.is_busy:
            self.is_busy = True
            self._call_round()

    def _round(self) -> None:
        until_us = monotonic_us() + ROUND_US
        try:
            while self._known:
                self._known.popleft()()
                if monotonic_us() >= until_us:
                    break
            if self._strangers:
                self._strangers.popleft()()
        finally:  # a turn that failed ended its own connection
            self.is_busy = bool(self._known or self._strangers)
            if self.is_busy:
                self._call_round()

    def _call_round(self) -> None:
        call_soon = self._call_soon or asyncio.get_running_loop().call_soon
        call_soon(self._round)
