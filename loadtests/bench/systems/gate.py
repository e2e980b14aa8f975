"""Gate: one hot worker's RESP port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.service import Credentials, GateService
from loadtests.bench.client import encode
from loadtests.bench.load import Target
from loadtests.bench.pairs import Pair
from loadtests.bench.systems import System


class GateSystem(System):
    """`GATE.CHECK` on a connection bound to the App that holds the facts."""

    def __init__(self, service: GateService, credentials: Credentials, name: str = "gate") -> None:
        """The App need not be the node's own first one: nodes on one store share their Apps."""
        self.name = name
        self._service = service
        self._credentials = credentials

    @property
    def target(self) -> Target:
        credentials = self._credentials
        greeting = encode("AUTH", credentials.app_key, credentials.app_secret)
        return Target(self._service.resp_port, self._service.pid, greeting, b"+OK\r\n")

    def commands(self, pair: Pair) -> list[bytes]:
        return [encode("GATE.CHECK", *pair)]

    def allowed(self, replies: Sequence[Any]) -> bool:
        return bool(replies[0] == 1)

    def many_request(self, sender: bytes, recipients: Sequence[bytes]) -> bytes:
        """One `GATE.MCHECK`."""
        return encode("GATE.MCHECK", sender, *recipients)
