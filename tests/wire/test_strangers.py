"""What a peer without an App may send and hold: little, as anyone who reaches the port is one; and peers of other protocols."""

from __future__ import annotations

import pytest

from gate.wire import replies
from gate.wire.client import MAX_STRANGER_COMMANDS, MAX_WRONG_AUTHS, Worker
from gate.wire.connection import MAX_STRANGER_BYTES, STRANGER_BUDGET_BYTES
from gate.wire.strict import MAX_ARGS
from tests.wire.line import AUTH, Line, command
from tests.wire.malformed import TLS

HALF_A_FAN_OUT = b"*%d\r\n$11\r\nGATE.MCHECK\r\n" % MAX_ARGS + (b"$64\r\n" + b"x" * 64 + b"\r\n") * (MAX_ARGS // 2)
REFUSED = b"-ERR Protocol error: unauthenticated request too big\r\n"


def pieces(raw: bytes) -> list[bytes]:
    return [raw[at : at + 16_384] for at in range(0, len(raw), 16_384)]


def test_a_stranger_s_command_is_small(worker: Worker) -> None:
    line = Line(worker)
    held = 0
    for piece in pieces(HALF_A_FAN_OUT):
        line.send(piece)
        held = max(held, line.connection.reader.pending)
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
    assert not line.transport.closed and line.connection.reader.pending > MAX_STRANGER_BYTES


WRONG = command("AUTH", "app", "wrong")
WRONGPASS = (
    b"-WRONGPASS invalid username-password pair or user is disabled: "
    b"check the App key (user name) and its secret (password).\r\n"
)
TOO_MANY = (
    f"NOAUTH More than {MAX_STRANGER_COMMANDS} commands without an App: the connection is closed. "
    "Send AUTH app-key app-secret first"
)
CHECK = command("GATE.CHECK", "bob", "alice")


@pytest.mark.parametrize("sent", [b"PING\r\n", b"nosuch\r\n", CHECK, command("COMMAND", "COUNT"), command("RESET")])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_stranger_has_a_budget_of_commands(worker: Worker, sent: bytes, at_once: bool) -> None:
    line = Line(worker)
    many = [sent] * (MAX_STRANGER_COMMANDS + 3)
    line.send(*([b"".join(many)] if at_once else many))
    assert line.transport.closed
    *answered, last = line.transport.written.splitlines(keepends=True)
    assert (len(answered), last) == (MAX_STRANGER_COMMANDS, replies.error(TOO_MANY))


@pytest.mark.parametrize("sent", [b"\r\n", b"*0\r\n", b"\n" * 1_000, command("PING", "x" * 30_000)])
def test_a_stranger_has_a_budget_of_bytes(worker: Worker, sent: bytes) -> None:
    line = Line(worker)
    line.send(sent * (STRANGER_BUDGET_BYTES // len(sent)))
    was_closed = line.transport.closed
    line.send(sent * (20_000 // len(sent) + 1))
    assert (was_closed, line.transport.closed) == (False, True)
    assert line.transport.written.endswith(REFUSED)


def test_a_client_has_neither_budget_and_one_without_its_app_restarts(worker: Worker) -> None:
    line = Line(worker)
    pings = b"PING\r\n" * (MAX_STRANGER_COMMANDS - 2)
    line.send(pings + AUTH + pings + b"\r\n" * STRANGER_BUDGET_BYTES + pings)
    line.send(command("RESET") + pings)
    assert not line.transport.closed
    line.send(pings)
    assert line.transport.closed


@pytest.mark.parametrize("ask", [WRONG, command("HELLO", "3", "AUTH", "app", "wrong")], ids=["AUTH", "HELLO"])
@pytest.mark.parametrize("first", [b"", AUTH], ids=["stranger", "client"])
def test_the_fifth_wrong_auth_closes_with_the_reason(worker: Worker, ask: bytes, first: bytes) -> None:
    line = Line(worker)
    line.send(first)
    assert line.send(ask * (MAX_WRONG_AUTHS - 1)) == WRONGPASS * (MAX_WRONG_AUTHS - 1)
    last = line.send(ask + command("PING"))
    assert last.startswith(WRONGPASS[:-2]) and last.count(b"\n") == 1 and b"closed" in last
    assert line.transport.closed


# Other protocols


HTTP = b"-ERR Protocol error: this is HTTP, and this port speaks RESP: HTTP is another port (gate serve --http)\r\n"
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get /x http/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nAUTH app secret\r\nPING\r\n",
    b"PUT /x HTTP/1.0\r\n\r\n",
    b"Host: x\r\nAUTH app secret\r\n",
    b"hOsT: x\r\nAUTH app secret\r\n",
    b"post\r\nPING\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("first", [b"", AUTH], ids=["stranger", "client"])
@pytest.mark.parametrize("request_sent", REQUESTS)
def test_http_ends_the_connection_before_its_body_is_read(worker: Worker, request_sent: bytes, first: bytes) -> None:
    line = Line(worker)
    line.send(first)
    assert line.send(request_sent).splitlines(keepends=True)[-1] == HTTP
    assert b"PONG" not in line.transport.written and line.transport.written.count(b"+OK") == bool(first)
    assert line.transport.closed


@pytest.mark.parametrize("piece", [1, 2, 3, 1_000])
@pytest.mark.parametrize("version", [b"\x16\x03\x01", b"\x16\x03\x03"])
def test_tls_gets_an_error_that_says_what_to_do(worker: Worker, version: bytes, piece: int) -> None:
    line = Line(worker)
    hello = version + b"\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
    line.send(*(hello[at : at + piece] for at in range(0, len(hello), piece)))
    assert line.transport.written == replies.error(TLS) and line.transport.closed


def test_a_redis_command_that_http_also_has_is_only_unknown(worker: Worker) -> None:
    line = Line(worker)
    for words in (("GET", "key"), ("GET", "/"), ("DELETE", "x"), ("OPTIONS",)):
        assert line.send(command(*words)).startswith(b"-ERR unknown command")
    assert not line.transport.closed
