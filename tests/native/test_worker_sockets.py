"""A worker whose sockets the core reads: each connection gets its own replies, in order, by the newest facts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate import native
from gate.clock import monotonic_ms
from gate.replica import app_reading, envs
from gate.replica.layout import BOARD_FILE, current_facts
from gate.replica.status_page import StatusPage
from gate.wire import listener, replies
from gate.wire.line import Outbox
from harness.seeds import examples, seed
from harness.waiting import wait_until_async
from tests.native.peers import AUTH, BLACKLISTED, WORDS, Peer, ledger, served
from tests.native.test_answers import checks, fan_outs
from tests.replica.ledger import EPOCH, Ledger, app_facts, app_set, said
from tests.wire.line import command
from tests.wire.test_listener import DEADLINE_S, event_loop_policy

SEED = seed(7)

__all__ = ["event_loop_policy", "ledger"]
pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)


def without_the_core(patch: pytest.MonkeyPatch) -> None:
    for module in (app_reading, envs, listener):
        patch.setattr(module, "trusted_core", lambda: None)


async def test_replies_are_in_order_for_a_peer_that_does_not_read(ledger: Ledger) -> None:
    """Partly by the core, partly by the transport once the kernel's buffer is full, then by the core again."""
    dice = random.Random(SEED)
    async with served(ledger) as (server, path):
        for where, room in ((path, 0), (server.port, 4_096)):
            peer = await Peer.to(where, room)
            for in_a_piece, pieces in ((1, 20_000), (40, 3_000), (350, 350)):
                asked = [dice.choices(WORDS, k=in_a_piece) for _ in range(pieces)]
                wanted = b"".join(answer for piece in asked for _, answer in piece)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(sent_on(peer, [b"".join(one for one, _ in piece) for piece in asked]))
                    if in_a_piece > 1:
                        await wait_until_async(lambda: bool(server.stalling), DEADLINE_S, "a full buffer")
                    assert await peer.receive(len(wanted)) == wanted
            await peer.asked(BLACKLISTED, b":0\r\n")
            peer.close()


async def sent_on(peer: Peer, pieces: list[bytes]) -> None:
    for number, piece in enumerate(pieces):
        await peer.send(piece)
        if number % 64 == 0:
            await asyncio.sleep(0)


others = st.sampled_from(
    [
        *(command("PING"), b"PING\r\n", b"\r\n", b"*0\r\n", command("ECHO", "a"), command("GATE.CHECK", "alice")),
        *(command("GATE.CHECK", "bob", "alice", "FRESH", "5"), command("GATE.CHECK", "bob", "alice", "MIN", "bad")),
        *(command("MULTI"), command("EXEC"), command("DISCARD"), command("AUTH", "other", "theirs"), AUTH),
        *(command("HELLO", "3"), command("HELLO", "2"), command("RESET")),
        *(command("NOPE"), command("GATE.MCHECK", *["bob"] * 300), b"GATE.CHECK bob alice\r\n"),
        command("GATE.CHECK", "bob", "alice", "MIN", f"0:{EPOCH}:999999"),
    ]
)
streams = st.lists(checks | checks | checks | fan_outs | others, max_size=25).map(b"".join)


@given(st.lists(st.tuples(streams, st.lists(st.integers(1, 120), max_size=12)), min_size=1, max_size=4))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_bytes_with_and_without(
    tmp_path_factory: pytest.TempPathFactory,
    event_loop_policy: asyncio.AbstractEventLoopPolicy,
    sent: list[tuple[bytes, list[int]]],
) -> None:
    """Several connections at once, cut anywhere, over TCP and a unix socket; the last word is an end, or QUIT."""
    made = Ledger(tmp_path_factory.mktemp("same") / "replica", 1, app_facts(), app_facts("other", secrets=("theirs",)))
    made.commit(said("blocked", b"alice", b"bob"), said("ban-imposed", b"eve"), said("blocked", b"bob", b"carol"))
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=event_loop_policy.new_event_loop) as runner:
        compiled = runner.run(all_answered(made, sent))
        without_the_core(patch)
        plain = runner.run(all_answered(made, sent))
    made.close()
    assert compiled == plain


async def all_answered(ledger: Ledger, sent: list[tuple[bytes, list[int]]]) -> list[bytes]:
    async def one(where: int | str, stream: bytes, cuts: list[int], last: bytes) -> bytes:
        peer = await Peer.to(where)
        at = 0
        for size in cuts:
            await peer.send(stream[at : at + size])
            at += size
            for _ in range(4):
                await asyncio.sleep(0)
        await peer.send(stream[at:] + last)
        if not last:
            peer.socket.shutdown(socket.SHUT_WR)
        received = await peer.rest()
        peer.close()
        return received

    async with served(ledger) as (server, path):
        places: list[int | str] = [server.port, path]
        asked = [
            one(where, stream, cuts, last)
            for (stream, cuts), where, last in zip(
                sent, itertools.cycle(places), itertools.cycle([b"", b"", b"QUIT\r\n"])
            )
        ]
        return [cut_ids(received) for received in await asyncio.gather(*asked)]


def cut_ids(received: bytes) -> bytes:
    """HELLO names the connection by a number."""
    parts = received.split(b"$2\r\nid\r\n")
    return b"$2\r\nid\r\n".join([parts[0], *(part.partition(b"\r\n")[2] for part in parts[1:])])


def overfilled(peer: Peer) -> bool:
    """Checks whose replies are not read: sends some more; whether there is no room for them now."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):
            peer.socket.send(command("GATE.VERDICT", "bob", "alice") * 300)
        return False
    return True


# Whose descriptor it is


async def test_descriptors_that_are_used_again_mix_up_no_replies(ledger: Ledger) -> None:
    """Short connections that end in every way, next to some that stay: each sees only its own replies."""
    async with served(ledger) as (server, path):
        places: list[int | str] = [server.port, path]
        staying = [await Peer.to(where) for where in places * 4]
        is_over = asyncio.Event()

        async def stay(peer: Peer, dice: random.Random) -> None:
            while not is_over.is_set():
                asked = dice.choices(WORDS, k=dice.choice([1, 1, 1, 5, 400]))
                await peer.asked(b"".join(one for one, _ in asked), b"".join(answer for _, answer in asked))

        async def come_and_go(number: int, dice: random.Random) -> None:
            for turn in range(60):
                peer = await Peer.to(dice.choice(places), dice.choice([0, 4_096]))
                await short_life(peer, dice, b"%d-%d" % (number, turn))
                peer.close()

        stays = [asyncio.create_task(stay(peer, random.Random(SEED + number))) for number, peer in enumerate(staying)]
        await asyncio.gather(*(come_and_go(number, random.Random(SEED + 100 + number)) for number in range(12)))
        is_over.set()
        await asyncio.gather(*stays)
        for peer in staying:
            peer.close()


async def short_life(peer: Peer, dice: random.Random, name: bytes) -> None:
    asked = [*dice.choices(WORDS, k=dice.choice([1, 3, 60])), (command("ECHO", name), replies.bulk(name))]
    sent, wanted = b"".join(one for one, _ in asked), b"".join(answer for _, answer in asked)
    await peer.asked(sent, wanted)
    match dice.randrange(6):
        case 0:  # it reads all, and says that it goes
            await peer.send(sent + b"QUIT\r\n")
            assert await peer.rest() == wanted + b"+OK\r\n"
        case 1:  # a last word, then only reads
            await peer.send(sent)
            peer.socket.shutdown(socket.SHUT_WR)
            assert await peer.rest() == wanted
        case 2:  # gone with replies under way
            await peer.send(sent)
            peer.reset()
        case 3:  # gone with more replies than the kernel takes
            with contextlib.suppress(BlockingIOError):
                for _ in range(200):
                    peer.socket.send(sent * 20)
            await asyncio.sleep(0)
            peer.reset()
        case 4:  # refused
            await peer.send(sent + b"*x\r\n")
            assert (await peer.rest()).startswith(wanted + b"-ERR Protocol error")
        case _:  # gone between two commands, or amid one
            await peer.send(sent[: dice.randrange(len(sent))])


async def test_a_fault_in_counting_out_leaves_no_one_under_the_descriptor(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transport closes the descriptor whatever `connection_lost` raises: the line must have let go of it by then."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    def failing(_: Outbox) -> None:
        raise RuntimeError("counted out")

    async with served(ledger) as (server, path):
        peer = await Peer.to(path)
        (connection,) = server.connections
        line = connection.line
        assert line is not None
        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "abandon", failing)
            await wait_until_async(lambda: overfilled(peer) and connection.unread, DEADLINE_S, "it to be held")
            peer.close()  # which the transport notices, in writing
            await wait_until_async(lambda: bool(faults), DEADLINE_S, "the fault")
        assert line.socket is None and connection.line is None
        heir = await Peer.to(path)
        await heir.asked(BLACKLISTED, b":0\r\n")
        heir.close()


async def test_files_and_objects_are_given_back(ledger: Ledger) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        kinds = [type(one).__name__ for one in gc.get_objects()]
        return len(os.listdir("/proc/self/fd")), sum(kinds.count(kind) for kind in ("Socket", "Line", "Connection"))

    async with served(ledger) as (server, path):
        dice = random.Random(SEED)
        counts = []
        for _ in range(3):
            for number in range(100):
                peer = await Peer.to(path)
                await short_life(peer, dice, b"%d" % number)
                peer.close()
            await wait_until_async(lambda: server.worker.connections == 0, DEADLINE_S, "all to be gone")
            counts.append(held())
        assert counts[0] == counts[1] == counts[2]


async def test_a_poll_without_room_leaves_the_sockets_to_the_transports(ledger: Ledger) -> None:
    async with served(ledger) as (server, path):
        peer = await Peer.to(path)
        assert server.worker.sockets is not None
        asyncio.get_running_loop().remove_reader(server.worker.sockets.fileno())
        server.worker.sockets.close()
        (connection,) = server.connections
        connection.pause()
        connection.resume()
        await peer.asked(BLACKLISTED, b":0\r\n")
        newcomer = await Peer.to(path)
        await newcomer.asked(BLACKLISTED, b":0\r\n")
        server.worker.sockets = None
        for one in (peer, newcomer):
            one.close()


async def test_idle_connections_cost_nothing(ledger: Ledger) -> None:
    """Those that only listen, that finished sending, that wait and that do not read included: none keeps the loop awake."""
    async with served(ledger) as (server, path):
        peers = [await Peer.to(where) for where in (server.port, path) * 50]
        for peer in peers[:6]:
            await wait_until_async(partial(overfilled, peer), DEADLINE_S, "no room")
            peer.socket.shutdown(socket.SHUT_WR)
        urgent = await Peer.to(server.port)
        urgent.socket.send(b"x", socket.MSG_OOB)
        half = await Peer.to(server.port)
        await half.send(b"*3\r\n")
        await wait_until_async(lambda: len(server.stalling) > 1, DEADLINE_S, "all to be sent")
        await wait_until_async(is_idle, DEADLINE_S, "a process without work")
        for peer in [*peers, urgent, half]:
            peer.close()


async def is_idle() -> bool:
    before_s = time.process_time()
    await asyncio.sleep(0.3)
    return time.process_time() - before_s < 0.01


# By the newest facts

REFUSED = b"-NOAUTH The secret that this connection gave is no longer accepted. Send AUTH app-key app-secret\r\n"
REMOVED = b"-NOAUTH The App of this connection was removed. Send AUTH app-key app-secret of another\r\n"


async def test_what_moved_is_seen_by_the_next_check(ledger: Ledger) -> None:
    pair, word = command("GATE.VERDICT", "bob", "alice"), replies.bulk
    later = Ledger(ledger.directory, 2, app_facts(), current=False)
    later.commit(said("ban-imposed", b"bob"))
    async with served(ledger) as (server, path):
        first, second = await Peer.to(path), await Peer.to(server.port)
        for times in (1, 2, 40):
            for peer in (first, second):
                ledger.commit(said("unblocked", b"alice", b"bob"))
                await peer.asked(pair * times, word(b"allowed") * times)
                ledger.commit(said("blocked", b"alice", b"bob"))
                await peer.asked(pair * times, word(b"blacklisted") * times)
        ledger.commit(app_set(app_facts(whitelists="on")))
        await first.asked(pair, word(b"not-whitelisted"))
        ledger.commit(app_set(app_facts()))
        await second.asked(pair, word(b"blacklisted"))
        ledger.commit(app_set(app_facts(secrets=("fresh", "secret"))))
        await second.asked(pair, word(b"blacklisted"))
        ledger.commit(app_set(app_facts(secrets=("fresh",))))
        await first.asked(pair, REFUSED)
        ledger.commit(app_set(app_facts()))
        await first.asked(AUTH + pair, b"+OK\r\n" + word(b"blacklisted"))
        await second.asked(pair, word(b"blacklisted"))
        ledger.commit(said("app-removed"))
        await second.asked(pair, REMOVED)
        ledger.replace(later)
        await first.asked(pair, word(b"sender-banned"))
        await second.asked(AUTH + pair, b"+OK\r\n" + word(b"sender-banned"))
        server.worker.reading.close()
        for peer in (first, second):
            await peer.asked(pair, b"-UNAVAILABLE this Replica was closed\r\n")
            peer.close()
    later.close()


WRITER = """
import sys
from pathlib import Path
from gate.core.changes import Change
from gate.core.model import FOREVER_MS
from gate.replica.writer import FactsFile

file = FactsFile.open(Path(sys.argv[1]))
for line in sys.stdin:
    position = file.positions[0]
    seq = position.seq + 1
    change = Change(seq, line.strip(), 1, f"{seq:016x}", position.tip, "app", b"bob", FOREVER_MS, (), b"")
    file.apply({0: [change]}, 1)
    print(flush=True)
file.close()
"""


async def test_an_acknowledged_change_by_any_process_is_seen(tmp_path: Path) -> None:
    """Another process commits, and says so; every later check sees it, on each connection."""
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    path = current_facts(ledger.directory)
    ledger.close()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdin=-1, stdout=-1) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        async with served(ledger) as (server, socket_path):
            peers = [await Peer.to(where) for where in (server.port, socket_path) * 3]
            pair = command("GATE.VERDICT", "bob", "zoe")
            for turn in range(150):
                kind, word = (b"ban-lifted", b"allowed") if turn % 2 else (b"ban-imposed", b"sender-banned")
                for peer in peers[:3]:
                    await peer.send(pair)  # under way meanwhile: either answer is right
                writer.stdin.write(kind + b"\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == b"\n"
                for peer in peers[:3]:
                    assert await peer.receive(4) in (b"$7\r\n", b"$13\r")
                for peer in peers[3:]:
                    await peer.asked(pair * (1 + turn % 3), replies.bulk(word) * (1 + turn % 3))
                for peer in peers[:3]:
                    peer.close()
                peers[:3] = [await Peer.to(socket_path) for _ in range(3)]
            for peer in peers:
                peer.close()
        writer.stdin.close()


async def test_old_facts_are_refused_where_the_deployment_says_so(ledger: Ledger) -> None:
    status_page = StatusPage(ledger.directory / BOARD_FILE, write=True)
    status_page.use(1, ledger.file.identity)
    status_page.stamp(monotonic_ms())
    async with served(ledger, max_staleness_ms=5_000, on_stale="refuse") as (server, path):
        peers = [await Peer.to(path), await Peer.to(server.port)]
        for age_ms in (0, 60_000, 0, 60_000):
            status_page.stamp(monotonic_ms() - age_ms)
            for peer in peers:
                await peer.send(BLACKLISTED)
                wanted = b"-STALE the Replica is 6" if age_ms else b":0\r\n"
                assert await peer.receive(len(wanted)) == wanted
                if age_ms:
                    await peer.loop.sock_recv(peer.socket, 256)
        for peer in peers:
            peer.close()
    status_page.close()
