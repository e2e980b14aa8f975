"""From a write to its effect on another node: block and unblock through one node's HTTP, checked on the other's RESP port."""

from __future__ import annotations

import select
import socket
import time
from statistics import median
from typing import NamedTuple

from harness.signing import signature_headers
from loadtests.bench.bed import Bed
from loadtests.bench.client import Peer, ask, percentile_us
from loadtests.bench.http import http_connection, read_answer
from loadtests.bench.rows.replica_files import OTHER_NODE
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row

FLIPS = 2_000
MOST_EFFECT_MS = 10.0
POLL_S = 0.000_2
GIVE_UP_S = 5.0
OWNER, MEMBER = b"ack-owner", b"ack-member"


class Flip(NamedTuple):
    """One write, in ns since it was sent: its answer, and its effect on the other node."""

    answered_ns: int
    effective_ns: int


def measure(bed: Bed) -> list[Row]:
    """One row."""
    flips = _flip(bed, max(50, round(FLIPS * min(1.0, bed.options.scale * 10))))
    effects_ns = [max(0, flip.effective_ns - flip.answered_ns) for flip in flips]
    p99_ms = percentile_us(effects_ns, 0.99) / 1_000
    answers_ns = [flip.answered_ns for flip in flips]
    whole_ns = [flip.effective_ns for flip in flips]
    return [
        Row(
            "ack",
            f"a write acknowledged to its effect on another node, p99 of {len(flips):,} flips",
            f"<= {MOST_EFFECT_MS:.0f} ms",
            f"{p99_ms:.2f} ms",
            p99_ms <= MOST_EFFECT_MS,
            {
                "effective_before_answered": sum(1 for effect in effects_ns if effect == 0),
                "answer_p50_ms": median(answers_ns) / 1e6,
                "answer_p99_ms": percentile_us(answers_ns, 0.99) / 1_000,
                "sent_to_effect_p50_ms": median(whole_ns) / 1e6,
                "sent_to_effect_p99_ms": percentile_us(whole_ns, 0.99) / 1_000,
            },
        )
    ]


def _flip(bed: Bed, count: int) -> list[Flip]:
    _ = bed.node
    other = bed.start_node(OTHER_NODE)
    credentials = bed.node.credentials
    system = GateSystem(other, credentials)
    body = f"userId={OWNER.decode()}&blackUserId={MEMBER.decode()}".encode()
    (check,) = system.commands((MEMBER, OWNER))
    flips: list[Flip] = []
    with http_connection(bed.node) as admin, system.connect() as checker:
        for nth in range(count):
            blocks = nth % 2 == 0
            head = [f"POST /user/blacklist/{'add' if blocks else 'remove'}.json HTTP/1.1", "Host: gate"]
            head += [
                f"{name}: {value}"
                for name, value in signature_headers(credentials.app_key, credentials.app_secret).items()
            ]
            request = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
            started = time.perf_counter_ns()
            admin.sendall(request)
            flips.append(_watch(admin, checker, check, 0 if blocks else 1, started))
    other.stop()
    return flips


def _watch(admin: socket.socket, checker: socket.socket, check: bytes, expected: int, started: int) -> Flip:
    """Poll the other node until it answers as the write demands, and note when the write itself was answered."""
    answered_ns = effective_ns = 0
    while not (answered_ns and effective_ns):
        if not effective_ns and ask(checker, check, 1)[0] == [expected]:
            effective_ns = time.perf_counter_ns() - started
        # Waiting on the answer is also the pause between two polls, so that the watcher leaves the nodes their cores.
        waits_for = [] if answered_ns else [admin]
        if select.select(waits_for, [], [], POLL_S)[0]:
            answered_ns = time.perf_counter_ns() - started
            head, answer = read_answer(admin)
            if " 200 " not in head.split("\r\n")[0]:
                raise Peer(f"the write was refused: {answer.decode(errors='replace')}")
        if time.perf_counter_ns() - started > GIVE_UP_S * 1e9:
            raise Peer(f"no effect on the other node within {GIVE_UP_S} s")
    return Flip(answered_ns, effective_ns)
