"""What a peer that has not shown a secret may make a worker hold: little, as anybody who reaches the port is one."""

from __future__ import annotations

import pytest

from gate.wire.client import Worker
from gate.wire.connection import MAX_STRANGER_BYTES
from gate.wire.strict import MAX_ARGS
from tests.wire.test_connection import AUTH, Line, command

HALF_A_FAN_OUT = b"*%d\r\n$11\r\nGATE.MCHECK\r\n" % MAX_ARGS + (b"$64\r\n" + b"x" * 64 + b"\r\n") * (MAX_ARGS // 2)
REFUSED = b"-ERR Protocol error: unauthenticated request too big\r\n"


def pieces(raw: bytes) -> list[bytes]:
    return [raw[at : at + 16_384] for at in range(0, len(raw), 16_384)]


def test_a_stranger_s_command_is_small(worker: Worker) -> None:
    line = Line(worker)
    held = 0
    for piece in pieces(HALF_A_FAN_OUT):
        line.send(piece)
        held = max(held, line.connection._reader.pending)
        if line.transport.closed:
            break
    assert line.transport.written == REFUSED and line.transport.closed
    assert held <= MAX_STRANGER_BYTES + 16_384


@pytest.mark.parametrize("size", [1, MAX_STRANGER_BYTES // 2])
def test_what_clients_send_on_connecting_fits(worker: Worker, size: int) -> None:
    line = Line(worker)
    for piece in pieces(command("PING", "x" * size)):
        line.send(piece)
    assert line.transport.written.endswith(b"x\r\n") and not line.transport.closed


def test_an_app_s_own_may_be_large(worker: Worker) -> None:
    line = Line(worker)
    assert line.send(AUTH) == b"+OK\r\n"
    for piece in pieces(HALF_A_FAN_OUT):
        line.send(piece)
    assert not line.transport.closed and line.connection._reader.pending > MAX_STRANGER_BYTES
