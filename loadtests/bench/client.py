"""The benchmark's client in Python: connections, encoded commands, replies. `load` is the client of timed rows over RESP."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis

RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 30.0


class Rate(NamedTuple):
    """The result of one timed round."""

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


def ask(connection: socket.socket, request: bytes, replies: int) -> tuple[list[Any], bytes]:
    """Send, and read that many replies, decoded; also the bytes that they came in."""
    connection.sendall(request)
    reader = hiredis.Reader(notEnoughData=NOT_YET)
    answers: list[Any] = []
    received = b""
    while len(answers) < replies:
        chunk = connection.recv(RECEIVE_BYTES)
        if not chunk:
            raise Peer("the server closed the connection")
        received += chunk
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


def percentile_us(latencies_ns: Sequence[int], share: float) -> float:
    """A percentile in microseconds; nearest rank."""
    ordered = sorted(latencies_ns)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1_000
