"""HTTP writes a second with two HTTP processes against one, and the processor time that each part takes for a write.

    .venv/bin/python -m loadtests.micro.http_workers [--processes 2] [--connections 32] [--seconds 3] [--rounds 5] [--cap 0.05]

Two nodes with embedded servers, one with one HTTP process and one with several, take turns. A client in this process keeps one
`POST /v1/bans` of one User in flight on each connection. Every write is awaited as `all`.

    free       the client and every process of a node run where the system puts them
    pinned     the client runs on the last processor, the node on all others; where there are two, that is one
    capped     the kernel gives each HTTP process `--cap` of a processor, so that HTTP alone is short, as on a machine with more
               processors; null without the right to make a cgroup (version 1) for it

`cpu_us` is processor time for one write: of the client, and of each process of the node. One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import selectors
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.service import GateService
from loadtests.bench.http import http_connection

USERS = 5_000
WARM_S = 1.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
CGROUPS = Path("/sys/fs/cgroup/cpu")
CAP_PERIOD_US = 20_000
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Client:
    """Connections to one node, each with one request in flight or none."""

    def __init__(self, node: GateService, connections: int) -> None:
        self._requests = _requests(node)
        self._at = 0
        self._poll = selectors.DefaultSelector()
        self._idle = [http_connection(node) for _ in range(connections)]
        for one in self._idle:
            self._poll.register(one, selectors.EVENT_READ)

    def run(self, seconds: float) -> int:
        """Write for so long; how many were answered. Every answer must be 200 and `all`."""
        end_s, done, asked = time.monotonic() + seconds, 0, 0
        while time.monotonic() < end_s:
            while self._idle:
                self._ask(self._idle.pop())
                asked += 1
            done += self._take()
        while done < asked:
            done += self._take()
        return done

    def _ask(self, connection: socket.socket) -> None:
        connection.sendall(self._requests[self._at % USERS])
        self._at += 1

    def _take(self) -> int:
        ready = self._poll.select(1.0)
        for key, _ in ready:
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            _read(connection)
            self._idle.append(connection)
        return len(ready)


def _requests(node: GateService) -> list[bytes]:
    known = node.credentials
    basic = base64.b64encode(f"{known.app_key}:{known.app_secret}".encode())
    made = []
    for number in range(USERS):
        body = b'{"users":["user-%d"],"seconds":3600}' % number
        made.append(
            b"POST /v1/bans HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (basic, len(body), body)
        )
    return made


def _read(connection: socket.socket) -> None:
    answer = connection.recv(65_536)
    while (found := LENGTH.search(answer)) is None or len(answer) < answer.find(b"\r\n\r\n") + 4 + int(found[1]):
        more = connection.recv(65_536)
        if not more:
            raise ConnectionError("the node closed the connection")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200 ") or b"X-Gate-Applied: all" not in answer:
        raise RuntimeError(f"a write was not answered as effective everywhere: {answer!r}")


def cpu_s(node: GateService) -> defaultdict[str, float]:
    """Processor time of each process of the node so far, by its name."""
    used: defaultdict[str, float] = defaultdict(float)
    for one in node.processes():
        name = one.command.rpartition(" ")[2] if "gate.service.role" in one.command else "supervisor"
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        used["redis" if "valkey-server" in one.command else name] += (
            int(fields[11]) + int(fields[12])
        ) / TICKS_A_SECOND
    return used


def measured(node: GateService, client: Client, seconds: float) -> dict[str, Any]:
    """One turn."""
    before, own_s, began_s = cpu_s(node), time.process_time(), time.monotonic()
    done = client.run(seconds)
    took_s, own_s = time.monotonic() - began_s, time.process_time() - own_s
    used = {name: now_s - before[name] for name, now_s in cpu_s(node).items() if now_s > before[name]}
    costs = {"client": own_s, **used}
    return {
        "writes_per_s": done / took_s,
        "client_share": own_s / took_s,
        "cpu_us": {name: used_s / done * 1e6 for name, used_s in sorted(costs.items())},
    }


def summed_up(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians."""
    names = sorted({name for turn in turns for name in turn["cpu_us"]})
    costs = {name: round(statistics.median(turn["cpu_us"].get(name, 0.0) for turn in turns)) for name in names}
    return {
        "writes_per_s": round(statistics.median(turn["writes_per_s"] for turn in turns)),
        "rounds": [round(turn["writes_per_s"]) for turn in turns],
        "client_share_of_a_processor": round(statistics.median(turn["client_share"] for turn in turns), 2),
        "cpu_us": costs,
        "cpu_us_without_client": sum(cost for name, cost in costs.items() if name != "client"),
    }


def pin(node: GateService, processors: set[int], own: set[int]) -> None:
    """Where the node and this client may run."""
    os.sched_setaffinity(0, own)
    for one in node.processes():
        for thread in Path(f"/proc/{one.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), processors)


def in_turns(nodes: dict[int, GateService], clients: dict[int, Client], options: argparse.Namespace) -> dict[str, Any]:
    """Each node in its turn, several times."""
    turns: dict[int, list[dict[str, Any]]] = {many: [] for many in nodes}
    for _ in range(options.rounds):
        for many, node in nodes.items():
            turns[many].append(measured(node, clients[many], options.seconds))
    shown = {f"http_workers_{many}": summed_up(each) for many, each in turns.items()}
    one, several = (shown[f"http_workers_{many}"]["writes_per_s"] for many in nodes)
    return {**shown, "ratio": round(several / one, 2)}


def http_processes(node: GateService) -> list[int]:
    """Their process ids."""
    return [one.pid for one in node.processes() if "gate.service.role http " in one.command]


def cap(pid: int, share: float) -> bool:
    """Give a process this share of a processor at most; False without the right to."""
    group = CGROUPS / f"gate-bench-{pid}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(CAP_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(max(1_000, round(share * CAP_PERIOD_US))))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def forget_caps(pids: list[int]) -> None:
    """Remove the groups of processes that ended."""
    for pid in pids:
        with suppress(FileNotFoundError):
            (CGROUPS / f"gate-bench-{pid}").rmdir()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cap", type=float, default=0.05)
    options = parser.parse_args()
    usable = os.sched_getaffinity(0)
    last = {max(usable)}
    found: dict[str, Any] = {"processors": len(usable), "connections": options.connections}
    with tempfile.TemporaryDirectory() as folder:
        nodes: dict[int, GateService] = {}
        try:
            for many in (1, options.processes):
                nodes[many] = GateService.start(Path(folder) / f"node-{many}", "--http-workers", str(many))
            clients = {many: Client(node, options.connections) for many, node in nodes.items()}
            for many, node in nodes.items():
                measured(node, clients[many], WARM_S)
            found["free"] = in_turns(nodes, clients, options)
            for node in nodes.values():
                pin(node, usable - last or usable, last)
            found["pinned"] = in_turns(nodes, clients, options)
            for node in nodes.values():
                pin(node, usable, usable)
            capped = all(cap(pid, options.cap) for node in nodes.values() for pid in http_processes(node))
            found["capped"] = in_turns(nodes, clients, options) if capped else None
        finally:
            os.sched_setaffinity(0, usable)
            for node in nodes.values():
                capped_pids = http_processes(node)
                node.stop()
                forget_caps(capped_pids)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
