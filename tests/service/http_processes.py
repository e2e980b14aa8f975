"""A node's HTTP processes, and a connection to each. The kernel chooses, so connections are opened until it chose all."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.service import GateService

TIMEOUT_S = 30.0
MOST_TRIES = 400
"""With three processes, one of them is missed by so many connections once in 10^70."""


class Reply(NamedTuple):
    """One answer; `body` is decoded if it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Caller:
    """One kept connection to one HTTP process."""

    def __init__(self, service: GateService) -> None:
        self._service = service
        self._connection = http.client.HTTPConnection(service.http.removeprefix("http://"), timeout=TIMEOUT_S)
        self.send("GET", "/healthz")  # once it is answered, a process has accepted it
        self.port = int(self._connection.sock.getsockname()[1])

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """The answer, on this connection and no other."""
        self._connection.request(method, path, body, dict(headers or {}))
        answer = self._connection.getresponse()
        raw = answer.read()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return Reply(answer.status, dict(answer.headers), json.loads(raw) if is_json else raw.decode())

    def v1(self, method: str, path: str, body: object = None) -> Reply:
        """As the first App."""
        known = self._service.credentials
        return self._json(method, path, body, f"{known.app_key}:{known.app_secret}")

    def as_operator(self, method: str, path: str, body: object = None, password: str = "", name: str = "") -> Reply:
        """As the first operator, unless another name or password is given."""
        known = self._service.credentials
        return self._json(method, path, body, f"{name or known.operator}:{password or known.operator_password}")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _json(self, method: str, path: str, body: object, pair: str) -> Reply:
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        packed = None if body is None else json.dumps(body).encode()
        return self.send(method, path, packed, {"Authorization": basic, "Content-Type": "application/json"})


def http_pids(service: GateService) -> dict[int, int]:
    """The HTTP processes that run now: index to process id."""
    pids = {}
    for one in service.processes():
        if match := re.search(r"gate\.service\.role http http-(\d+)$", one.command):
            pids[int(match[1])] = one.pid
    return pids


@contextmanager
def caller_of_each(service: GateService, many: int) -> Iterator[list[Caller]]:
    """One connection to each process, in order."""
    callers: dict[int, Caller] = {}
    spare: list[Caller] = []
    try:
        for _ in range(MOST_TRIES):
            caller = Caller(service)
            spare.append(caller)
            callers.setdefault(process_of(service, caller.port), caller)
            if len(callers) == many:
                break
        assert sorted(callers) == list(range(many)), "the kernel never chose one of the processes"
        yield [callers[index] for index in range(many)]
    finally:
        for caller in spare:
            caller.close()


def process_of(service: GateService, port: int) -> int:
    """The index of the HTTP process that holds the connection which comes from this local port."""
    there = int(service.http.rpartition(":")[2])
    inode = _inode(there, port)
    for index, pid in http_pids(service).items():
        if any(_link(path) == f"socket:[{inode}]" for path in _open_files(pid)):
            return index
    raise AssertionError(f"no HTTP process holds the connection from port {port}")


def _inode(local: int, remote: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (_port(fields[1]), _port(fields[2])) == (local, remote):
            return fields[9]
    raise AssertionError(f"no connection from port {remote}")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _open_files(pid: int) -> list[Path]:
    with suppress(OSError):  # it ended meanwhile
        return list(Path(f"/proc/{pid}/fd").iterdir())
    return []


def _link(path: Path) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


def figure(page: str, name: str) -> float:
    """The sum of a metric over its labels, off the page of a scrape."""
    return sum(float(found[1]) for found in re.finditer(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE))
