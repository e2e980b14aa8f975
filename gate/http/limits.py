"""The limiter: one token bucket for each App and limit, shared by the HTTP processes of the node.

A bucket holds a second's worth of calls, so a burst of that many passes at once. Limits are per node: with N nodes behind a
balancer an App may make up to N times its rate, and no call pays a round trip for being counted. A refused call takes from no
bucket. Buckets are forgotten the least recently used first, which is a full bucket at worst.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from math import ceil
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.core.limits import ASKED_AT_ONCE, CLIENT_DEFAULTS, EACH_CLIENT, EACH_CLIENT_ASKED
from gate.core.model import AppFacts
from gate.errors import GateError
from gate.http.shared import BUCKETS, Key, OwnTable, Table


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


_PACKED = struct.Struct("<dq")


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
        with self._buckets.turn():
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
                self._buckets.put(key, _PACKED.pack(bucket.left - 1, bucket.at_ms))

    def spend_asked(self, app: AppFacts, user: bytes, many: int) -> None:
        """Count a question of this User about so many Users. `RateExceeded` if that is more than is left."""
        rate = app.rate_limits.get(EACH_CLIENT_ASKED) or CLIENT_DEFAULTS[EACH_CLIENT_ASKED]
        key: Key = app.key, EACH_CLIENT_ASKED, user
        with self._buckets.turn():
            bucket = self._filled(key, rate, self._now_ms(), ASKED_AT_ONCE)
            missing = min(many, ASKED_AT_ONCE) - bucket.left
            if missing > 0:
                raise RateExceeded(EACH_CLIENT_ASKED, rate, ceil(missing / rate))
            self._buckets.put(key, _PACKED.pack(bucket.left - many, bucket.at_ms))

    def _filled(self, key: Key, rate: int, now_ms: int, least_full: int = 0) -> _Bucket:
        """The bucket now; full, it holds a second's worth, or `least_full` if that is more."""
        packed, full = self._buckets.get(key), max(rate, least_full)
        if packed is None:
            return _Bucket(full, now_ms)
        left, at_ms = _PACKED.unpack(packed)
        # Less than a full second's worth where the rate was lowered meanwhile.
        return _Bucket(min(full, left + (now_ms - at_ms) * rate / 1_000), now_ms)
