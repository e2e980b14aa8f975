"""The `/user/*` API under 50 connections, each with one call at a time: what an app server asks of it, by kind of call.

Everything is on this machine, Redis and the load client too, and each write waits until the node has applied it.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from itertools import count
from statistics import median
from typing import NamedTuple

from harness.signing import signature_headers
from loadtests.bench.bed import Bed, create_app
from loadtests.bench.client import RECEIVE_BYTES, TIMEOUT_S, Peer, Rate, percentile_us
from loadtests.bench.http import LENGTH, http_connection
from loadtests.bench.table import Row

CONNECTIONS = 50
USERS = 1_000
MINUTE = 10

Body = Callable[[int], bytes]


class Kind(NamedTuple):
    """Calls of one kind: where to, the form of the nth, and how many a second there must be."""

    what: str
    path: str
    body: Body
    least_per_s: int


def _user(number: int) -> str:
    return f"call-{number % USERS}"


KINDS = (
    Kind("a first Token: registers the User", "getToken", lambda nth: f"userId=new-{nth}&name=N".encode(), 2_000),
    Kind("another Token", "getToken", lambda nth: f"userId={_user(nth)}".encode(), 2_000),
    Kind("a write: block", "block", lambda nth: f"userId={_user(nth)}&minute={MINUTE}".encode(), 1_500),
    Kind(
        "a write: blacklist/add",
        "blacklist/add",
        lambda nth: f"userId={_user(nth)}&blackUserId={_user(nth // USERS + 1)}".encode(),
        1_500,
    ),
    Kind("a read: info", "info", lambda nth: f"userId={_user(nth)}".encode(), 3_000),
    Kind("a read: blacklist/query", "blacklist/query", lambda nth: f"userId={_user(nth)}&size=20".encode(), 3_000),
    Kind("a read: checkOnline", "checkOnline", lambda nth: f"userId={_user(nth)}".encode(), 3_000),
)


def measure(bed: Bed) -> list[Row]:
    """One row a kind."""
    # Of an App without a limit to its Users.
    app = create_app(bed.node, "Calls", "--environment", "production", "--redis", bed.store.url)
    numbers = count()
    _load(bed, app, KINDS[1], numbers, USERS, seconds=None)
    return [_row(bed, app, kind, numbers) for kind in KINDS]


def _row(bed: Bed, app: tuple[str, str], kind: Kind, numbers: count[int]) -> Row:
    rates = [_load(bed, app, kind, numbers, None, bed.options.seconds) for _ in range(bed.options.rounds)]
    per_s = median(rate.checks_per_s for rate in rates)
    p99_ms = median(rate.p99_us for rate in rates) / 1_000
    return Row(
        "user-calls",
        f"{kind.what}, {CONNECTIONS} connections",
        f">= {kind.least_per_s:,}/s",
        f"{per_s:,.0f}/s, p99 {p99_ms:.1f} ms",
        per_s >= kind.least_per_s,
        {"per_s": per_s, "p50_ms": median(rate.p50_us for rate in rates) / 1_000, "p99_ms": p99_ms},
    )


def _load(
    bed: Bed, app: tuple[str, str], kind: Kind, numbers: count[int], calls: int | None, seconds: float | None
) -> Rate:
    """So many calls, or as many as there are in so many seconds; the next one of a connection after its last answer."""
    signed = "".join(f"{name}: {value}\r\n" for name, value in signature_headers(*app).items())
    head = f"POST /user/{kind.path}.json HTTP/1.1\r\nHost: gate\r\n{signed}Content-Length: "
    connections = [http_connection(bed.node) for _ in range(CONNECTIONS)]
    try:
        return _closed_loop(connections, lambda: _request(head, kind.body(next(numbers))), calls, seconds)
    finally:
        for connection in connections:
            connection.close()


def _request(head: str, body: bytes) -> bytes:
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def _closed_loop(
    connections: list[socket.socket], next_request: Callable[[], bytes], calls: int | None, seconds: float | None
) -> Rate:
    by_fd = {connection.fileno(): connection for connection in connections}
    answers = dict.fromkeys(by_fd, b"")
    sent_ns = dict.fromkeys(by_fd, 0)
    latencies_ns: list[int] = []
    clock = time.perf_counter_ns
    with select.epoll() as poll:
        started = now = clock()
        stop = None if seconds is None else started + int(seconds * 1e9)
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            sent_ns[fd] = clock()
            connection.sendall(next_request())
        while now < stop if stop is not None else len(latencies_ns) < (calls or 0):
            for fd, _ in poll.poll(TIMEOUT_S):
                answers[fd] += by_fd[fd].recv(RECEIVE_BYTES)
                if _is_whole(answers[fd]):
                    now = clock()
                    latencies_ns.append(now - sent_ns[fd])
                    answers[fd], sent_ns[fd] = b"", now
                    by_fd[fd].sendall(next_request())
    return Rate(
        len(latencies_ns) / (now - started) * 1e9, percentile_us(latencies_ns, 0.5), percentile_us(latencies_ns, 0.99)
    )


def _is_whole(answer: bytes) -> bool:
    """Whether a whole good answer is there; anything but 200 ends the run."""
    if not answer or (len(answer) > 12 and answer[9:12] != b"200"):
        raise Peer(f"a call failed: {answer[:500].decode(errors='replace')}")
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[:end].decode().lower()
    at = head.index(LENGTH) + len(LENGTH)
    return len(answer) - end - 4 >= int(head[at:].partition("\r\n")[0])
