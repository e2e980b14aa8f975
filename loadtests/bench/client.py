"""The load client: one process, so light that what it measures is the server.

Requests are encoded before the clock starts, `pipeline` commands to a buffer, and the length of each buffer's replies is
learnt by asking once (which also checks the answers). Under the clock the client only sends a buffer, counts bytes until its
replies are in, and sends the next: a closed loop on each connection. The cost of that is the same for every system, a few
microseconds a buffer, so at pipeline 1 it weighs most; `redis-benchmark` is run as a cross-check for that reason.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis

RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 30.0
Connect = Callable[[], socket.socket]


class Batch(NamedTuple):
    """One buffer of commands, and how many bytes its replies take."""

    request: bytes
    reply_bytes: int
    checks: int


class Rate(NamedTuple):
    """What one timed round gave."""

    checks_per_s: float
    p50_us: float
    p99_us: float
    """Of a whole buffer's round trip."""


class Peer(RuntimeError):
    """The server closed the connection or answered an error."""


def encode(*parts: bytes | str | int) -> bytes:
    """One command."""
    # The stub says a tuple of one; the function takes any number.
    return bytes(hiredis.pack_command(parts))  # type: ignore[arg-type]


def ask(connection: socket.socket, request: bytes, replies: int) -> tuple[list[Any], int]:
    """Send, and read that many replies, decoded; also how many bytes they took."""
    connection.sendall(request)
    reader = hiredis.Reader(notEnoughData=NOT_YET)
    answers: list[Any] = []
    received = 0
    while len(answers) < replies:
        chunk = connection.recv(RECEIVE_BYTES)
        if not chunk:
            raise Peer("the server closed the connection")
        received += len(chunk)
        reader.feed(chunk)
        while (answer := reader.gets()) is not NOT_YET:
            if isinstance(answer, hiredis.ReplyError):
                raise Peer(str(answer))
            answers.append(answer)
    return answers, received


NOT_YET = object()


def connect(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def run(connect_one: Connect, batches: Sequence[Batch], connections: int, seconds: float) -> Rate:
    """Load for about `seconds`, over and over through the batches; each connection starts at another place."""
    if connections == 1:
        return _run_one(connect_one, batches, seconds)
    return _run_many(connect_one, batches, connections, seconds)


def _run_one(connect_one: Connect, batches: Sequence[Batch], seconds: float) -> Rate:
    latencies_ns: list[int] = []
    checks = 0
    with connect_one() as connection:
        buffer = bytearray(RECEIVE_BYTES)
        at, clock = 0, time.perf_counter_ns
        started = sent = clock()
        stop = started + int(seconds * 1e9)
        while sent < stop:
            request, left, count = batches[at]
            connection.sendall(request)
            while left > 0:
                left -= _received(connection, buffer)
            done = clock()
            latencies_ns.append(done - sent)
            checks += count
            at = at + 1 if at + 1 < len(batches) else 0
            sent = done
    return _rate(checks, sent - started, latencies_ns)


def _run_many(connect_one: Connect, batches: Sequence[Batch], connections: int, seconds: float) -> Rate:
    open_ones = [connect_one() for _ in range(connections)]
    poll = select.epoll()
    by_fd = {connection.fileno(): connection for connection in open_ones}
    left = dict.fromkeys(by_fd, 0)
    sent_ns = dict.fromkeys(by_fd, 0)
    at = {fd: index * len(batches) // connections for index, fd in enumerate(by_fd)}
    latencies_ns: list[int] = []
    checks, buffer, clock = 0, bytearray(RECEIVE_BYTES), time.perf_counter_ns
    try:
        started = now = clock()
        stop = started + int(seconds * 1e9)
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            left[fd], sent_ns[fd] = batches[at[fd]].reply_bytes, clock()
            connection.sendall(batches[at[fd]].request)
        while now < stop:
            for fd, _ in poll.poll(TIMEOUT_S):
                connection = by_fd[fd]
                remaining = left[fd] - _received(connection, buffer)
                if remaining > 0:
                    left[fd] = remaining
                    continue
                now = clock()
                latencies_ns.append(now - sent_ns[fd])
                index = at[fd]
                checks += batches[index].checks
                at[fd] = index = index + 1 if index + 1 < len(batches) else 0
                request, left[fd], _ = batches[index]
                sent_ns[fd] = now
                connection.sendall(request)
        return _rate(checks, now - started, latencies_ns)
    finally:
        poll.close()
        for connection in open_ones:
            connection.close()


def _received(connection: socket.socket, buffer: bytearray) -> int:
    count = connection.recv_into(buffer)
    if count == 0:
        raise Peer("the server closed the connection")
    return count


def _rate(checks: int, elapsed_ns: int, latencies_ns: list[int]) -> Rate:
    return Rate(checks / elapsed_ns * 1e9, percentile_us(latencies_ns, 0.5), percentile_us(latencies_ns, 0.99))


def percentile_us(latencies_ns: Sequence[int], share: float) -> float:
    """A percentile in microseconds; nearest rank."""
    ordered = sorted(latencies_ns)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1_000
