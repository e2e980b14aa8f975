"""The two clocks, read in one place so that all other code takes time as an argument.

Bans and other ends are compared with the wall clock. Waits, leases and staleness use the monotonic clock, which on Linux is
one clock for all processes since boot (so one process can read a moment that another wrote).
"""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds since boot, the same clock in every process of this machine."""
    return time.monotonic_ns() // 1_000_000


def monotonic_us() -> int:
    """`monotonic_ms` in microseconds, for slices of work that are shorter than a millisecond."""
    return time.monotonic_ns() // 1_000
