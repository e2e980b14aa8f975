"""The receiver of a presence webhook, in a process of its own: it accepts every batch, and returns the changes later."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple

from harness.ports import LOOPBACK
from loadtests.bench.apart import CLIENTS_NICE, END, Apart


class Change(NamedTuple):
    """One change."""

    user: str
    status: str
    session: str


class HookReceiver:
    """Use as a context."""

    def __init__(self) -> None:
        self._apart = Apart(_serve, nice=CLIENTS_NICE)
        self.url: str = self._apart.hear()

    def __enter__(self) -> HookReceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apart.__exit__(kind, error, trace)

    def received(self) -> list[Change]:
        """All changes so far, in the order in which they came, once each: a change may be delivered twice."""
        batches: list[bytes] = self._apart.ask("received")
        changes = (change for batch in batches for change in json.loads(batch))
        return list(dict.fromkeys(Change(one["userid"], one["status"], one["sessionId"]) for one in changes))


def _serve(line: Connection) -> None:
    batches: list[bytes] = []

    class Take(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            batches.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """The log is not read."""

    with ThreadingHTTPServer((LOOPBACK, 0), Take) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        line.send(f"http://{LOOPBACK}:{server.server_port}")
        while line.recv() != END:
            line.send(list(batches))
        server.shutdown()
