"""`--health HOST:PORT`: `/healthz`, `/readyz` and `/metrics`, answered by the supervisor itself.

The HTTP port serves strangers, and a probe there waits with them; a container must not be killed, checks included, because
many came at once. Here these three paths are answered whatever the roles do: a role that ends is restarted by the supervisor,
and `/readyz` names one that does not answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import NamedTuple

from gate.readiness import METRICS_TYPE, RETRY_AFTER_S
from gate.service.node_state import NodeState

# Connections at a time; an orchestrator has one or two. Past it the oldest is closed, so that no newcomer is refused.
MAX_PROBES = 64
# A probe's head is some 100 bytes.
MAX_HEAD_BYTES = 4_096
HEAD_WITHIN_S = 2.0
WRITTEN_WITHIN_S = 5.0

JSON_TYPE = "application/json;charset=UTF-8"


class _Answer(NamedTuple):
    status: str
    body: bytes
    content_type: str = JSON_TYPE
    more: str = ""
    """Further header lines."""


_ALIVE = _Answer("200 OK", b'{"status":"ok"}')
_ABSENT = _Answer(
    "404 Not Found", b'{"error":"not-found","message":"there are only GET /healthz, /readyz and /metrics here"}'
)


class HealthPort:
    """Answers probes in the loop that it is started in."""

    def __init__(self, listening: socket.socket, state: NodeState) -> None:
        self._socket = listening
        self._state = state
        self._scraping = asyncio.Lock()
        """One scrape at a time: each adds up the counts of all processes."""
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(
            self._answer, sock=self._socket, limit=MAX_HEAD_BYTES, backlog=MAX_PROBES
        )

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MAX_PROBES:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()  # a probe that is one was answered long ago
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            # Bytes alone, no parser: no header matters here, and a probe must cost nothing.
            method, _, rest = head.partition(b" ")
            path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
            answer = await self._answer_to(path) if method in (b"GET", b"HEAD") else _ABSENT
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                writer.write(_packed(answer, has_body=method != b"HEAD"))
                await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # it was no probe
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _answer_to(self, path: bytes) -> _Answer:
        if path == b"/healthz":
            return _ALIVE
        if path == b"/readyz":
            status, body = self._state.readyz()
            packed = json.dumps(body, separators=(",", ":")).encode()
            if status == 200:
                return _Answer("200 OK", packed)
            return _Answer("503 Service Unavailable", packed, more=f"Retry-After: {RETRY_AFTER_S}\r\n")
        if path == b"/metrics":
            async with self._scraping:
                return _Answer("200 OK", await asyncio.to_thread(self._state.metrics), METRICS_TYPE)
        return _ABSENT


def _packed(answer: _Answer, *, has_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\nServer: gate\r\nConnection: close\r\n"
        f"{answer.more}Content-Length: {len(answer.body)}\r\n\r\n"
    )
    return head.encode() + (answer.body if has_body else b"")
