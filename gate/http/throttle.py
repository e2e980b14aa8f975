"""Slows down whoever keeps getting passwords wrong: after a few failures each further one doubles the wait for the next try.

Counted twice: for a name at an address, which alone makes that name wait there, so that no operator is locked out from
elsewhere or by other names; and for an address whatever the name, which only puts it behind others (`operators`). On this
node alone, for a bounded number of both; the ones that failed longest ago are forgotten first. A wait also ends the
counting: after `FORGET_MS` without a failure it starts at zero.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.http.shared import FAILURES, Key, OwnTable, Table

FREE_FAILURES = 5
"""Of one name at one address: a person mistypes."""
FREE_FAILURES_AT_ADDRESS = 20
"""Of all names at one address: an office has several."""
FREE_FAILURES_AT_ALL = 100
"""Of all names and addresses: then many addresses guess together."""
FIRST_WAIT_MS = 1_000
MAX_WAIT_MS = 60_000
FORGET_MS = 15 * 60_000
MAX_NAME_CHARS = 64
"""Of a name that is remembered; nobody is called longer, and a header may be."""
IPV6_PREFIX_BITS = 64
"""What one customer of an access provider has at the least; counting single addresses would count nothing."""


_ANY = "\0"
"""In the place of a name or a network: all of them. No name or address is written so."""


class _Failures(NamedTuple):
    times: int
    last_at_ms: int


_NEVER = _Failures(0, 0)
_PACKED = struct.Struct("<qq")


class Throttle:
    """Remembers failures."""

    def __init__(self, now_ms: Callable[[], int] = monotonic_ms, failures: Table | None = None) -> None:
        """`failures` that other processes count in too; None: in this process alone."""
        self._now_ms = now_ms
        self._failures = OwnTable(FAILURES.slots) if failures is None else failures

    def wait_ms(self, name: str, address: str) -> int:
        """How long the next try must wait; 0 if it need not."""
        past = self._past(_key(name, _network(address)))
        over = past.times - FREE_FAILURES
        if over < 0:
            return 0
        wait_ms = min(FIRST_WAIT_MS << min(over, 16), MAX_WAIT_MS)
        return max(0, past.last_at_ms + wait_ms - self._now_ms())

    def has_failed(self, name: str, address: str) -> bool:
        """Whether this name has failed there, and not succeeded since."""
        return self._past(_key(name, _network(address))).times > 0

    def is_often_wrong(self, address: str) -> bool:
        """Whether so many tries of any names failed there, or on the node, that more are likely guesses."""
        return self._past(_key(_ANY, _network(address))).times >= FREE_FAILURES_AT_ADDRESS or (
            self._past(_key(_ANY, _ANY)).times >= FREE_FAILURES_AT_ALL
        )

    def failed(self, name: str, address: str) -> None:
        """A try failed."""
        network = _network(address)
        with self._failures.turn():
            for key in (_key(name, network), _key(_ANY, network), _key(_ANY, _ANY)):
                self._failures.put(key, _PACKED.pack(self._past(key).times + 1, self._now_ms()))

    def succeeded(self, name: str, address: str) -> None:
        """The name's own failures there count no more; the address's do, else any account would be a way to reset them."""
        key = _key(name, _network(address))
        if self._failures.get(key) is not None:
            with self._failures.turn():
                self._failures.pop(key)

    def _past(self, key: Key) -> _Failures:
        packed = self._failures.get(key)
        past = _NEVER if packed is None else _Failures(*_PACKED.unpack(packed))
        return past if self._now_ms() - past.last_at_ms < FORGET_MS else _NEVER


def _key(name: str, network: str) -> Key:
    return name[:MAX_NAME_CHARS], network


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket has none
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 128 - IPV6_PREFIX_BITS)
    return str(parsed)
