"""`GET /v1/check` next to a bare aiohttp that answers a constant, and `POST /v1/check` of 1,000 pairs: rate and server CPU.

One process each, in turn within a round, under the same load client. The bare server has the nice level and the scheduling
policy of the HTTP role, which steps back for hot workers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

from harness.ports import LOOPBACK
from harness.processes import family
from loadtests.bench.apart import Apart
from loadtests.bench.bed import Bed
from loadtests.bench.client import RECEIVE_BYTES, TIMEOUT_S, Peer, connect
from loadtests.bench.http import read_answer
from loadtests.bench.table import Row
from loadtests.bench.turns import ratio

CONNECTIONS = 50
PAIRS = 64
LEAST_GET_RATIO = 0.7
HTTP_NICE = 5
"""Of the HTTP role."""
BATCH_PAIRS = 1_000
BATCHES = 50
LEAST_BATCH_PAIRS_PER_S = 300_000
BODY = b'{"allowed":true,"verdict":"allowed","until":null,"revision":"9:67d9ef033b61bb58:1,11:5c69dfdc9c225dde:0","stale_ms":0}'
"""The answer of the bare server, as long as one of Gate's."""

Exchange = tuple[bytes, int]
"""A request, and how long the answer to it is."""


class Server(NamedTuple):
    """One process that answers."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Its processor time so far, in the kernel and outside of it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """One timed run: answers a second, and the server's CPU time for each."""

    per_s: float
    cpu_us: float


def measure_get(bed: Bed) -> list[Row]:
    """50 connections that are kept, one request at a time on each."""
    pairs = bed.pairs("uniform")[:PAIRS]
    head = f"HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic {_basic(bed)}\r\n\r\n"
    requests = [f"GET /v1/check?from={one.decode()}&to={other.decode()} {head}".encode() for one, other in pairs]
    with Apart(serve_bare, nice=0) as bare:  # no level for its session: the node's has none either
        servers = {"gate": _http_role(bed), "bare": Server(*bare.hear())}
        exchanges = {name: _learnt(server, requests) for name, server in servers.items()}
        figures: dict[str, list[Figure]] = {name: [] for name in servers}
        for _ in range(bed.options.rounds):
            for name, server in servers.items():
                figures[name].append(_closed_loop(server, exchanges[name], CONNECTIONS, bed.options.seconds))
    rates = ratio(*([figure.per_s for figure in figures[name]] for name in servers))
    used = ratio(*([figure.cpu_us or 1e-9 for figure in figures[name]] for name in servers))
    medians = {name: Figure(*map(median, zip(*these, strict=True))) for name, these in figures.items()}
    return [
        Row(
            "http-check",
            f"GET /v1/check, checks/s, {CONNECTIONS} connections, against a bare aiohttp that answers a constant",
            f">= {LEAST_GET_RATIO} x",
            f"{rates}, {medians['gate'].per_s:,.0f} to {medians['bare'].per_s:,.0f}; "
            f"server CPU {used}, {medians['gate'].cpu_us:.1f} to {medians['bare'].cpu_us:.1f} us",
            rates.median >= LEAST_GET_RATIO,
            {name: [figure._asdict() for figure in these] for name, these in figures.items()},
        )
    ]


def measure_batch(bed: Bed) -> list[Row]:
    """One connection, one request at a time."""
    server = _http_role(bed)
    exchanges = _learnt(server, _batches(bed))
    figures = [_closed_loop(server, exchanges, 1, bed.options.seconds) for _ in range(bed.options.rounds)]
    per_s = median(figure.per_s for figure in figures) * BATCH_PAIRS
    cpu_us = median(figure.cpu_us for figure in figures) / BATCH_PAIRS
    return [
        Row(
            "http-batch",
            f"POST /v1/check of {BATCH_PAIRS:,} pairs, pairs/s, one connection",
            f">= {LEAST_BATCH_PAIRS_PER_S:,}",
            f"{per_s:,.0f}; server CPU {cpu_us:.2f} us a pair",
            per_s >= LEAST_BATCH_PAIRS_PER_S,
            {"rounds": [round(figure.per_s * BATCH_PAIRS) for figure in figures], "cpu_us": cpu_us},
        )
    ]


def serve_bare(line: Connection) -> None:
    """The server to compare with, until the order `END`."""
    os.nice(HTTP_NICE)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    uvloop.run(_serve_bare(line))


async def _serve_bare(line: Connection) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BODY, headers={"Content-Type": "application/json;charset=UTF-8"})

    app = web.Application()
    app.router.add_get("/v1/check", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    line.send((runner.addresses[0][1], os.getpid()))
    await asyncio.to_thread(line.recv)
    await runner.cleanup()


def _http_role(bed: Bed) -> Server:
    roles = [one.pid for one in family(bed.node.pid) if "gate.service.role http" in one.command]
    return Server(urlsplit(bed.node.http).port or 80, roles[0])


def _basic(bed: Bed) -> str:
    known = bed.node.credentials
    return base64.b64encode(f"{known.app_key}:{known.app_secret}".encode()).decode()


def _batches(bed: Bed) -> list[bytes]:
    pairs = [(sender.decode(), recipient.decode()) for sender, recipient in bed.pairs("uniform")]
    requests = []
    for nth in range(min(BATCHES, len(pairs) // BATCH_PAIRS)):
        these = pairs[nth * BATCH_PAIRS : (nth + 1) * BATCH_PAIRS]
        body = json.dumps({"pairs": these}, separators=(",", ":")).encode()
        head = (
            f"POST /v1/check HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic {_basic(bed)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def _learnt(server: Server, requests: Sequence[bytes]) -> list[Exchange]:
    """Each asked once: the length of its answer does not change while nothing is written. `Peer` for a refusal."""
    exchanges = []
    with connect(LOOPBACK, server.port) as connection:
        for request in requests:
            connection.sendall(request)
            head, body = read_answer(connection)
            if not head.startswith("http/1.1 200 "):
                raise Peer(f"a check was answered {head} {body[:200]!r}")
            exchanges.append((request, len(head) + 4 + len(body)))
    return exchanges


def _closed_loop(server: Server, exchanges: Sequence[Exchange], connections: int, seconds: float) -> Figure:
    lines = [connect(LOOPBACK, server.port) for _ in range(connections)]
    try:
        return _asked(server, {line.fileno(): line for line in lines}, exchanges, seconds)
    finally:
        for line in lines:
            line.close()


def _asked(server: Server, lines: dict[int, socket.socket], exchanges: Sequence[Exchange], seconds: float) -> Figure:
    buffer, answers = bytearray(RECEIVE_BYTES), 0
    at = {fd: nth % len(exchanges) for nth, fd in enumerate(lines)}
    left = {fd: exchanges[at[fd]][1] for fd in lines}
    with select.epoll() as poll:
        cpu_s, began_s = server.cpu_s(), time.perf_counter()
        for fd, line in lines.items():
            poll.register(fd, select.EPOLLIN)
            line.sendall(exchanges[at[fd]][0])
        while (took_s := time.perf_counter() - began_s) < seconds or not answers:
            for fd, _ in poll.poll(TIMEOUT_S):
                received = lines[fd].recv_into(buffer)
                left[fd] -= received
                if not received or left[fd] < 0:
                    raise Peer("the connection ended, or an answer was longer than the same one before")
                if not left[fd]:
                    answers += 1
                    at[fd] = (at[fd] + 1) % len(exchanges)
                    request, left[fd] = exchanges[at[fd]]
                    lines[fd].sendall(request)
    return Figure(answers / took_s, (server.cpu_s() - cpu_s) / answers * 1e6)
