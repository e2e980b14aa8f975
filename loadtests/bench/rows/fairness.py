"""What one check waits for next to a connection that sends one thing without a pause: each kind in turn, hostile ones too.

A checker asks 500 times a second, which is next to nothing; one attacker's connection, in a process of its own, sends as fast
as the worker reads, reads every reply, and connects again when it is cut off. A third of the kinds are without credentials.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, cast

from harness.ports import LOOPBACK
from harness.processes import family
from harness.service import GateService
from harness.waiting import wait_until
from loadtests.bench.apart import CLIENTS_NICE, END, Apart
from loadtests.bench.bed import Bed
from loadtests.bench.client import RECEIVE_BYTES, ask, connect, encode, percentile_us
from loadtests.bench.gateways import Client, clients
from loadtests.bench.paced import FEW_BELOW_S, PacedChecks, slowest_ms
from loadtests.bench.table import Row

CHECKS_A_SECOND = 500
MOST_P99_MS = 20.0
SETTLE_S = 1.0
"""After the attack, for the last checks of it to be answered."""
LOOK_EVERY_S = 0.01
CHECKS_BEGIN_S = 20.0
LEAST_ANSWERED = 0.98
"""Of the checks that were due: the checker itself may have been late with the last."""
CHUNK_BYTES = 1 << 18
MANY = 10_000
WAKES_A_SECOND = 2
"""A thousand are woken, answered, and ask again, which takes most of a core: more often, and it measures the core."""
AUTH, GATEWAY = "auth", "gateway"
"""What an attacker sends first: its App's credentials; and a lease behind them."""


class Kind(NamedTuple):
    """What is sent over and over; `first` is sent once, `sip` how many bytes go at a time (0: as many as there is room for).

    With `waiters` so many connections wait in `GATE.EVENTS … BLOCK`, and `WAKES_A_SECOND` Users who connect wake all of them.
    """

    sent: bytes
    first: str = ""
    sip: int = 0
    waiters: int = 0


def _users(count: int, mark: str) -> list[bytes]:
    return [b"%s%06d" % (mark.encode(), number) for number in range(count)]


HISTORY = "0123456789abcdef"
"""Stands for the epoch of the App's Changelog, which the attacker asks for: a Revision of another one is refused at once."""
UNREACHABLE = f"0:{HISTORY}:9999999999"
STRANGERS: dict[str, Kind] = {
    "blank lines": Kind(b"\r\n" * 1_000),
    "newlines": Kind(b"\n" * 1_000),
    "blanks without an end": Kind(b" " * 1_000),
    "*0": Kind(b"*0\r\n" * 1_000),
    "*-1": Kind(b"*-1\r\n" * 1_000),
    "PING": Kind(encode("PING") * 500),
    "inline PING": Kind(b"PING\r\n" * 500),
    "COMMAND": Kind(b"COMMAND\r\n" * 500),
    "HELLO 3": Kind(encode("HELLO", 3) * 500),
    "RESET": Kind(encode("RESET") * 500),
    "tiny invalid": Kind(b"a\n" * 1_000),
    "inline with quotes": Kind(b'PING "a" "b" "c" "d"\r\n' * 100),
    "wrong AUTH": Kind(encode("AUTH", "nosuch", "wrong") * 100),
    "QUIT": Kind(encode("QUIT") * 500),
    "HTTP": Kind(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" * 100),
    "TLS": Kind(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100),
    "half a command": Kind(b"*1024\r\n" + b"$8\r\nabcdefgh\r\n" * 1_000),
    "one byte at a time": Kind(encode("PING") * 100, sip=1),
}


@cache
def kinds(ever_new: int = 200_000) -> dict[str, Kind]:
    """Every kind by its name. Made when asked for: it takes seconds, and each process of the clients imports this."""
    return STRANGERS | _checks(ever_new) | _commands() | _presence()


def kind_names() -> list[str]:
    """Without most of that time."""
    return list(kinds(ever_new=1))


def _checks(ever_new: int) -> dict[str, Kind]:
    return {
        "CHECK": Kind(
            b"".join(encode("GATE.CHECK", a, b) for a, b in zip(_users(500, "a"), _users(500, "b"), strict=True)), AUTH
        ),
        "CHECK of ever new Users": Kind(
            b"".join(
                encode("GATE.CHECK", a, b) for a, b in zip(_users(ever_new, "n"), _users(ever_new, "m"), strict=True)
            ),
            AUTH,
        ),
        "CHECK FRESH": Kind(encode("GATE.CHECK", "a", "b", "FRESH", 1_000) * 500, AUTH),
        "VERDICT": Kind(encode("GATE.VERDICT", "a", "b") * 500, AUTH),
        "mixed checks": Kind((encode("GATE.CHECK", "a", "b") + encode("GATE.VERDICT", "a", "b")) * 300, AUTH),
        "MIN unreachable": Kind(encode("GATE.CHECK", "a", "b", "MIN", UNREACHABLE) * 500, AUTH),
        "MIN of 64": Kind(encode("GATE.CHECK", "a", "b", "MIN", ",".join([UNREACHABLE] * 64)) * 50, AUTH),
        "MCHECK of 10,000": Kind(encode("GATE.MCHECK", *_users(MANY, "c")), AUTH),
        "MCHECK of ever new 10,000": Kind(
            b"".join(encode("GATE.MCHECK", *_users(MANY, f"d{n}")) for n in range(ever_new // 5_000)), AUTH
        ),
        "EXPLAIN": Kind(encode("GATE.EXPLAIN", "a", "b") * 500, AUTH),
    }


def _commands() -> dict[str, Kind]:
    """Cheap ones in great numbers, and ones as large as the port takes."""
    return {
        "INFO": Kind(encode("INFO") * 500, AUTH),
        "COMMAND, bound": Kind(encode("COMMAND") * 500, AUTH),
        "COMMAND INFO of many": Kind(encode("COMMAND", "INFO", *["get"] * 60) * 20, AUTH),
        "PING, bound": Kind(encode("PING") * 500, AUTH),
        "blank lines, bound": Kind(b"\r\n" * 1_000, AUTH),
        "*0, bound": Kind(b"*0\r\n" * 1_000, AUTH),
        "PING and *0 in turn": Kind((encode("PING") + b"*0\r\n") * 500, AUTH),
        "tiny invalid, bound": Kind(b"a\n" * 1_000, AUTH),
        "tiny arrays": Kind(b"*1\r\n$0\r\n\r\n" * 1_000, AUTH),
        "inline with quotes, bound": Kind(b'PING "a" "b" "c" "d"\r\n' * 100, AUTH),
        "a long inline command": Kind(b"PING" + b" a" * 8_000 + b"\r\n", AUTH),
        "quotes only": Kind(b"PING" + b' ""' * 1_000 + b"\r\n", AUTH),
        "escapes only": Kind(b'PING "' + rb"\x41" * 900 + b'"\r\n', AUTH),
        "right AUTH and RESET": Kind(encode("RESET") + encode("PING") * 10, AUTH),
        "wide arrays": Kind(encode("NOSUCH", *["x"] * 16_000), AUTH),
        "long bulk strings": Kind(encode("ECHO", "x" * 60_000), AUTH),
        "a long client name": Kind(encode("CLIENT", "SETNAME", "x" * 60_000), AUTH),
        "HELLO with many options": Kind(encode("HELLO", "3", *["SETNAME", "x" * 60_000] * 20), AUTH),
    }


def _presence() -> dict[str, Kind]:
    """What reaches Redis or waits, and transactions."""
    return {
        "ONLINE of 10,000": Kind(encode("GATE.ONLINE", *_users(MANY, "e")), AUTH),
        "ONLINE of one": Kind(encode("GATE.ONLINE", "e") * 500, AUTH),
        "SESSIONS": Kind(encode("GATE.SESSIONS", "e") * 500, AUTH),
        "ROUTE": Kind(encode("GATE.ROUTE", "e", "f") * 500, AUTH),
        "EVENTS": Kind(encode("GATE.EVENTS", "$") * 500, AUTH),
        "EVENTS BLOCK waiters": Kind(encode("GATE.EVENTS", "$", "BLOCK", 50_000), AUTH, waiters=1_000),
        "EXEC of many checks": Kind(
            encode("MULTI")
            + b"".join(encode("GATE.CHECK", a, b) for a, b in zip(_users(9_900, "x"), _users(9_900, "y"), strict=True))
            + encode("EXEC"),
            AUTH,
        ),
        "EXEC of many MIN": Kind(
            encode("MULTI") + encode("GATE.CHECK", "a", "b", "MIN", f"0:{HISTORY}:1") * 2_400 + encode("EXEC"), AUTH
        ),
        "CONFIG GET of long patterns": Kind(encode("CONFIG", "GET", *["*a" * 7_000] * 8) * 10, AUTH),
        "LEASE": Kind(encode("GATE.LEASE", "fair", 1) * 500, AUTH),
        "TOUCH of 1,000": Kind(encode("GATE.TOUCH", *[b"oPAEZHrIOXU.YW5u"] * 1_000), AUTH),
        "TOUCH of one": Kind(encode("GATE.TOUCH", "oPAEZHrIOXU.YW5u") * 500, AUTH),
        "CONNECT with bad Tokens": Kind(encode("GATE.CONNECT", "YW5u.bad.token@x", "iOS", "fair") * 300, GATEWAY),
        "DISCONNECT": Kind(encode("GATE.DISCONNECT", "oPAEZHrIOXU.YW5u") * 500, GATEWAY),
        "one byte at a time, bound": Kind(encode("GATE.CHECK", "a", "b") * 100, AUTH, sip=1),
    }


FEW = ("blank lines", "half a command", "wrong AUTH", "CHECK of ever new Users", "MIN unreachable", "EVENTS",
       "MCHECK of 10,000", "CONNECT with bad Tokens")  # fmt: skip
"""One of each sort: of strangers, of clients, held and large commands, of Gateways. Enough for rounds below `FEW_BELOW_S`."""


def measure(bed: Bed) -> list[Row]:
    """One row; each kind is in its detail."""
    node, seen = bed.node, dict[str, dict[str, float]]()
    with (
        PacedChecks(node, CHECKS_A_SECOND) as checks,
        Apart(
            _attack, node.resp_port, node.credentials.app_key, node.credentials.app_secret, nice=CLIENTS_NICE
        ) as attacker,
    ):
        until_checked(checks)
        names = kinds() if bed.options.seconds >= FEW_BELOW_S else FEW
        for name in ["nothing", *names]:
            seen[name] = shown = _next_to(bed, node, checks, attacker, name)
            bed.say(
                f"{name:28} check p50 {shown['p50_ms']:6.2f} p99 {shown['p99_ms']:6.1f} max {shown['max_ms']:6.1f} ms, "
                f"{shown['bytes_per_s']:>13,.0f} bytes/s, {shown['connections']:.0f} connections, worker {shown['cpu']:4.0%}"
            )
    worst = max(names, key=lambda name: seen[name]["p99_ms"])
    worst_ms = seen[worst]["p99_ms"]
    return [
        Row(
            "fairness",
            f"a check, {CHECKS_A_SECOND}/s, next to one connection of each of {len(names)} kinds, worst p99",
            f"<= {MOST_P99_MS:g} ms",
            f"{worst_ms:.1f} ms ({worst})",
            worst_ms <= MOST_P99_MS,
            {"kinds": seen},
        )
    ]


def until_checked(checks: PacedChecks) -> None:
    """Return when checks are answered. The time for it begins when their process does: on a busy machine that takes long."""
    checks.took_between(0, 0)
    wait_until(lambda: checks.took_between(0, time.monotonic()), CHECKS_BEGIN_S, "the first checks to be answered")


def _next_to(bed: Bed, node: GateService, checks: PacedChecks, attacker: Apart, name: str) -> dict[str, float]:
    seconds = bed.options.seconds
    cpu_s = _worker_cpu_s(node)
    began_s = time.monotonic()
    attacker.tell((name, seconds))
    sent_bytes, connections = attacker.hear()
    ended_s = time.monotonic()
    cpu_s = _worker_cpu_s(node) - cpu_s
    took_ns = answered(checks, began_s, ended_s)
    return {
        "p50_ms": percentile_us(took_ns, 0.5) / 1_000,
        "p99_ms": percentile_us(took_ns, 0.99) / 1_000,
        "max_ms": slowest_ms(took_ns),
        "bytes_per_s": sent_bytes / (ended_s - began_s),
        "connections": connections,
        "cpu": cpu_s / (ended_s - began_s),
    }


def answered(checks: PacedChecks, began_s: float, ended_s: float) -> array[int]:
    """What each check of that time took; one that is not answered soon after counts with all the time there was for it."""
    most = int(CHECKS_A_SECOND * (ended_s - began_s))
    until_s = ended_s + SETTLE_S
    took_ns = checks.took_between(began_s, ended_s)
    while len(took_ns) < most and time.monotonic() < until_s:
        time.sleep(LOOK_EVERY_S)
        took_ns = checks.took_between(began_s, ended_s)
    if len(took_ns) < LEAST_ANSWERED * most:
        took_ns.extend([int((until_s - began_s) * 1e9)] * (most - len(took_ns)))
    return took_ns


def _worker_cpu_s(node: GateService) -> float:
    """Of all processes of the node that are not its Redis: next to nothing else uses any here."""
    ticks = 0
    for one in family(node.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _attack(line: Connection, port: int, app_key: str, app_secret: str) -> None:
    auth = encode("AUTH", app_key, app_secret)
    firsts = {"": b"", AUTH: auth, GATEWAY: auth + encode("GATE.LEASE", "fair", 1)}
    with connect(LOOPBACK, port) as connection:
        explained, _ = ask(connection, auth + encode("GATE.EXPLAIN", "a", "b"), 2)
    epoch = explained[1][explained[1].index(b"revisions") + 1][0].split(b":")[1]
    while (order := line.recv()) != END:
        name, seconds = order
        kind = kinds().get(name)
        if kind is None:
            time.sleep(seconds)
            line.send((0, 0))
        else:
            kind = kind._replace(sent=kind.sent.replace(HISTORY.encode(), epoch))
            until_s = time.monotonic() + seconds
            if kind.waiters:
                line.send(
                    _wait_on(port, kind, auth, clients(app_key, app_secret, 1_000, f"woken{until_s:.0f}"), seconds)
                )
            else:
                line.send(_send_on(port, kind, firsts[kind.first], until_s))


def _send_on(port: int, kind: Kind, first: bytes, until_s: float) -> tuple[int, int]:
    """Bytes that were taken, and how many connections it took."""
    chunk = kind.sent * max(1, CHUNK_BYTES // len(kind.sent))
    sent = connections = 0
    while time.monotonic() < until_s:
        connections += 1
        with suppress(OSError), connect(LOOPBACK, port) as connection:
            connection.sendall(first)
            connection.setblocking(False)
            for taken in _pieces(connection, chunk, kind.sip, until_s):
                sent += taken
    return sent, connections


def _pieces(connection: socket.socket, chunk: bytes, sip: int, until_s: float) -> Iterator[int]:
    """Send on and read every reply; how many bytes were taken each time. Ends with the connection."""
    at, whole = 0, memoryview(chunk)
    while time.monotonic() < until_s:
        readable, writable, _ = select.select([connection], [connection], [], 0.1)
        if readable and not connection.recv(RECEIVE_BYTES):
            return
        if writable:
            taken = connection.send(whole[at : at + sip] if sip else whole[at:])
            at = (at + taken) % len(chunk)
            yield taken


def _wait_on(port: int, kind: Kind, auth: bytes, users: Sequence[Client], seconds: float) -> tuple[int, int]:
    """Wait on many connections, and again when woken."""
    sent, coming = 0, iter(users)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        gateway = stack.enter_context(connect(LOOPBACK, port))
        ask(gateway, auth + encode("GATE.LEASE", "waking", time.time_ns() // 1_000_000), 2)
        for _ in range(kind.waiters):
            waiter = stack.enter_context(connect(LOOPBACK, port))
            ask(waiter, auth, 1)
            waiter.sendall(kind.sent)
            selector.register(waiter, selectors.EVENT_READ)
        woken_at_s = time.monotonic()
        until_s = woken_at_s + seconds
        while time.monotonic() < until_s:
            if time.monotonic() >= woken_at_s:
                woken_at_s += 1 / WAKES_A_SECOND
                ask(gateway, encode("GATE.CONNECT", next(coming).token, "iOS", "waking"), 1)
            for key, _ in selector.select(LOOK_EVERY_S):
                waiter = cast(socket.socket, key.fileobj)
                waiter.recv(RECEIVE_BYTES)
                waiter.sendall(kind.sent)
                sent += len(kind.sent)
    return sent, kind.waiters
