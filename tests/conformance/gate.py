"""One App of a live Gate, seen from outside: its address, its key and secret, and what became of what an SDK did."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from harness.service import GateService
from harness.signing import signature_headers
from tests.cli.command import Command

TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """What came back, down to the bytes."""

    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Gate:
    """The App. `url` is the only address that an SDK gets."""

    url: str
    key: str
    secret: str
    command: Command

    def replay(self, request: bytes, *, half_closing: bool = False) -> Answer:
        """These very bytes, on a connection of their own: no client library tidies them up."""
        at = urlsplit(self.url)
        with socket.create_connection((at.hostname or "", at.port or 0), TIMEOUT_S) as peer:
            peer.sendall(request)
            if half_closing:
                peer.shutdown(socket.SHUT_WR)
            reply = http.client.HTTPResponse(peer)
            reply.begin()
            return Answer(reply.status, reply.headers, reply.read())

    def user(self, path: str, **fields: str) -> Any:
        """A call that is made as the documents have it; it must succeed."""
        body = urlencode(fields).encode()
        headers = {**signature_headers(self.key, self.secret), "Host": "gate", "Content-Length": str(len(body))}
        answer = self.replay(request_bytes(f"/user/{path}.json", headers, body))
        assert answer.status == 200, answer
        return answer.body

    def verdict(self, sender: str, recipient: str) -> str:
        """What this Gate's checks say now."""
        basic = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
        path = f"/v1/check?from={quote(sender, safe='')}&to={quote(recipient, safe='')}"
        answer = self.replay(request_bytes(path, {"Host": "gate", "Authorization": f"Basic {basic}"}, method="GET"))
        assert answer.status == 200, answer
        word: str = answer.body["verdict"]
        return word

    def greets(self, token: str) -> bool:
        """Whether an end user gets in with this Token."""
        headers = {"Host": "gate", "Authorization": f"Bearer {token}"}
        answer = self.replay(request_bytes("/client/v1/blacklist", headers, method="GET"))
        assert answer.status in (200, 401, 403), answer
        return answer.status == 200


def request_bytes(path: str, headers: dict[str, str], body: bytes = b"", method: str = "POST") -> bytes:
    """A request with these headers, in this order, and no others."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def new_app(service: GateService, key: str, secret: str, environment: str) -> Gate:
    """A new App of this node, in effect."""
    command = Command(service.data)
    own = ("--key", key, "--secret", secret, "--short-secret")
    command("app", "create", "Conformance", *own, "--environment", environment)
    return Gate(service.http, key, secret, Command(service.data, key))
