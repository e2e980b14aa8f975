"""Checks at a steady pace, far from saturation: the time of one check, next to the node's other work.

Each is sent when its turn comes, whether those before were answered or not, so a server that stands still delays every check of
that time, and not just one. One connection, from a process that is asleep in between, and wakes up at once where it may have
real-time priority (as root); elsewhere what it waits for a core is in the figure, so compare with the same on a node at rest.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import time
from array import array
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType

from harness.ports import LOOPBACK
from harness.service import GateService
from loadtests.bench.apart import END, Apart
from loadtests.bench.client import RECEIVE_BYTES, Peer, ask, connect, encode, percentile_us

CHECKS_A_SECOND = 2_000
FEW_A_SECOND, FEW_BELOW_S = 200, 0.1
"""Rounds that short measure nothing: they are run for the benchmark's own sake, and so many checks keep no core busy."""
REPLY_BYTES = len(b":1\r\n")


def pace(seconds: float) -> int:
    """How many checks a second go on next to rounds of that length."""
    return CHECKS_A_SECOND if seconds >= FEW_BELOW_S else FEW_A_SECOND


class PacedChecks:
    """Use as a context: they go on until it is left."""

    def __init__(self, node: GateService, checks_a_second: int) -> None:
        credentials = node.credentials
        whom = node.resp_port, credentials.app_key, credentials.app_secret
        self.per_s = checks_a_second
        self._apart = Apart(_go_on, *whom, checks_a_second, nice=0)

    def __enter__(self) -> PacedChecks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apart.__exit__(kind, error, trace)

    def took_between(self, from_s: float, to_s: float) -> array[int]:
        """Nanoseconds of each check that was sent between these moments of `time.monotonic`, and answered."""
        took_ns: array[int] = self._apart.ask((from_s, to_s))
        return took_ns


def _go_on(line: Connection, port: int, app_key: str, app_secret: str, checks_a_second: int) -> None:
    gc.disable()
    with suppress(PermissionError):  # as on a machine of its own, where it need not wait for what it measures
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with connect(LOOPBACK, port) as connection:
        ask(connection, encode("AUTH", app_key, app_secret), 1)
        _Pace(line, connection, checks_a_second).run()


class _Pace:
    """The process's own side. What it keeps are numbers: a hundred thousand objects would be looked through."""

    def __init__(self, line: Connection, connection: socket.socket, checks_a_second: int) -> None:
        self._every_s = 1 / checks_a_second
        self._line = line
        self._connection = connection
        self._request = encode("GATE.CHECK", b"online000000", b"online000001")
        self._under_way: deque[float] = deque()
        self._sent_s, self._took_ns = array("d"), array("q")

    def run(self) -> None:
        every_s, next_s, unread = self._every_s, time.monotonic(), 0
        while True:
            while next_s <= time.monotonic():
                self._under_way.append(time.monotonic())
                self._connection.sendall(self._request)
                next_s += every_s
            wait_s = max(0.0, next_s - time.monotonic())
            ready = select.select([self._connection.fileno(), self._line.fileno()], [], [], wait_s)[0]
            if self._connection.fileno() in ready:
                unread = self._note(unread + _received(self._connection))
            if self._line.fileno() in ready:
                order = self._line.recv()
                if order == END:
                    return
                self._line.send(self._between(*order))

    def _note(self, unread: int) -> int:
        """Every whole reply; how many bytes are left of one that is not."""
        came_s = time.monotonic()
        while unread >= REPLY_BYTES:
            unread -= REPLY_BYTES
            sent_s = self._under_way.popleft()
            self._sent_s.append(sent_s)
            self._took_ns.append(int((came_s - sent_s) * 1e9))
        return unread

    def _between(self, from_s: float, to_s: float) -> array[int]:
        return self._took_ns[bisect_left(self._sent_s, from_s) : bisect_left(self._sent_s, to_s)]


def _received(connection: socket.socket) -> int:
    chunk = connection.recv(RECEIVE_BYTES)
    if not chunk:
        raise Peer("the server closed the connection on which checks were asked")
    return len(chunk)


def p99_ms(took_ns: array[int]) -> float:
    """Without an end where no check of that time was answered."""
    return percentile_us(took_ns, 0.99) / 1_000 if took_ns else float("inf")


def slowest_ms(took_ns: array[int]) -> float:
    """Without an end, as above."""
    return max(took_ns) / 1e6 if took_ns else float("inf")
