"""Slows down whoever keeps getting passwords wrong: after a few failures each further one doubles the wait for the next try.

Counted twice: for a name at an address, which alone makes that name wait there, so that no operator is locked out from
elsewhere or by other names; and for an address whatever the name, which only puts it behind others (`operators`). In this
process alone, for a bounded number of both; the ones that failed longest ago are forgotten first. A wait also ends the
counting: after `FORGET_MS` without a failure it starts at zero.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from gate.clock import monotonic_ms

FREE_FAILURES = 5
"""Of one name at one address: a person mistypes."""
FREE_FAILURES_AT_ADDRESS = 20
"""Of all names at one address: an office has several."""
FREE_FAILURES_AT_ALL = 100
"""Of all names and addresses: then many addresses guess together."""
FIRST_WAIT_MS = 1_000
MAX_WAIT_MS = 60_000
FORGET_MS = 15 * 60_000
MAX_REMEMBERED = 4_096
MAX_NAME_CHARS = 64
"""Of a name that is remembered; nobody is called longer, and a header may be."""
IPV6_PREFIX_BITS = 64
"""What one customer of an access provider has at the least; counting single addresses would count nothing."""


_ANY = "\0"
"""In the place of a name or a network: all of them. No name or address is written so."""


class _Failures(NamedTuple):
    times: int
    last_at_ms: int


class Throttle:
    """Remembers failures."""

    def __init__(self, now_ms: Callable[[], int] = monotonic_ms) -> None:
        self._now_ms = now_ms
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def wait_ms(self, name: str, address: str) -> int:
        """How long the next try must wait; 0 if it need not."""
        key = name[:MAX_NAME_CHARS], _network(address)
        over = self._count(key) - FREE_FAILURES
        if over < 0:
            return 0
        wait_ms = min(FIRST_WAIT_MS << min(over, 16), MAX_WAIT_MS)
        return max(0, self._failures[key].last_at_ms + wait_ms - self._now_ms())

    def has_failed(self, name: str, address: str) -> bool:
        """Whether this name has failed there, and not succeeded since."""
        return self._count((name[:MAX_NAME_CHARS], _network(address))) > 0

    def is_often_wrong(self, address: str) -> bool:
        """Whether so many tries of any names failed there, or in the process, that more are likely guesses."""
        return self._count((_ANY, _network(address))) >= FREE_FAILURES_AT_ADDRESS or (
            self._count((_ANY, _ANY)) >= FREE_FAILURES_AT_ALL
        )

    def failed(self, name: str, address: str) -> None:
        """A try failed."""
        network = _network(address)
        for key in ((name[:MAX_NAME_CHARS], network), (_ANY, network), (_ANY, _ANY)):
            self._failures[key] = _Failures(self._count(key) + 1, self._now_ms())
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """The name's own failures there count no more; the address's do, else any account would be a way to reset them."""
        self._failures.pop((name[:MAX_NAME_CHARS], _network(address)), None)

    def _count(self, key: tuple[str, str]) -> int:
        past = self._failures.get(key)
        if past is None or self._now_ms() - past.last_at_ms >= FORGET_MS:
            return 0
        return past.times


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket has none
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 128 - IPV6_PREFIX_BITS)
    return str(parsed)
