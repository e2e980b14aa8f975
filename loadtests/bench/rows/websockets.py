"""Thousands of WebSockets held at once: the memory of each, checks next to them, and the time from a Ban to the disconnect."""

from __future__ import annotations

import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlencode

from gate.clock import wall_ms
from gate.http.options import PING_EVERY_S
from harness.service import GateService
from harness.signing import signature_headers
from harness.waiting import wait_until
from loadtests.bench.apart import CLIENTS_NICE
from loadtests.bench.bed import Bed, BedFailed
from loadtests.bench.client import Peer, percentile_us
from loadtests.bench.crowd import Closed, Crowd
from loadtests.bench.gateways import Client, clients
from loadtests.bench.http import http_connection, read_answer
from loadtests.bench.paced import PacedChecks, p99_ms, pace, slowest_ms
from loadtests.bench.table import Row

WEBSOCKETS_AT_SCALE_1 = 10_000
LEAST_WEBSOCKETS = 64
MOST_KB_A_WEBSOCKET = 40
MOST_TIMES_IDLE = 2
WINDOW_S = 2.0
IDLE_WINDOWS = 5
"""Before the WebSockets, and again after them."""
ROUNDS_OF_PINGS = 1.2
"""All are held for so long, so that each is pinged."""
WARM = 256
"""WebSockets that come and go first: what the first ones make the process load is no connection's."""
GONE_WITHIN_S = 60.0

KICKED_A_KIND = 250
KICK_EVERY_S = 0.02
MOST_KICK_MS = 100
KICKED_WITHIN_S = 10.0


def measure_held(bed: Bed) -> list[Row]:
    """Idle windows before and after; in between all are held for longer than a round of pings."""
    node, many = bed.websockets, websockets(bed)
    window_s = min(WINDOW_S, WINDOW_S * bed.options.scale * 10)
    with PacedChecks(node, pace(bed.options.seconds)) as checks, crowd_of(bed, many) as crowd:
        warm(node, many)
        memory = Memory.of(node)
        before = windows(checks, window_s, IDLE_WINDOWS)
        come = crowd.come()
        held_from_s = time.monotonic()
        held_s = min(1.0, bed.options.scale * 10) * ROUNDS_OF_PINGS * PING_EVERY_S
        crowd.watch()
        held = windows(checks, window_s, max(1, round(held_s / window_s)))
        held_s = time.monotonic() - held_from_s
        look, grown = crowd.look(), Memory.of(node).since(memory)
        crowd.drop()
        wait_until_gone(node)
        after = windows(checks, window_s, IDLE_WINDOWS)
    idle_ms, held_ms = (median(p99_ms(one) for one in some) for some in (before + after, held))
    least_pings = min(look.pings, default=0)
    all_stayed = look.here == many and not look.closed
    kb = grown.roles_kb["http"] / many
    return [
        Row(
            "websockets",
            f"memory of an idle WebSocket in the HTTP role (PSS), {many:,} of them, pinged",
            f"<= {MOST_KB_A_WEBSOCKET} KB",
            f"{kb:.1f} KB; kernel, both ends {grown.kernel_kb / many:.1f} KB",
            kb <= MOST_KB_A_WEBSOCKET,
            {"grown_kb": grown.roles_kb, "kernel_kb": grown.kernel_kb},
        ),
        Row(
            "websockets",
            f"{many:,} held for {held_s:.0f} s, each pinged {least_pings} x and more: GATE.CHECK at {checks.per_s:,}/s, p99",
            f"<= {MOST_TIMES_IDLE} x idle",
            f"{held_ms:.2f} ms, {held_ms / idle_ms:.2f} x ({idle_ms:.2f} ms)",
            held_ms <= MOST_TIMES_IDLE * idle_ms and least_pings > 0 and all_stayed,
            {
                "idle_p99_ms": [p99_ms(one) for one in before + after],
                "held_p99_ms": [p99_ms(one) for one in held],
                "slowest_held_ms": max(map(slowest_ms, held)),
                "slowest_idle_ms": max(map(slowest_ms, before + after)),
                "came_within_s": come.welcomed_s[-1] - come.began_s,
                "clients_nice": CLIENTS_NICE,
            },
        ),
    ]


def measure_kicks(bed: Bed) -> list[Row]:
    """Users of a separate crowd are disconnected one by one, by each kind of call, while the others idle."""
    node, many = bed.websockets, websockets(bed)
    set_app(bed, "--close-sessions-on-expire")
    each = max(5, round(KICKED_A_KIND * min(1.0, bed.options.scale * 10)))
    kicked = clients(node.credentials.app_key, node.credentials.app_secret, each * len(_KICKS), "kicked")
    rows = []
    with crowd_of(bed, many) as others, Crowd(node, kicked, nice=0) as crowd:
        others.come()
        crowd.come()
        for nth, kick in enumerate(_KICKS):
            users = kicked[nth * each : (nth + 1) * each]
            rows.append(_kick_row(node, crowd, kick, [one.user for one in users], many))
        idle = others.look()
        others.drop()
    wait_until_gone(node)
    if idle.here != many:
        raise Peer(f"{many - idle.here:,} WebSockets of others were closed: {idle.closed[:3]}")
    return rows


class _Kick(NamedTuple):
    what: str
    path: str
    fields: Callable[[], dict[str, str]]
    code: int


_KICKS = (
    _Kick("Ban", "/user/block.json", lambda: {"minute": "10"}, 4403),
    _Kick("deactivation", "/user/deactivate.json", dict, 4410),
    _Kick("revocation", "/user/token/expire.json", lambda: {"time": str(wall_ms() + 1)}, 4401),
)


def _kick_row(node: GateService, crowd: Crowd, kick: _Kick, users: Sequence[bytes], others: int) -> Row:
    crowd.watch()
    answered_s: dict[bytes, float] = {}
    credentials = node.credentials
    with http_connection(node) as admin:
        for user in users:
            started_s = time.monotonic()
            body = urlencode({"userId": user.decode()} | kick.fields()).encode()
            head = [f"POST {kick.path} HTTP/1.1", "Host: gate", f"Content-Length: {len(body)}"]
            head += [
                f"{name}: {it}" for name, it in signature_headers(credentials.app_key, credentials.app_secret).items()
            ]
            admin.sendall("\r\n".join([*head, "", ""]).encode() + body)
            status, answer = read_answer(admin)
            answered_s[user] = time.monotonic()
            if " 200 " not in status.split("\r\n")[0]:
                raise Peer(f"{kick.path} answered: {answer.decode(errors='replace')}")
            time.sleep(max(0.0, started_s + KICK_EVERY_S - time.monotonic()))

    def all_closed() -> list[Closed] | None:
        closed = crowd.look().closed
        return closed if len(closed) >= len(users) else None

    closed = wait_until(all_closed, KICKED_WITHIN_S, f"{len(users)} WebSockets to be closed after {kick.path}")
    if {one.code for one in closed} != {kick.code}:
        raise Peer(f"{kick.path} closed WebSockets with {sorted({one.code for one in closed})}")
    took_ns = [int(max(0.0, one.at_s - answered_s[one.user]) * 1e9) for one in closed]
    p99 = percentile_us(took_ns, 0.99) / 1_000
    return Row(
        "websocket-kicks",
        f"{kick.what} acknowledged to the close frame's arrival, p99 of {len(users)}, {others:,} others idle",
        f"<= {MOST_KICK_MS} ms",
        f"{p99:.1f} ms, median {median(took_ns) / 1e6:.1f} ms",
        p99 <= MOST_KICK_MS,
        {"slowest_ms": max(took_ns) / 1e6},
    )


# Also for the storm


def websockets(bed: Bed) -> int:
    return max(LEAST_WEBSOCKETS, round(WEBSOCKETS_AT_SCALE_1 * bed.options.scale))


@contextmanager
def crowd_of(bed: Bed, many: int) -> Iterator[Crowd]:
    credentials = bed.websockets.credentials
    with Crowd(bed.websockets, clients(credentials.app_key, credentials.app_secret, many)) as crowd:
        yield crowd


def warm(node: GateService, many: int) -> None:
    """Some come and go."""
    some: list[Client] = clients(node.credentials.app_key, node.credentials.app_secret, min(WARM, many))
    with Crowd(node, some) as crowd:
        crowd.come()
    wait_until_gone(node)


def wait_until_gone(node: GateService) -> None:
    """Until the service has noticed that no client is connected."""
    with node.resp_client() as client:

        def are_all_offline() -> bool:
            answer: list[int] = client.execute_command("GATE.ONLINE", *_USERS)
            return not any(answer)

        wait_until(are_all_offline, GONE_WITHIN_S, "the WebSockets that were closed to be offline")


_USERS = [b"online%06d" % number for number in range(1_000)]


def set_app(bed: Bed, *options: str) -> None:
    """Change the node's App."""
    node = bed.websockets
    command = [sys.executable, "-m", "gate", "app", "set", node.credentials.app_key, *options, "--data", str(node.data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BedFailed(f"gate app set ended with {done.returncode}: {done.stdout}{done.stderr}")


def windows(checks: PacedChecks, window_s: float, many: int) -> list[array[int]]:
    """So many windows of checks, one after another."""
    some = []
    for _ in range(many):
        began_s = time.monotonic()
        time.sleep(window_s)
        some.append(checks.took_between(began_s, time.monotonic()))
    return some


class Memory(NamedTuple):
    """The memory of each role's process, and of the kernel for all sockets of the machine."""

    roles_kb: dict[str, int]
    kernel_kb: int

    @classmethod
    def of(cls, node: GateService) -> Memory:
        roles = {}
        for one in node.processes():
            words = one.command.split()
            name = words[words.index("gate.service.role") + 2] if "gate.service.role" in words else Path(words[0]).name
            roles[name] = _field_kb(Path(f"/proc/{one.pid}/smaps_rollup"), "Pss:")
        return cls(roles, _field_kb(Path("/proc/meminfo"), "Slab:") + _socket_pages_kb())

    def since(self, before: Memory) -> Memory:
        grown = {name: kb - before.roles_kb.get(name, 0) for name, kb in self.roles_kb.items()}
        return Memory(grown, self.kernel_kb - before.kernel_kb)


def _field_kb(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))


def _socket_pages_kb() -> int:
    """The bytes that sockets have buffered."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index("mem") + 1]) * 4
    return 0
