"""What is counted against bounds: the calls of an App, and wrong passwords. The HTTP processes of a node count together.

Counts are in a `Table`: of one process alone (`OwnTable`), or in memory that several share (`shared.SharedTable`).

The limiter has a token bucket for each App and limit. A bucket holds a second's worth of calls, so a burst of that many passes
at once. Limits are per node: with N nodes behind a balancer an App may make up to N times its rate, and no call pays a round
trip for being counted. A refused call takes from no bucket. Buckets are forgotten the least recently used first, which is a
full bucket at worst.

The throttle protects password verification: failures make further tries wait, and those who wait are served in lanes. Failures
are counted twice: for a name at an address, which alone makes that name wait there, so that no operator is locked out from
elsewhere or by other names; and for an address whatever the name, which only puts it behind others (`operators`). On this node
alone, for a bounded number of both; the ones that failed longest ago are forgotten first. A wait also ends the counting: after
`FORGET_MS` without a failure it starts at zero.

A lane is served when those before it are empty, and the last one at a pace of its own, so that a flood there leaves the
processor to others. Each lane has a bounded room and each wait a deadline: past them, `LanesFull`.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.core.limits import ASKED_AT_ONCE, CLIENT_DEFAULTS, EACH_CLIENT, EACH_CLIENT_ASKED
from gate.core.model import AppFacts
from gate.errors import GateError

Key = tuple[str | bytes, ...]

# Of one name at one address: a person mistypes.
FREE_FAILURES = 5
# Of all names at one address: an office has several.
FREE_FAILURES_AT_ADDRESS = 20
# Of all names and addresses: then many addresses guess together.
FREE_FAILURES_AT_ALL = 100
FIRST_WAIT_MS = 1_000
MAX_WAIT_MS = 60_000
FORGET_MS = 15 * 60_000
# Of a name that is remembered; no operator's name is longer, and a header may be.
MAX_NAME_CHARS = 64
# What one customer of an access provider has at the least; counting single addresses would count nothing.
IPV6_PREFIX_BITS = 64


# In the place of a name or a network: all of them. No name or address is written so.
_ANY = "\0"


class Sizes(NamedTuple):
    """Of one table."""

    slots: int
    value_bytes: int


# 5.5 MB once all are in use. Only buckets of end users can come near: they have two a User.
BUCKETS = Sizes(1 << 17, 16)
FAILURES = Sizes(1 << 12, 16)

_NO_WAIT = nullcontext()


class Table(ABC):
    """Short values under keys."""

    get: Callable[[Key], bytes | None]
    """Returns the value, or None."""

    @abstractmethod
    def put(self, key: Key, value: bytes) -> None:
        """Write it, in the place of another key's if there is no room."""

    @abstractmethod
    def pop(self, key: Key) -> None:
        """Forget it, if it is there."""

    turn: AbstractContextManager[object] = _NO_WAIT
    """`with table.turn`: a block during which no other process writes. It must not await."""


class OwnTable(Table):
    """Of one process alone."""

    def __init__(self, most: int) -> None:
        self._values: OrderedDict[Key, bytes] = OrderedDict()
        self._most = most
        # Without a step of Python: each call of a client asks.
        self.get = self._values.get

    def put(self, key: Key, value: bytes) -> None:
        """As the base says."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def pop(self, key: Key) -> None:
        """As the base says."""
        self._values.pop(key, None)


class RateExceeded(GateError):
    """Too many calls a second for the App's setting; nothing was done."""

    def __init__(self, name: str, rate: int, retry_after_s: int = 1) -> None:
        what = "Users a second" if name == EACH_CLIENT_ASKED else "calls a second"
        super().__init__(f"more than {rate} {what} of {name}, which is the App's limit on this node")
        self.retry_after_s = retry_after_s
        """By then there is room: for a call after a second, since a rate is at least one."""


class _Bucket(NamedTuple):
    left: float
    at_ms: int


_BUCKET = struct.Struct("<dq")


class Limiter:
    """Counts calls against Apps' `rate_limits`."""

    def __init__(self, now_ms: Callable[[], int] = monotonic_ms, buckets: Table | None = None) -> None:
        """`buckets` that other processes count in too; None: in this process alone."""
        self._now_ms = now_ms
        self._buckets = OwnTable(BUCKETS.slots) if buckets is None else buckets

    def spend(self, app: AppFacts, names: Iterable[str], user: bytes = b"") -> None:
        """Count one call that these limits cover, by this User if one calls. `RateExceeded` if one of them is used up.

        Most Apps have no limits: callers without a User look at `rate_limits` first.
        """
        limits = app.rate_limits
        with self._buckets.turn:
            now_ms = self._now_ms()
            spent: list[tuple[Key, _Bucket]] = []
            for name in names:
                rate = limits.get(name) or CLIENT_DEFAULTS.get(name)
                if rate is not None:
                    key: Key = app.key, name, user if name == EACH_CLIENT else b""
                    bucket = self._filled(key, rate, now_ms)
                    if bucket.left < 1:
                        raise RateExceeded(name, rate)
                    spent.append((key, bucket))
            for key, bucket in spent:
                self._buckets.put(key, _BUCKET.pack(bucket.left - 1, bucket.at_ms))

    def spend_asked(self, app: AppFacts, user: bytes, many: int) -> None:
        """Count a question of this User about so many Users. `RateExceeded` if that is more than is left."""
        rate = app.rate_limits.get(EACH_CLIENT_ASKED) or CLIENT_DEFAULTS[EACH_CLIENT_ASKED]
        key: Key = app.key, EACH_CLIENT_ASKED, user
        with self._buckets.turn:
            bucket = self._filled(key, rate, self._now_ms(), ASKED_AT_ONCE)
            missing = min(many, ASKED_AT_ONCE) - bucket.left
            if missing > 0:
                raise RateExceeded(EACH_CLIENT_ASKED, rate, ceil(missing / rate))
            self._buckets.put(key, _BUCKET.pack(bucket.left - many, bucket.at_ms))

    def _filled(self, key: Key, rate: int, now_ms: int, least_full: int = 0) -> _Bucket:
        """The bucket now; full, it holds a second's worth, or `least_full` if that is more."""
        packed, full = self._buckets.get(key), max(rate, least_full)
        if packed is None:
            return _Bucket(full, now_ms)
        left, at_ms = _BUCKET.unpack(packed)
        # Less than a full second's worth where the rate was lowered meanwhile.
        return _Bucket(min(full, left + (now_ms - at_ms) * rate / 1_000), now_ms)


# Wrong passwords


class _Failures(NamedTuple):
    times: int
    last_at_ms: int


_NEVER = _Failures(0, 0)
_FAILED = struct.Struct("<qq")


class Throttle:
    """Remembers failures."""

    def __init__(self, now_ms: Callable[[], int] = monotonic_ms, failures: Table | None = None) -> None:
        """`failures` that other processes count in too; None: in this process alone."""
        self._now_ms = now_ms
        self._failures = OwnTable(FAILURES.slots) if failures is None else failures

    def wait_ms(self, name: str, address: str) -> int:
        """How long the next try must wait; 0 if it need not."""
        past = self._past(_key(name, network_of(address)))
        over = past.times - FREE_FAILURES
        if over < 0:
            return 0
        wait_ms = min(FIRST_WAIT_MS << min(over, 16), MAX_WAIT_MS)
        return max(0, past.last_at_ms + wait_ms - self._now_ms())

    def has_failed(self, name: str, address: str) -> bool:
        """Whether this name has failed there, and not succeeded since."""
        return self._past(_key(name, network_of(address))).times > 0

    def is_often_wrong(self, address: str) -> bool:
        """Whether so many tries of any names failed there, or on the node, that more are likely guesses."""
        return self._past(_key(_ANY, network_of(address))).times >= FREE_FAILURES_AT_ADDRESS or (
            self._past(_key(_ANY, _ANY)).times >= FREE_FAILURES_AT_ALL
        )

    def failed(self, name: str, address: str) -> None:
        """A try failed."""
        network = network_of(address)
        with self._failures.turn:
            for key in (_key(name, network), _key(_ANY, network), _key(_ANY, _ANY)):
                self._failures.put(key, _FAILED.pack(self._past(key).times + 1, self._now_ms()))

    def succeeded(self, name: str, address: str) -> None:
        """The name's own failures there count no more; the address's do, else any account would be a way to reset them."""
        key = _key(name, network_of(address))
        if self._failures.get(key) is not None:
            with self._failures.turn:
                self._failures.pop(key)

    def _past(self, key: Key) -> _Failures:
        packed = self._failures.get(key)
        past = _NEVER if packed is None else _Failures(*_FAILED.unpack(packed))
        return past if self._now_ms() - past.last_at_ms < FORGET_MS else _NEVER


def _key(name: str, network: str) -> Key:
    return name[:MAX_NAME_CHARS], network


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket has none
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 128 - IPV6_PREFIX_BITS)
    return str(parsed)


# Of each lane but the last: some two seconds' worth of password verifications.
ROOM = 64
LAST_ROOM = 32
# Between the end of one turn of the last lane and the next: a tenth of a processor's time for verifications. Times the number
# of processes that have such lanes.
LAST_EVERY_S = 0.25
WAIT_S = 20.0


class LanesFull(GateError):
    """Too many wait in this lane, or it was not served in time."""


class Lanes:
    """Lane 0 is served first."""

    def __init__(self, lanes: int, processes: int = 1) -> None:
        self._last_every_s = LAST_EVERY_S * processes
        self._waiting: list[deque[asyncio.Future[None]]] = [deque() for _ in range(lanes)]
        self._is_busy = False
        self._last_from_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, lane: int) -> AsyncIterator[None]:
        """This lane's turn, for as long as the block lasts."""
        await self._admitted(lane)
        try:
            yield
        finally:
            self._end(lane)

    async def _admitted(self, lane: int) -> None:
        waiting = self._waiting[lane]
        if len(waiting) >= (LAST_ROOM if self._is_last(lane) else ROOM):
            raise LanesFull
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        self._go_on()
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as fault:
            if turn.done() and not turn.cancelled():  # it came together with the deadline
                self._end(lane)
            elif turn in waiting:
                waiting.remove(turn)
            if isinstance(fault, TimeoutError):
                raise LanesFull from None
            raise

    def _end(self, lane: int) -> None:
        self._is_busy = False
        if self._is_last(lane):
            self._last_from_s = asyncio.get_running_loop().time() + self._last_every_s
        self._go_on()

    def _go_on(self) -> None:
        for lane, waiting in enumerate(self._waiting):
            while waiting and not self._is_busy:
                if self._is_last(lane) and self._must_wait():
                    return
                turn = waiting.popleft()
                if not turn.done():
                    self._is_busy = True
                    turn.set_result(None)

    def _must_wait(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._last_from_s:
            return False
        if self._timer is None:
            self._timer = loop.call_at(self._last_from_s, self._wake)
        return True

    def _wake(self) -> None:
        self._timer = None
        self._last_from_s = min(self._last_from_s, asyncio.get_running_loop().time())
        self._go_on()

    def _is_last(self, lane: int) -> bool:
        return lane == len(self._waiting) - 1
