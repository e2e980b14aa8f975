"""A client process of its own that asks at a steady rate whether ann may message bob; see `failover`.

    python -m loadtests.micro.asker PORT PER_SECOND CORE < "APP-KEY APP-SECRET"

It is pinned to a core, and has an interpreter lock of its own: what it measures is the node and the machine, not the test. It
asks until its standard input ends, and prints how long each answer took, ms, as a JSON list.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
from typing import Any

import hiredis

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
ANSWER_TIMEOUT_S = 10.0


class Asking:
    """Such a process, from now until `end`."""

    def __init__(self, port: int, key: str, secret: str, per_s: int = 500) -> None:
        core = max(os.sched_getaffinity(0))
        command = [sys.executable, "-m", "loadtests.micro.asker", str(port), str(per_s), str(core)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{key} {secret}\n")
        self._process.stdin.flush()

    def end(self) -> list[float]:
        """Stop asking; how long each answer took, ms."""
        out, _ = self._process.communicate(timeout=60)
        if self._process.returncode:
            raise RuntimeError(f"the asker ended with {self._process.returncode}")
        took_ms: list[float] = json.loads(out)
        return took_ms


def main() -> None:
    """Ask and print."""
    port, per_s, core = map(int, sys.argv[1:])
    key, secret = sys.stdin.readline().split()
    os.sched_setaffinity(0, {core})
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = hiredis.Reader()
        _ask(connection, replies, hiredis.pack_command(("AUTH", key, secret)))  # type: ignore[arg-type]  # the stub takes one word
        check = hiredis.pack_command(("GATE.CHECK", "ann", "bob"))  # type: ignore[arg-type]  # the stub takes one word
        gc.disable()
        print(json.dumps(_took(connection, replies, check, 1 / per_s)))


def _took(connection: socket.socket, replies: hiredis.Reader, check: bytes, every_s: float) -> list[float]:
    took_ms: list[float] = []
    next_s = time.monotonic()
    while True:
        wait_s = max(0.0, next_s - time.monotonic())
        if select.select([sys.stdin], [], [], wait_s)[0]:
            return took_ms
        next_s += every_s
        began_s = time.perf_counter()
        _ask(connection, replies, check)
        took_ms.append(round((time.perf_counter() - began_s) * 1_000, 3))


def _ask(connection: socket.socket, replies: hiredis.Reader, packed: bytes) -> Any:
    connection.sendall(packed)
    while (reply := replies.gets()) is False:
        arrived = connection.recv(4_096)
        if not arrived:
            raise SystemExit("the node closed the connection")
        replies.feed(arrived)
    if isinstance(reply, Exception):
        raise reply
    return reply


if __name__ == "__main__":
    main()
