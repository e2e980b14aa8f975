"""Prints how much code a call passes, and how large the code is.

    .venv/bin/python -m scripts.walks                    a table; takes about a minute
    .venv/bin/python -m scripts.walks --json             the same figures for a program
    .venv/bin/python -m scripts.walks --hops write       the functions that one walk passes, in order

It starts the service twice, with and without the compiled core, sends each call `REPEATS` times, and records the functions
of `gate/` that the roles call (`scripts/walk_tracer.py`). What belongs to a walk is what every one of its repeats called:
that leaves out heartbeats and whatever else goes on at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from gate.core import token
from gate.core.model import AppFacts
from harness.ending import exit_on_signals
from harness.service import GateService
from harness.signing import signature_headers
from harness.waiting import wait_until
from harness.websocket import Socket, connect
from scripts.sizes import measured

ROOT = Path(__file__).parents[1]
TRACER = ROOT / "scripts" / "walk_tracer.py"
REPEATS = 12
WARM_UPS = 3
"""Unmeasured: connections are made, scripts loaded and Users cached by then."""
AFTERWARDS_S = 0.03
"""What the role that answered does then, as its access log, belongs to the walk."""
HEARD = ": Acknowledger._hear"
"""The announcement of a replicator arrives at the role that waits for it."""
RECORDS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Walk:
    """A call, and the roles that serve it: first the one that answers."""

    name: str
    call: str
    roles: tuple[str, ...]
    most_functions: int
    most_files: int


@dataclass(frozen=True)
class Span:
    """When one call was sent, when its answer was there, and when the role that answered had nothing left to do."""

    began_ns: int
    answered_ns: int
    ended_ns: int


class Call(NamedTuple):
    """One call of a function, on the monotonic clock."""

    at_ns: int
    hop: str


@dataclass(frozen=True)
class Passed:
    """A walk that was traced. `hops` are the calls of one repeat, each as `file: function`."""

    call: str
    core: bool
    functions: int
    files: int
    most_functions: int
    most_files: int
    hops: tuple[str, ...]


WALKS = (
    Walk("write", "POST /user/block.json, waited for", ("http", "replicator"), 95, 25),
    Walk("check-http", "GET /v1/check, the fast path", ("http",), 55, 15),
    Walk("check-app", "GET /v1/check, by the application", ("http",), 55, 15),
    Walk("connect", "GATE.CONNECT", ("worker",), 65, 18),
    Walk("websocket", "WebSocket connect", ("http",), 80, 22),
    Walk("check", "GATE.CHECK, a lone one", ("worker",), 13, 5),
)


class Calls:
    """Clients of one service, and the call of each walk. A call that leaves something behind returns what undoes it."""

    def __init__(self, service: GateService) -> None:
        self._service = service
        credentials = service.credentials
        self._key, self._secret = credentials.app_key, credentials.app_secret
        host, port = urlsplit(service.http).netloc.rsplit(":", 1)
        self._http = http.client.HTTPConnection(host, int(port), timeout=20)
        self._resp = service.resp_client()
        basic = base64.b64encode(f"{self._key}:{self._secret}".encode()).decode()
        self._basic = {"Authorization": f"Basic {basic}"}
        app = AppFacts(key=self._key, secrets=(self._secret,))
        self._token = token.mint(app, b"alice", time.time_ns() // 1_000_000, os.urandom(8))
        self._minutes = count(1)
        self._loop = asyncio.new_event_loop()
        # The App's lease is held as long as one client is connected, so the walks find it held.
        self._stays = self._connected()
        self._resp.execute_command("GATE.LEASE", "walks", 1)

    def write(self) -> None:
        """A Ban, each time with another end, so that it changes something."""
        form = urlencode({"userId": "mallory", "minute": next(self._minutes)})
        self._request("POST", "/user/block.json", form, signature_headers(self._key, self._secret))

    def check_http(self) -> None:
        """The usual form, by which a router asks."""
        self._request("GET", "/v1/check?from=alice&to=bob", None, self._basic)

    def check_app(self) -> None:
        """With a header that the fast path leaves to the application."""
        self._request("GET", "/v1/check?from=alice&to=bob", None, {**self._basic, "Content-Encoding": "identity"})

    def check(self) -> None:
        """One command, for Users that were asked about before."""
        assert self._resp.execute_command("GATE.CHECK", "alice", "bob") == 1

    def connect(self) -> Callable[[], None]:
        """A Session, which the returned function closes."""
        session = self._resp.execute_command("GATE.CONNECT", self._token, "iOS", "walks")
        return lambda: self._resp.execute_command("GATE.DISCONNECT", session)

    def websocket(self) -> Callable[[], None]:
        """A client, which leaves by the returned function."""
        socket = self._connected()
        return lambda: self._loop.run_until_complete(socket.leave())

    def close(self) -> None:
        """Close all clients."""
        self._loop.run_until_complete(self._stays.leave())
        self._loop.close()
        self._resp.close()
        self._http.close()

    def _connected(self) -> Socket:
        return self._loop.run_until_complete(connect(self._service.http, self._token, platform="Web"))

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> None:
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        content = answer.read()
        assert answer.status == 200, content


@contextmanager
def traced_service(folder: Path, core: bool) -> Iterator[GateService]:
    """A node whose roles record their calls on a signal."""
    (folder / "tracer").mkdir(parents=True)
    (folder / "records").mkdir()
    shutil.copy(TRACER, folder / "tracer" / "sitecustomize.py")
    env = {
        "PYTHONPATH": f"{folder / 'tracer'}{os.pathsep}{ROOT}",
        "WALKS_FOLDER": str(folder / "records"),
        "WALKS_SOURCES": str(ROOT),
    }
    if not core:
        env["GATE_NATIVE"] = "0"
    with GateService.start(folder / "gate-data", env=env) as service:
        yield service


def role_pids(service: GateService) -> dict[str, int]:
    """The process of each role; that of the only worker is `worker`."""
    pids: dict[str, int] = {}
    for process in service.processes():
        words = process.command.split()
        if "gate.service.role" in words:
            pids[words[words.index("gate.service.role") + 1]] = process.pid
    return pids


def trace(walk: Walk, call: Callable[[], object], pids: dict[str, int], records: Path) -> list[list[str]]:
    """The hops of each repeat."""
    for _ in range(WARM_UPS):
        span_of(call)
    for role in walk.roles:
        os.kill(pids[role], signal.SIGUSR1)
    spans = [span_of(call) for _ in range(REPEATS)]
    calls = {role: recorded(pids[role], records) for role in walk.roles}
    found = []
    for span in spans:
        own = [call for call in calls[walk.roles[0]] if span.began_ns <= call.at_ns <= span.ended_ns]
        # What another role does once its last announcement has arrived is its own work.
        heard = [call.at_ns for call in own if call.hop.endswith(HEARD) and call.at_ns <= span.answered_ns]
        until_ns = heard[-1] if heard else span.answered_ns
        others = [call for role in walk.roles[1:] for call in calls[role] if span.began_ns <= call.at_ns <= until_ns]
        found.append([call.hop for call in sorted([*own, *others])])
    return found


def recorded(pid: int, records: Path) -> list[Call]:
    """What the role of this process called since it began to record."""
    os.kill(pid, signal.SIGUSR2)
    record = records / f"{pid}.json"
    wait_until(record.exists, RECORDS_WITHIN_S, f"the record of process {pid}")
    calls = [Call(*call) for call in json.loads(record.read_text())]
    record.unlink()  # the role is traced again for another walk
    return calls


def span_of(call: Callable[[], object]) -> Span:
    """Make one call, and undo it after its span."""
    time.sleep(AFTERWARDS_S)  # a signal, or the end of the last call, is over by then
    began_ns = time.monotonic_ns()
    undo = call()
    answered_ns = time.monotonic_ns()
    time.sleep(AFTERWARDS_S)
    ended_ns = time.monotonic_ns()
    if callable(undo):
        undo()
    return Span(began_ns, answered_ns, ended_ns)


def passed(walk: Walk, core: bool, repeats: Sequence[Sequence[str]]) -> Passed:
    """What every repeat called."""
    always = set(repeats[0]).intersection(*repeats[1:])
    shortest = min(repeats, key=len)
    hops = tuple(hop for hop in shortest if hop in always)
    files = {hop.partition(":")[0] for hop in always}
    return Passed(walk.call, core, len(always), len(files), walk.most_functions, walk.most_files, hops)


def traced(walks: Sequence[Walk], core: bool) -> list[Passed]:
    """Each walk on a new service."""
    with tempfile.TemporaryDirectory() as name, traced_service(Path(name), core) as service:
        calls, pids = Calls(service), role_pids(service)
        try:
            return [
                passed(
                    walk, core, trace(walk, getattr(calls, walk.name.replace("-", "_")), pids, Path(name) / "records")
                )
                for walk in walks
            ]
        finally:
            calls.close()


def show(walks: Sequence[Passed]) -> None:
    """The tables."""
    print("| call | compiled core | functions | files | must be |\n| --- | --- | --- | --- | --- |")
    for one in walks:
        bound = f"≤ {one.most_functions} / {one.most_files}"
        print(f"| {one.call} | {'yes' if one.core else 'no'} | {one.functions} | {one.files} | {bound} |")
    print("\n| code | is | must be |\n| --- | --- | --- |")
    for figure in measured():
        print(f"| {figure.name} | {figure.value:,} | {figure.bound} |")


def main(arguments: Sequence[str]) -> int:
    """The program."""
    names = [walk.name for walk in WALKS]
    parser = argparse.ArgumentParser(prog="scripts.walks", description="How much code a call passes.")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--hops", choices=names, help="print the functions of one walk in the order of their calls")
    parser.add_argument(
        "--without-core", action="store_true", help="with --hops: Python answers instead of the compiled core"
    )
    chosen = parser.parse_args(arguments)
    exit_on_signals()
    if chosen.hops:
        walk = WALKS[names.index(chosen.hops)]
        for each in traced([walk], core=not chosen.without_core):
            print("\n".join(each.hops))
        return 0
    walks = [*traced(WALKS, core=True), *traced(WALKS, core=False)]
    if chosen.json:
        print(
            json.dumps({"walks": [asdict(one) for one in walks], "code": [asdict(one) for one in measured()]}, indent=2)
        )
    else:
        show(walks)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
