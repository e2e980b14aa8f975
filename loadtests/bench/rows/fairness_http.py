"""What a check waits for next to strangers and end users on the HTTP port: each kind of attack in turn.

Two are watched: a checker at 500 a second on the RESP port, which is another process, and a client of HTTP that asks
`GET /v1/check` and `/healthz` in turn. The HTTP process steps back for the worker (nice 5), and serves the attacker as well, so
its own figure is the wait behind one turn of each connection; it is shown, and bounded loosely.
"""

from __future__ import annotations

import base64
import gzip
import os
import time
from array import array
from contextlib import suppress
from multiprocessing.connection import Connection
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector, SelectorKey
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from gate.core import token
from gate.core.model import AppFacts
from harness.ports import LOOPBACK
from loadtests.bench.apart import CLIENTS_NICE, END, Apart
from loadtests.bench.bed import Bed
from loadtests.bench.client import RECEIVE_BYTES, connect, percentile_us
from loadtests.bench.http import read_answer
from loadtests.bench.paced import FEW_BELOW_S, PacedChecks, slowest_ms
from loadtests.bench.rows.fairness import CHECKS_A_SECOND, MOST_P99_MS, answered, until_checked
from loadtests.bench.table import Row

PROBES_A_SECOND = 50
MOST_HTTP_P99_MS = 250.0
"""Of HTTP itself, on two cores that the attacker shares; without bounds it is seconds."""
FEW = ("gzip bombs", "heads without an end", "wrong credentials", "bulk of a thousand", "presence of a thousand")
"""One of each sort: of strangers, of an App, of end users. Where rounds are too short to measure anything."""
MANY = 1_000
TOKENS = 8


class Kind(NamedTuple):
    """What each of so many connections sends: once, then the rest over and over, or no more at all."""

    connections: int
    head: bytes | list[bytes]
    """Where it is a list, each connection has one of its own."""
    rest: bytes = b""
    sip: int = 0
    """Bytes at a time; 0: as many as there is room for."""


def measure(bed: Bed) -> list[Row]:
    """Two rows; each kind is in their detail."""
    node, seen = bed.node, dict[str, dict[str, float]]()
    known = node.credentials
    whom = urlsplit(node.http).port, known.app_key, known.app_secret
    with (
        PacedChecks(node, CHECKS_A_SECOND) as checks,
        Apart(_probe, *whom, nice=0) as prober,
        Apart(_attack, *whom, nice=CLIENTS_NICE) as attacker,
    ):
        until_checked(checks)
        names = kinds(known.app_key, known.app_secret) if bed.options.seconds >= FEW_BELOW_S else FEW
        for name in ["nothing", *names]:
            seen[name] = shown = _next_to(bed, checks, prober, attacker, name)
            bed.say(
                f"{name:24} check p99 {shown['p99_ms']:6.1f} max {shown['max_ms']:6.1f} ms, "
                f"http p50 {shown['http_p50_ms']:6.1f} p99 {shown['http_p99_ms']:6.1f} max {shown['http_max_ms']:6.1f} ms"
            )
    worst = max(seen, key=lambda name: seen[name]["p99_ms"])
    worst_http = max(seen, key=lambda name: seen[name]["http_p99_ms"])
    worst_ms, worst_http_ms = seen[worst]["p99_ms"], seen[worst_http]["http_p99_ms"]
    return [
        Row(
            "fairness-http",
            f"a check over RESP, {CHECKS_A_SECOND}/s, next to each of {len(seen) - 1} attacks on HTTP, worst p99",
            f"<= {MOST_P99_MS:g} ms",
            f"{worst_ms:.1f} ms ({worst})",
            worst_ms <= MOST_P99_MS,
            {"kinds": seen},
        ),
        Row(
            "fairness-http",
            f"GET /v1/check and /healthz, {PROBES_A_SECOND}/s, next to each of them, worst p99",
            f"<= {MOST_HTTP_P99_MS:g} ms",
            f"{worst_http_ms:.1f} ms ({worst_http})",
            worst_http_ms <= MOST_HTTP_P99_MS,
            {},
        ),
    ]


def kinds(app_key: str, app_secret: str) -> dict[str, Kind]:
    """Of strangers, of end users with a Token, and of an App."""
    app = AppFacts(key=app_key, secrets=(app_secret,))
    basic = base64.b64encode(f"{app_key}:{app_secret}".encode()).decode()
    of_app = f"Authorization: Basic {basic}\r\nContent-Type: application/json\r\n"
    minted = [token.mint(app, b"fair-%d" % n, time.time_ns() // 1_000_000, os.urandom(8)) for n in range(TOKENS)]
    of_user = f"Authorization: Bearer {minted[0]}\r\nContent-Type: application/json\r\n"
    wrong = "Authorization: Basic " + base64.b64encode(b"nosuch:wrong").decode() + "\r\n"
    users = "&".join(f"user=user-{n}" for n in range(MANY))
    asking = [_whole("GET", f"/client/v1/presence?{users}", f"Authorization: Bearer {one}\r\n", b"") for one in minted]
    bulk = orjson.dumps({"operations": [_operation(n) for n in range(MANY)]})
    many = orjson.dumps({"pairs": [[f"a{n}", f"b{n}"] for n in range(10_000)]})
    bomb = gzip.compress(bytes(50_000_000), compresslevel=1)  # quick to make, and as large when it is read
    zipped = "Content-Encoding: gzip\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    return {
        "gzip bombs": Kind(16, _whole("POST", "/v1/check", zipped, bomb)),
        "gzip bombs in chunks": Kind(
            16, _head("POST", "/v1/check", zipped + chunked), b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        ),
        "huge bodies": Kind(
            50, _head("POST", "/client/v1/blacklist", of_user + "Content-Length: 60000\r\n"), b" " * 1_000
        ),
        "huge bodies of strangers": Kind(50, _head("POST", "/v1/check", "Content-Length: 16000000\r\n"), b" " * 65_536),
        "slow bodies": Kind(
            250, _head("POST", "/client/v1/blacklist", of_user + "Content-Length: 60000\r\n"), b" ", sip=1
        ),
        "chunks of a byte": Kind(8, _head("POST", "/v1/check", of_app + chunked), b"1\r\nx\r\n" * 1_000),
        "endless chunk extensions": Kind(8, _head("POST", "/v1/check", of_app + chunked) + b"1;", b"x" * 65_536),
        "nested JSON": Kind(8, _whole("POST", "/v1/check", of_app, b"[" * 500_000)),
        "empty arrays": Kind(8, _whole("POST", "/v1/check", of_app, b'{"pairs":[' + b"[]," * 500_000 + b"[]]}")),
        "bulk of a thousand": Kind(16, _whole("POST", "/v1/bulk", of_app, bulk)),
        "check of ten thousand": Kind(4, _whole("POST", "/v1/check", of_app, many)),
        "presence of a thousand": Kind(TOKENS, asking),
        "many header bytes": Kind(
            16, _head("GET", "/healthz", "".join(f"X-{n}: {'x' * 8_000}\r\n" for n in range(120)))
        ),
        "heads without an end": Kind(250, b"GET /healthz HTTP/1.1\r\nX: ", b"x", sip=1),
        "handshakes without an end": Kind(250, b"GET /client/v1/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"),
        "wrong credentials": Kind(32, _whole("GET", "/v1/check?from=a&to=b", wrong, b"")),
        "wrong passwords": Kind(32, _whole("GET", "/v1/apps", wrong, b"")),
        "no HTTP": Kind(32, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    }


def _operation(number: int) -> dict[str, object]:
    user = f"bulk-{number % 97}"
    if number % 3 == 0:
        return {"op": "ban", "user": user, "seconds": 60}
    if number % 3 == 1:
        return {"op": "block", "owner": user, "member": f"m-{number}", "seconds": 60}
    return {"op": "unban", "user": user}


def _head(method: str, target: str, fields: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def _whole(method: str, target: str, fields: str, body: bytes) -> bytes:
    return _head(method, target, f"{fields}Content-Length: {len(body)}\r\n" if body else fields) + body


def _next_to(bed: Bed, checks: PacedChecks, prober: Apart, attacker: Apart, name: str) -> dict[str, float]:
    began_s = time.monotonic()
    attacker.tell((name, bed.options.seconds))
    attacker.hear()
    ended_s = time.monotonic()
    took_ns = answered(checks, began_s, ended_s)
    http_ns: array[int] = prober.ask((began_s, ended_s))  # it asks in turn, so by now all of them are answered
    return {
        "p99_ms": percentile_us(took_ns, 0.99) / 1_000,
        "max_ms": slowest_ms(took_ns),
        "http_p50_ms": percentile_us(http_ns, 0.5) / 1_000 if http_ns else float("inf"),
        "http_p99_ms": percentile_us(http_ns, 0.99) / 1_000 if http_ns else float("inf"),
        "http_max_ms": slowest_ms(http_ns) if http_ns else float("inf"),
    }


def _probe(line: Connection, port: int, app_key: str, app_secret: str) -> None:
    """Ask in turn, the next one when its time has come and the one before was answered."""
    basic = base64.b64encode(f"{app_key}:{app_secret}".encode()).decode()
    asked = [_head("GET", "/v1/check?from=a&to=b", f"Authorization: Basic {basic}\r\n"), _head("GET", "/healthz", "")]
    sent_s, took_ns = array("d"), array("q")
    with connect(LOOPBACK, port) as connection:
        next_s, number = time.monotonic(), 0
        while True:
            if line.poll(max(0.0, next_s - time.monotonic())):
                order = line.recv()
                if order == END:
                    return
                line.send(
                    array("q", (took for at, took in zip(sent_s, took_ns, strict=True) if order[0] <= at <= order[1]))
                )
                continue
            began_s = time.monotonic()
            connection.sendall(asked[number % 2])
            read_answer(connection)
            sent_s.append(began_s)
            took_ns.append(round((time.monotonic() - began_s) * 1e9))
            next_s, number = max(began_s + 1 / PROBES_A_SECOND, time.monotonic()), number + 1


def _attack(line: Connection, port: int, app_key: str, app_secret: str) -> None:
    every = kinds(app_key, app_secret)
    while (order := line.recv()) != END:
        name, seconds = order
        kind = every.get(name)
        if kind is None:
            time.sleep(seconds)
        else:
            _send_on(port, kind, time.monotonic() + seconds)
        line.send(None)


class _Sender:
    """One of the attacker's connections."""

    def __init__(self, port: int, kind: Kind, number: int) -> None:
        self.socket = connect(LOOPBACK, port)
        self.socket.setblocking(False)
        self.number = number
        self._sip = kind.sip
        head = kind.head if isinstance(kind.head, bytes) else kind.head[number % len(kind.head)]
        self._left = memoryview(head)
        self._rest = kind.rest or head

    def send(self) -> None:
        """As much as there is room for: the head, then the rest again and again, or else the head again."""
        if not self._left:
            self._left = memoryview(self._rest)
        taken = self.socket.send(self._left[: self._sip] if self._sip else self._left)
        self._left = self._left[taken:]


def _send_on(port: int, kind: Kind, until_s: float) -> None:
    with DefaultSelector() as selector:
        for number in range(kind.connections):
            _open(selector, port, kind, number)
        while time.monotonic() < until_s:
            for key, events in selector.select(0.1):
                if not _goes_on(key, events):
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    _open(selector, port, kind, key.data.number)
        for key in list(selector.get_map().values()):
            key.data.socket.close()


def _open(selector: DefaultSelector, port: int, kind: Kind, number: int) -> None:
    with suppress(OSError):
        sender = _Sender(port, kind, number)
        selector.register(sender.socket, EVENT_READ | EVENT_WRITE, sender)


def _goes_on(key: SelectorKey, events: int) -> bool:
    sender: _Sender = key.data
    try:
        if events & EVENT_READ and not sender.socket.recv(RECEIVE_BYTES):
            return False
        if events & EVENT_WRITE:
            sender.send()
    except OSError:
        return False
    return True
