"""Gate: one hot worker's RESP port."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from loadtests.bench.client import ask, connect, encode
from loadtests.bench.pairs import Pair
from tests.harness.ports import LOOPBACK
from tests.harness.service import Credentials, GateService


class GateSystem:
    """`GATE.CHECK` on a connection bound to the App that holds the facts."""

    name = "gate"
    replies_a_check = 1

    def __init__(self, service: GateService, credentials: Credentials) -> None:
        """The App need not be the node's own first one: nodes on one store share their Apps."""
        self._service = service
        self._credentials = credentials

    def connect(self) -> socket.socket:
        connection = connect(LOOPBACK, self._service.resp_port)
        credentials = self._credentials
        ask(connection, encode("AUTH", credentials.app_key, credentials.app_secret), 1)
        return connection

    def request(self, pair: Pair) -> bytes:
        return encode("GATE.CHECK", *pair)

    def allowed(self, replies: Sequence[Any]) -> bool:
        return bool(replies[0] == 1)

    def many_request(self, sender: bytes, recipients: Sequence[bytes]) -> bytes:
        """One `GATE.MCHECK`."""
        return encode("GATE.MCHECK", sender, *recipients)
