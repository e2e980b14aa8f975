"""As little of an HTTP client as can be: one connection, requests made beforehand, answers read whole."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from harness.service import GateService
from loadtests.bench.client import RECEIVE_BYTES, Peer, connect

LENGTH = "content-length:"


def http_connection(node: GateService) -> socket.socket:
    parts = urlsplit(node.http)
    return connect(parts.hostname or "", parts.port or 80)


def read_answer(connection: socket.socket) -> tuple[str, bytes]:
    """The head (lower case) and the body of one answer."""
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(connection)
    head = answer[:end].decode().lower()
    length = next(int(line[len(LENGTH) :]) for line in head.split("\r\n") if line.startswith(LENGTH))
    body = answer[end + 4 :]
    while len(body) < length:
        body += _more(connection)
    return head, body


def _more(connection: socket.socket) -> bytes:
    chunk = connection.recv(RECEIVE_BYTES)
    if not chunk:
        raise Peer("the service closed the connection")
    return chunk
