"""Waits for a condition with a deadline, so that no test sleeps for a guessed time.

A wait that fails names what it waited for. Both forms poll: the things waited for live in other processes.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

# Short against what is waited for (process starts, replication), long against the cost of one poll.
POLL_INTERVAL_S = 0.005

TIMER_EARLY_S = 0.005
"""A loop reads its clock once a turn, by the millisecond: its timers may be early by some of those."""


class NotInTime(AssertionError):
    """The condition did not come true before the deadline."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"waited {timeout_s:g} s for: {what}")


def wait_until(condition: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Polls until `condition()` is true, and returns its value. Raises NotInTime; what the condition raises passes."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        if outcome := condition():
            return outcome
        if time.monotonic() >= deadline_s:
            raise NotInTime(what, timeout_s)
        time.sleep(POLL_INTERVAL_S)


@overload
async def wait_until_async(condition: Callable[[], Awaitable[T | None]], timeout_s: float, what: str) -> T: ...
@overload
async def wait_until_async(condition: Callable[[], T | None], timeout_s: float, what: str) -> T: ...
async def wait_until_async(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """As `wait_until`, leaving the loop free between polls. The condition may be a coroutine function.

    The deadline holds for a condition that never returns, too.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                outcome = condition()
                settled = await outcome if inspect.isawaitable(outcome) else outcome
                if settled:
                    return settled
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise NotInTime(what, timeout_s) from None
