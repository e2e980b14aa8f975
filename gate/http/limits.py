"""The limiter: one token bucket for each App and limit, in this process alone.

A bucket holds a second's worth of calls, so a burst of that many passes at once. Limits are per node: with N nodes behind a
balancer an App may make up to N times its rate, and no call pays a round trip for being counted. A refused call takes from no
bucket. Buckets are forgotten the least recently used first, which is a full bucket at worst.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import ceil

from gate.clock import monotonic_ms
from gate.core.limits import ASKED_AT_ONCE, CLIENT_DEFAULTS, EACH_CLIENT, EACH_CLIENT_ASKED
from gate.core.model import AppFacts
from gate.errors import GateError

MAX_BUCKETS = 100_000
"""Some 25 MB. Only those of end users can come near: they have two a User."""


class RateExceeded(GateError):
    """Too many calls a second for the App's setting; nothing was done."""

    def __init__(self, name: str, rate: int, retry_after_s: int = 1) -> None:
        what = "Users a second" if name == EACH_CLIENT_ASKED else "calls a second"
        super().__init__(f"more than {rate} {what} of {name}, which is the App's limit on this node")
        self.retry_after_s = retry_after_s
        """By then there is room: for a call after a second, since a rate is at least one."""


class _Bucket:
    __slots__ = ("at_ms", "left")

    def __init__(self, left: float, at_ms: int) -> None:
        self.left = left
        self.at_ms = at_ms


class Limiter:
    """Counts calls against Apps' `rate_limits`."""

    def __init__(self, now_ms: Callable[[], int] = monotonic_ms) -> None:
        self._now_ms = now_ms
        self._buckets: OrderedDict[tuple[str, str, bytes], _Bucket] = OrderedDict()

    def spend(self, app: AppFacts, names: Iterable[str], user: bytes = b"") -> None:
        """Count one call that these limits cover, by this User if one calls. `RateExceeded` if one of them is used up."""
        limits = app.rate_limits
        if not limits and not user:
            return
        now_ms = self._now_ms()
        spent: list[_Bucket] = []
        for name in names:
            rate = limits.get(name) or CLIENT_DEFAULTS.get(name)
            if rate is not None:
                bucket = self._filled((app.key, name, user if name == EACH_CLIENT else b""), rate, now_ms)
                if bucket.left < 1:
                    raise RateExceeded(name, rate)
                spent.append(bucket)
        for bucket in spent:
            bucket.left -= 1

    def spend_asked(self, app: AppFacts, user: bytes, many: int) -> None:
        """Count a question of this User about so many Users. `RateExceeded` if that is more than is left."""
        rate = app.rate_limits.get(EACH_CLIENT_ASKED) or CLIENT_DEFAULTS[EACH_CLIENT_ASKED]
        bucket = self._filled((app.key, EACH_CLIENT_ASKED, user), rate, self._now_ms(), ASKED_AT_ONCE)
        missing = min(many, ASKED_AT_ONCE) - bucket.left
        if missing > 0:
            raise RateExceeded(EACH_CLIENT_ASKED, rate, ceil(missing / rate))
        bucket.left -= many

    def _filled(self, key: tuple[str, str, bytes], rate: int, now_ms: int, least_full: int = 0) -> _Bucket:
        """The bucket now; full, it holds a second's worth, or `least_full` if that is more."""
        bucket, full = self._buckets.get(key), max(rate, least_full)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(full, now_ms)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            # Less than a full second's worth where the rate was lowered meanwhile.
            bucket.left = min(full, bucket.left + (now_ms - bucket.at_ms) * rate / 1_000)
            bucket.at_ms = now_ms
        return bucket
