"""Callers of a node: HTTP over one kept connection, RESP in pipelines, both as the first App.

Plain sockets and little code, because thousands of checks follow thousands of writes directly, and the tests share two cores
with the nodes. One object per thread.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import hiredis

from harness.ports import LOOPBACK
from harness.service import GateService

TIMEOUT_S = 10.0
"""Past every promise of the service: a call that takes this long hangs and fails the test."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer and its duration."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    ms: float

    @property
    def applied(self) -> str | None:
        """How far a write got; None for a refusal."""
        return self.headers.get("X-Gate-Applied")

    @property
    def revision(self) -> str:
        return self.headers["X-Gate-Revision"]


class Http:
    """One caller of a node's HTTP. A connection that the node closed is opened again, once: writes may be repeated."""

    def __init__(self, service: GateService, headers: Mapping[str, str] | None = None) -> None:
        one = service.credentials
        token = base64.b64encode(f"{one.app_key}:{one.app_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json", **(headers or {})}
        self._connection = http.client.HTTPConnection(service.http.removeprefix("http://"), timeout=TIMEOUT_S)

    def call(self, method: str, path: str, body: object = None) -> Answer:
        packed = None if body is None else json.dumps(body).encode()
        began_s = time.monotonic()
        try:
            response = self._exchange(method, path, packed)
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
            response = self._exchange(method, path, packed)
        content = response.read()
        ms = (time.monotonic() - began_s) * 1_000
        return Answer(response.status, json.loads(content), dict(response.headers), ms)

    def check(self, pair: Pair, minimum: str | None = None) -> dict[str, Any]:
        """The answer to one check, which must be 200."""
        query = {"from": pair[0], "to": pair[1]} | ({} if minimum is None else {"min": minimum})
        answer = self.call("GET", f"/v1/check?{urlencode(query, quote_via=quote)}")
        assert answer.status == 200, answer
        return answer.body

    def check_many(self, pairs: Sequence[Pair]) -> list[str]:
        answer = self.call("POST", "/v1/check", {"pairs": pairs})
        assert answer.status == 200, answer
        verdicts: list[str] = answer.body["verdicts"]
        return verdicts

    def ban(self, user: str) -> Answer:
        return self.call("POST", "/v1/bans", {"users": [user], "seconds": 86_400})

    def unban(self, user: str) -> Answer:
        return self.call("DELETE", "/v1/bans", {"users": [user]})

    def block(self, owner: str, member: str) -> Answer:
        return self.call("POST", "/v1/blacklist", {"owner": owner, "members": [member]})

    def unblock(self, owner: str, member: str) -> Answer:
        return self.call("DELETE", "/v1/blacklist", {"owner": owner, "members": [member]})

    def switch_whitelist(self, owner: str, on: bool) -> Answer:
        return self.call("PUT", "/v1/whitelist-switch", {"users": [owner], "on": on})

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, self._headers)
        return self._connection.getresponse()


class Resp:
    """One RESP connection, bound to the first App."""

    def __init__(self, service: GateService) -> None:
        self._reader = hiredis.Reader()
        self._socket = socket.create_connection((LOOPBACK, service.resp_port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = service.credentials
        assert self.ask("AUTH", one.app_key, one.app_secret) == b"OK"

    def ask(self, *command: str) -> Any:
        """One command's reply; an error reply is returned, not raised."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """Replies of one pipeline, in order."""
        # hiredis's stub requires a tuple of one; it accepts any.
        self._socket.sendall(b"".join(hiredis.pack_command(one) for one in commands))  # type: ignore[arg-type]  # the stub takes one word
        replies: list[Any] = []
        while len(replies) < len(commands):
            if (reply := self._reader.gets()) is not False:
                replies.append(reply)
            elif arrived := self._socket.recv(65_536):
                self._reader.feed(arrived)
            else:
                raise ConnectionError("the node closed the connection")
        return replies

    def explain(self, pair: Pair) -> dict[bytes, Any]:
        """RESP2 returns the map as alternating names and values."""
        flat = self.ask("GATE.EXPLAIN", *pair)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Resp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
