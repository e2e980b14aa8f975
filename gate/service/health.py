"""`--health HOST:PORT`: whether the service is alive, answered by the supervisor itself.

The HTTP port serves strangers, and a probe there waits with them; a container must not be killed, checks included, because
many came at once. Here nothing but `GET /healthz` is answered, whatever the roles do: a role that ends is restarted by the
supervisor, and `/readyz` names one that does not answer.
"""

from __future__ import annotations

import asyncio
import socket

MAX_PROBES = 64
"""Connections at a time; an orchestrator has one or two. Past it the oldest is closed, so that no newcomer is refused."""
MAX_HEAD_BYTES = 4_096
HEAD_WITHIN_S = 2.0

_HEADERS = (
    "Content-Type: application/json;charset=UTF-8\r\nServer: gate\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}"
)
_ALIVE, _ABSENT = '{"status":"ok"}', '{"error":"not-found","message":"there is only GET /healthz here"}'


class HealthPort:
    """Answers probes in the loop that it is started in."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
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
                writer.write(_answer_to(head))
                await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # it was no probe
        finally:
            self._open.pop(writer, None)
            writer.close()


def _answer_to(head: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
    is_alive = method in (b"GET", b"HEAD") and path == b"/healthz"
    body = _ALIVE if is_alive else _ABSENT
    shown = "" if method == b"HEAD" else body
    status = "200 OK" if is_alive else "404 Not Found"
    return (f"HTTP/1.1 {status}\r\n" + _HEADERS.format(len(body), shown)).encode()
