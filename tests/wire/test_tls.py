"""The TLS port of a worker, on both loops: who is let in, every bad handshake, and connections as on the plain port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from gate import tls
from gate.option_values import TlsFiles
from gate.tls import Handshake, TlsListener, bound_sockets, server_context
from gate.wire import replies
from gate.wire.listener import WireServer
from harness.ports import LOOPBACK
from harness.tls import Authority, Certificate
from harness.waiting import wait_until_async
from tests.wire.test_listener import DEADLINE_S, Serve, Wire, event_loop_policy, serve

__all__ = ["event_loop_policy", "serve"]

LONG = b"x" * 60_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


def context_of(certificate: Certificate, client_ca: Path | None = None) -> ssl.SSLContext:
    return server_context(
        TlsFiles(str(certificate.certificate), str(certificate.key), str(client_ca) if client_ca else None)
    )


def with_tls(server: WireServer, certificate: Certificate) -> WireServer:
    server.use_tls(context_of(certificate), LOOPBACK, 0)
    return server


async def connected(server: WireServer, context: ssl.SSLContext) -> Wire:
    return Wire(*await asyncio.open_connection(LOOPBACK, server.tls_port, ssl=context, limit=1 << 24))


async def client(server: WireServer, authority: Authority) -> Wire:
    wire = await connected(server, authority.client_context())
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    return wire


async def silent(server: WireServer) -> Wire:
    return Wire(*await asyncio.open_connection(LOOPBACK, server.tls_port))


async def test_a_pipeline_over_tls(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    wire = await client(with_tls(await serve(), certificate), authority)
    for _ in range(200):
        wire.send("GATE.CHECK", "bob", "alice")
        wire.send("GATE.CHECK", "alice", "bob")
    await wire.expect(b":0\r\n:1\r\n" * 200)
    wire.close()


async def test_commands_byte_by_byte_over_tls(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    wire = await client(with_tls(await serve(), certificate), authority)
    for byte in b"*3\r\n$10\r\nGATE.CHECK\r\n$3\r\nbob\r\n$5\r\nalice\r\n":
        wire.writer.write(bytes([byte]))
        await wire.writer.drain()
    await wire.expect(b":0\r\n")
    wire.close()


async def test_big_commands_and_replies_over_tls(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    wire = await client(with_tls(await serve(), certificate), authority)
    for _ in range(20):
        wire.send("ECHO", LONG)
    await wire.expect(replies.bulk(LONG) * 20)
    wire.close()


async def test_a_client_that_does_not_read_holds_up_only_itself(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    server = with_tls(await serve(stall_limit_ms=1_000, tick_s=0.05), certificate)
    greedy, other = await client(server, authority), await client(server, authority)
    greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sending = asyncio.create_task(_send_for_ever(greedy))
    await wait_until_async(lambda: any(one.unread for one in server.connections), DEADLINE_S, "backpressure")
    await other.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    await wait_until_async(lambda: server.worker.connections == 1, DEADLINE_S, "the greedy one to be cut")
    sending.cancel()
    for wire in (greedy, other):
        wire.close()


async def _send_for_ever(wire: Wire) -> None:
    while True:
        wire.send("ECHO", LONG)
        await wire.writer.drain()


async def test_a_client_that_ends_its_side_gets_its_replies(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    """By close_notify in the same write, which asyncio's own client can't send alone."""
    server = with_tls(await serve(), certificate)
    pings = b"PING\r\n" * 64

    def talk() -> bytes:
        with socket.create_connection((LOOPBACK, server.tls_port), DEADLINE_S) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = authority.client_context().wrap_bio(incoming, outgoing, server_hostname=LOOPBACK)
            while True:
                try:
                    peer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65_536))
            peer.write(b"AUTH app secret\r\n" + pings)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.unwrap()
            plain.sendall(outgoing.read())
            while chunk := plain.recv(65_536):
                incoming.write(chunk)
            received = b""
            with contextlib.suppress(ssl.SSLError):
                while chunk := peer.read(65_536):
                    received += chunk
            return received

    assert await asyncio.to_thread(talk) == b"+OK\r\n" + b"+PONG\r\n" * 64
    await wait_until_async(lambda: not server.connections, DEADLINE_S, "its end")


# Certificates


async def test_a_client_certificate_is_demanded(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    server, foreign = await serve(), Authority(tmp_path / "foreign")
    server.use_tls(context_of(authority.issue("demanding"), authority.certificate), LOOPBACK, 0)
    for shown in (None, foreign.issue("client"), authority.issue("ended", days=0)):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            wire = await connected(server, authority.client_context(shown))
            await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")  # a client of TLS 1.3 learns it with the first reply
    wire = await connected(server, authority.client_context(authority.issue("client")))
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    wire.close()


async def test_a_reload_is_for_new_connections(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    server = with_tls(await serve(), certificate)
    early = await client(server, authority)
    other = authority.issue("renewed")
    server.use_tls(context_of(other, authority.certificate), LOOPBACK, 0)
    await early.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    late = await connected(server, authority.client_context(authority.issue("now-needed")))
    shown = late.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert shown == ssl.PEM_cert_to_DER_cert(other.certificate.read_text())
    for wire in (early, late):
        wire.close()


async def test_old_versions_of_tls_are_refused(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    server, old = with_tls(await serve(), certificate), authority.client_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connected(server, old)


# Handshakes


@pytest.mark.parametrize(
    "sent",
    [
        b"PING\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
        b"\x16\x03\x01\x00\x05\x01\0\0\x01\0",
    ],
    ids=["plain-text", "http", "too-long-a-record", "a-torn-hello"],
)
async def test_what_is_no_handshake_costs_its_own_connection(
    serve: Serve, authority: Authority, certificate: Certificate, sent: bytes
) -> None:
    server = with_tls(await serve(), certificate)
    bystander, broken = await client(server, authority), await silent(server)
    broken.writer.write(sent)
    assert b"PONG" not in await broken.rest()
    await bystander.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    assert server.worker.connections == 1
    for wire in (bystander, broken):
        wire.close()


async def test_a_handshake_has_the_time_that_auth_has(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    server = with_tls(await serve(auth_within_ms=300, tick_s=0.05), certificate)
    known, nothing, half = await client(server, authority), await silent(server), await silent(server)
    half.writer.write(b"\x16\x03\x01")
    late = await connected(server, authority.client_context())
    assert await nothing.rest() == b""
    assert await half.rest() == b""
    assert (await late.rest()).startswith(b"-NOAUTH No AUTH within")
    await known.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    for wire in (known, nothing, half, late):
        wire.close()


async def test_a_handshake_ends_after_its_own_limit(
    serve: Serve, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_WITHIN_S", 0.2)
    server = with_tls(await serve(), certificate)
    nothing, half = await silent(server), await silent(server)
    half.writer.write(b"\x16\x03\x01")
    assert await nothing.rest() == await half.rest() == b""
    for wire in (nothing, half):
        wire.close()


async def test_unfinished_handshakes_make_room_for_clients(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    server = with_tls(await serve(max_connections=20), certificate)
    unfinished = [await silent(server) for _ in range(40)]
    for wire in unfinished[::2]:
        wire.writer.write(b"\x16")
    known = [await client(server, authority) for _ in range(20)]
    for wire in known:
        await wire.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    for wire in unfinished:
        assert await wire.rest() == b""
    for wire in [*known, *unfinished]:
        wire.close()


async def test_unfinished_handshakes_are_bounded(
    serve: Serve, authority: Authority, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 5)
    server = with_tls(await serve(), certificate)
    first = [await silent(server) for _ in range(8)]
    for wire in first[:3]:
        assert await wire.rest() == b""
    known = await client(server, authority)
    await known.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    for wire in [*first, known]:
        wire.close()


async def test_handshakes_cut_into_pieces_go_on_one_in_a_pass(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    """A greeting whose last byte comes late has its signature made then: a thousand of them must not be made at once."""
    server, context = await serve(), context_of(certificate)
    loop, passes, greeted = asyncio.get_running_loop(), 0, list[int]()

    def count_passes() -> None:
        nonlocal passes
        passes += 1
        loop.call_soon(count_passes)

    context.sni_callback = lambda *_: greeted.append(passes)
    server.use_tls(context, LOOPBACK, 0)
    hello = greeting(authority)
    cut = [await silent(server) for _ in range(20)]
    for wire in cut:
        wire.writer.write(hello[:-1])
    known = await client(server, authority)  # takes its turns behind theirs
    greeted.clear()
    count_passes()
    for wire in cut:
        wire.writer.write(hello[-1:])
    await wait_until_async(lambda: len(greeted) == len(cut), DEADLINE_S, "all to have greeted")
    assert len(set(greeted)) == len(cut)
    await known.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    for wire in [*cut, known]:
        wire.close()


async def test_a_connection_that_fails_at_its_start_holds_up_no_handshake(
    authority: Authority, certificate: Certificate
) -> None:
    begun: list[Handshake] = []

    def make(handshake: Handshake) -> asyncio.Protocol:
        begun.append(handshake)
        raise MemoryError

    loop, faults = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception")))
    listener = TlsListener(context_of(certificate), make)
    listener.start(bound_sockets(LOOPBACK, 0, reuse_port=False), 8)
    context = authority.client_context()
    try:
        clients = [asyncio.open_connection(LOOPBACK, listener.port, ssl=context) for _ in range(6)]
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, tuple):
                result[1].close()
        await wait_until_async(lambda: len(begun) == len(clients), DEADLINE_S, "all handshakes to be over")
    finally:
        listener.stop()
    assert [type(fault) for fault in faults] == [MemoryError] * len(clients)


def greeting(authority: Authority) -> bytes:
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def test_abrupt_closes_leave_nothing(serve: Serve, authority: Authority, certificate: Certificate) -> None:
    server = with_tls(await serve(), certificate)
    for step in range(30):
        wire = await (silent(server) if step % 3 == 0 else client(server, authority))
        if step % 3 == 1:
            wire.send("ECHO", LONG)
        wire.writer.transport.abort()
    await wait_until_async(lambda: not server.connections, DEADLINE_S, "the closed ones to be gone")
    last = await client(server, authority)
    await last.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    last.close()


async def test_a_drain_ends_tls_connections_and_handshakes(
    serve: Serve, authority: Authority, certificate: Certificate
) -> None:
    server = with_tls(await serve(), certificate)
    idle, asking, unfinished = await client(server, authority), await client(server, authority), await silent(server)
    idle.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it will not answer the end
    asking.send("GATE.CHECK", "bob", "alice")
    async with asyncio.timeout(5):
        await server.drain(30)
    assert await asking.rest() == b":0\r\n"
    assert await unfinished.rest() == b""
    for wire in (idle, asking, unfinished):
        wire.close()
