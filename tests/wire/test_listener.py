"""The whole hot worker on real sockets: the clients that routers use, many connections, bad peers, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import uvloop
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gate.wire import replies
from gate.wire.listener import WireOptions, WireServer, serve_wire
from gate.wire.refusals import TOO_MANY
from harness.ports import LOOPBACK
from harness.waiting import wait_until_async
from tests.replica.ledger import EPOCH, Ledger, said
from tests.wire.malformed import REFUSED, STRICTER

DEADLINE_S = 20.0
NEVER = Retry(NoBackoff(), 0)
Serve = Callable[..., Coroutine[Any, Any, WireServer]]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
async def serve(ledger: Ledger) -> AsyncIterator[Serve]:
    """Starts a worker on a free port; drained after the test."""
    servers: list[WireServer] = []

    async def start(**options: Any) -> WireServer:
        server = await serve_wire(WireOptions(ledger.directory, **{"port": 0, **options}))
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.drain(1)


class Wire:
    """A peer that sends bytes and looks at bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: WireServer) -> Wire:
        return cls(*await asyncio.open_connection(LOOPBACK, server.port, limit=1 << 24))

    def send(self, *words: bytes | str) -> None:
        raw = [word if isinstance(word, bytes) else word.encode() for word in words]
        self.writer.write(b"*%d\r\n" % len(raw) + b"".join(map(replies.bulk, raw)))

    async def expect(self, wanted: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            assert await self.reader.readexactly(len(wanted)) == wanted

    async def asked(self, wanted: bytes, *words: bytes | str) -> None:
        self.send(*words)
        await self.expect(wanted)

    async def rest(self) -> bytes:
        """All until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            received = b""
            with contextlib.suppress(ConnectionResetError):  # it closed with bytes of ours unread
                while chunk := await self.reader.read(65_536):
                    received += chunk
            return received

    def close(self) -> None:
        self.writer.close()


# Clients


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py(serve: Serve, tmp_path: Path, protocol: int) -> None:
    path = str(tmp_path / "gate.sock")
    server = await serve(unix_path=path)
    common: dict[str, Any] = {"username": "app", "password": "secret", "protocol": protocol, "client_name": "router"}
    for client in (
        redis.asyncio.Redis(host=LOOPBACK, port=server.port, **common),
        redis.asyncio.Redis(unix_socket_path=path, **common),
    ):
        async with client:
            ask: Callable[..., Any] = client.execute_command
            assert await ask("GATE.CHECK", "alice", "bob") == 1
            assert await ask("GATE.VERDICT", b"eve", b"\x00\xff") == b"sender-banned"
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(500):
                    pipeline.execute_command("GATE.CHECK", "bob", "alice" if number % 2 else "zoe")
                assert await pipeline.execute() == [1, 0] * 250
            explained = await ask("GATE.EXPLAIN", "bob", "alice")
            assert (explained[b"verdict"] if protocol == 3 else explained[1]) == b"blacklisted"
            assert await client.client_getname() in (b"router", "router")
            with pytest.raises(redis.ResponseError, match="unknown command"):
                await ask("GATE.NOSUCH")
    with pytest.raises(redis.AuthenticationError):
        await redis.asyncio.Redis(host=LOOPBACK, port=server.port, username="app", password="wrong", retry=NEVER).ping()
    await server.drain(5)
    assert not Path(path).exists()


async def _run(*arguments: str) -> tuple[int | None, str]:
    program = await asyncio.create_subprocess_exec(
        *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        out, _ = await program.communicate()
    return program.returncode, out.decode()


async def test_redis_cli(serve: Serve) -> None:
    server = await serve()
    cli = (shutil.which("redis-cli") or "redis-cli", "-h", LOOPBACK, "-p", str(server.port), "--no-auth-warning")
    status, out = await _run(*cli, "--user", "app", "--pass", "secret", "GATE.VERDICT", "bob", "alice")
    assert (status, out.strip()) == (0, "blacklisted")
    status, out = await _run(*cli, "-3", "--user", "app", "--pass", "secret", "GATE.MCHECK", "bob", "alice", "eve")
    assert (status, out.split()) == (0, ["0", "1"])
    _, out = await _run(*cli, "GATE.CHECK", "bob", "alice")
    assert out.startswith("NOAUTH ")


async def test_redis_benchmark(serve: Serve) -> None:
    server = await serve()
    benchmark = shutil.which("redis-benchmark") or "redis-benchmark"
    credentials = ("--user", "app", "-a", "secret")
    load = ("-P", "16", "-c", "10", "-n", "10000", "-q")
    status, out = await _run(
        benchmark, "-h", LOOPBACK, "-p", str(server.port), *credentials, *load, "GATE.CHECK", "bob", "alice"
    )
    assert status == 0 and "requests per second" in out, out
    assert "rror" not in out, out
    assert server.worker.words["blacklisted"] == 10_000


async def test_the_handshake_of_go_redis(serve: Serve) -> None:
    """All in one write, as its pool does; the SETINFO replies may not break what follows."""
    wire = await Wire.to(await serve())
    wire.send("HELLO", "3", "AUTH", "app", "secret", "SETNAME", "x")
    wire.send("CLIENT", "SETINFO", "LIB-NAME", "go-redis(,go1.22)")
    wire.send("CLIENT", "SETINFO", "LIB-VER", "9.7.0")
    wire.send("GATE.CHECK", "bob", "alice")
    await wire.expect(
        b"%7\r\n$6\r\nserver\r\n$4\r\ngate\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:"
    )
    await wire.reader.readuntil(b"$4\r\nmode\r\n")
    await wire.expect(b"$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n")
    await wire.expect(b"+OK\r\n+OK\r\n:0\r\n")
    wire.close()


async def test_the_handshake_of_jedis(serve: Serve) -> None:
    """AUTH, then naming itself, each answered before the next; QUIT at the end."""
    wire = await Wire.to(await serve())
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    await wire.asked(b"+OK\r\n", "CLIENT", "SETNAME", "router")
    await wire.asked(b"+OK\r\n", "CLIENT", "SETINFO", "lib-name", "jedis")
    await wire.asked(b"+OK\r\n", "CLIENT", "SETINFO", "lib-ver", "5.2.0")
    await wire.asked(b"+OK\r\n", "SELECT", "0")
    await wire.asked(b":1\r\n", "GATE.CHECK", "alice", "bob")
    await wire.asked(b"+OK\r\n", "QUIT")
    assert await wire.rest() == b""


# Bad peers


async def test_the_malformed_corpus_costs_only_the_peer_that_sent_it(serve: Serve) -> None:
    server = await serve()
    bystander = await Wire.to(server)
    await bystander.asked(b"+OK\r\n", "AUTH", "app", "secret")
    for sent, error in [*REFUSED, *(row[1:] for row in STRICTER)]:
        wire = await Wire.to(server)
        wire.send("PING")
        wire.writer.write(sent)
        received = await wire.rest()
        assert received.startswith(b"+PONG\r\n") and received.endswith(replies.error(error)), (sent[:80], received)
        wire.close()
        await bystander.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    await wait_until_async(lambda: server.worker.connections == 1, DEADLINE_S, "the broken ones to be gone")
    bystander.close()


async def test_half_a_command_then_silence_is_cut_and_an_idle_peer_is_not(serve: Serve) -> None:
    server = await serve(stall_limit_ms=50, tick_s=0.01)
    idle, half = await Wire.to(server), await Wire.to(server)
    await idle.asked(b"+PONG\r\n", "PING")
    half.writer.write(b"*3\r\n$10\r\nGATE.CHECK\r\n$5\r\nal")
    assert await half.rest() == b""
    await idle.asked(b"+PONG\r\n", "PING")
    idle.close()


@contextlib.asynccontextmanager
async def deaf_peer(server: WireServer) -> AsyncIterator[socket.socket]:
    """A peer bound to the App that has almost no room for replies and reads none of them."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, (LOOPBACK, server.port))
        await loop.sock_sendall(deaf, b"AUTH app secret\r\n")
        yield deaf


ECHO = b"*2\r\n$4\r\nECHO\r\n$60000\r\n" + b"x" * 60_000 + b"\r\n"


async def test_a_peer_that_never_reads_is_cut(serve: Serve) -> None:
    server = await serve(stall_limit_ms=100, tick_s=0.01)
    other = await Wire.to(server)
    async with deaf_peer(server) as deaf:
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await asyncio.get_running_loop().sock_sendall(deaf, ECHO)
    await other.asked(b"+PONG\r\n", "PING")
    other.close()


@pytest.mark.parametrize("last", [b"QUIT\r\n", b"*x\r\n"])
async def test_a_peer_that_never_reads_its_last_reply_is_cut(serve: Serve, last: bytes) -> None:
    server = await serve(stall_limit_ms=100, tick_s=0.01)
    async with deaf_peer(server) as deaf:
        await wait_until_async(lambda: server.worker.connections == 1, DEADLINE_S, "the deaf peer to be in")
        for piece in (ECHO, ECHO, ECHO, ECHO, last):  # less than makes the worker hold it, more than the peer takes
            await asyncio.get_running_loop().sock_sendall(deaf, piece)
        await wait_until_async(lambda: server.worker.connections == 0, DEADLINE_S, "the deaf peer to be gone")


async def test_one_connection_too_many(serve: Serve) -> None:
    server = await serve(max_connections=2)
    first, second, third = [await Wire.to(server) for _ in range(3)]
    assert await third.rest() == b"-%b\r\n" % TOO_MANY.encode()
    await first.asked(b"+PONG\r\n", "PING")
    second.close()
    await wait_until_async(lambda: server.worker.connections == 1, DEADLINE_S, "room")
    fourth = await Wire.to(server)
    await fourth.asked(b"+PONG\r\n", "PING")
    for wire in (first, fourth):
        wire.close()


# Sharing addresses


async def test_two_workers_share_a_port_and_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "shared.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        first = await serve(unix_fd=listening.dup().detach())
        second = await serve(port=first.port, unix_fd=listening.dup().detach())
    wires = [await Wire.to(first) for _ in range(40)]
    wires += [Wire(*await asyncio.open_unix_connection(path)) for _ in range(10)]
    for wire in wires:
        await wire.asked(b"+PONG\r\n", "PING")
    assert first.worker.connections + second.worker.connections == 50
    assert min(first.worker.connections, second.worker.connections) > 0
    await first.drain(DEADLINE_S)
    late = Wire(*await asyncio.open_unix_connection(path))
    await late.asked(b"+PONG\r\n", "PING")
    for wire in [*wires, late]:
        wire.close()


async def test_a_port_in_use_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    server = await serve(reuse_port=False)
    with pytest.raises(OSError, match="in use"):
        await serve(port=server.port, reuse_port=False)
    with pytest.raises(OSError, match=r"too long|No such file"):
        await serve(unix_path=str(path) + "/x" * 100)
    wire = await Wire.to(server)
    await wire.asked(b"+PONG\r\n", "PING")
    wire.close()


# The end


async def test_drain_answers_what_was_sent_and_refuses_what_comes(serve: Serve) -> None:
    server = await serve()
    wires = [await Wire.to(server) for _ in range(20)]
    for wire in wires:
        await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    for wire in wires:
        for _ in range(100):
            wire.send("GATE.CHECK", "bob", "alice")
    await server.drain(DEADLINE_S)
    for wire in wires:
        assert await wire.rest() == b":0\r\n" * 100
        wire.close()
    with pytest.raises(ConnectionRefusedError):
        await Wire.to(server)


async def test_drain_waits_for_a_check_that_waits(serve: Serve, ledger: Ledger) -> None:
    server = await serve()
    wire = await Wire.to(server)
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    wire.send("GATE.CHECK", "zoe", "alice", "MIN", f"0:{EPOCH}:{ledger.revision.seq + 1}")
    wire.send("PING")
    draining = asyncio.create_task(server.drain(DEADLINE_S))
    await asyncio.sleep(0)
    ledger.commit(said("blocked", b"alice", b"zoe"))
    assert await wire.rest() == b":0\r\n+PONG\r\n"
    await draining
    wire.close()


async def test_drain_cuts_who_does_not_read(serve: Serve) -> None:
    server = await serve()
    wire = await Wire.to(server)
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(300):
        wire.send("ECHO", b"x" * 60_000)
    await wait_until_async(lambda: bool(server.stalling), DEADLINE_S, "the worker to notice")
    started = time.monotonic()
    await server.drain(0.1)
    assert time.monotonic() - started < DEADLINE_S / 2
    assert server.worker.connections == 0
    wire.writer.transport.abort()


# Many


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """How many connections this process can hold both ends of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(10_000, (hard - 500) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


MAX_IDLE_CONNECTION_BYTES = 8_192
"""In the worker's process, the loop's transport included and the kernel's buffers not. Measured: see the test's output."""


@pytest.mark.slow
async def test_ten_thousand_idle_connections(serve: Serve, many_descriptors: int) -> None:
    server = await serve(max_connections=2 * many_descriptors, auth_within_ms=600_000)
    before = _resident_bytes()
    idle: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    for _ in range(many_descriptors):
        peer = socket.socket()
        peer.setblocking(False)
        idle.append(peer)
        await loop.sock_connect(peer, (LOOPBACK, server.port))
    await wait_until_async(lambda: server.worker.connections == many_descriptors, 60, "all to be in")
    each = (_resident_bytes() - before) // many_descriptors
    print(f"{each} bytes a connection, {many_descriptors} of them")
    assert each < MAX_IDLE_CONNECTION_BYTES
    wire = await Wire.to(server)
    await wire.asked(b"+OK\r\n", "AUTH", "app", "secret")
    await wire.asked(b":0\r\n", "GATE.CHECK", "bob", "alice")
    wire.close()
    await server.drain(60)
    assert server.worker.connections == 0
    assert await loop.sock_recv(idle[0], 1) == b""
    for peer in idle:
        peer.close()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
