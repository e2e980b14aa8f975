"""The two clocks, read in one place so that everything else takes time as an argument.

Bans and other ends compare with the wall clock; waits, leases and staleness with the monotonic one, which on Linux is one
clock for every process since boot (so a moment written by one process can be read by another).
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
    """`monotonic_ms` a thousand times finer, for slices of work that are shorter than a millisecond."""
    return time.monotonic_ns() // 1_000
