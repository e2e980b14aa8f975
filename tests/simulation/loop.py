"""An event loop on virtual time: if no task is ready to run, the clock moves to the next timer.

No task waits for a file descriptor: servers are called while the clock stands still (`network`). So a second of a lease costs
only the work in it. `looptime` patches a loop that may wait for real sockets; without them these few lines do.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import gate.clock

BEGINS_AT_S = 1_000_000
"""Far from 0, which means "never" on the status page."""
WALL_AHEAD_S = 1_790_000_000


class Stalled(RuntimeError):
    """No task can ever run again."""


class _Timers(selectors.BaseSelector):
    """Moves the clock where a real selector would wait."""

    def __init__(self) -> None:
        self.now_s: float = BEGINS_AT_S
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """Reads `gate.clock` as well, while it is open. `connect` makes the connections to unix sockets."""

    def __init__(self) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)
        self.connect: Callable[[Any, str], Any]
        self._real_time = time
        now = SimpleNamespace(monotonic_ns=self._now_ns, time_ns=lambda: self._now_ns() + WALL_AHEAD_S * 1_000_000_000)
        vars(gate.clock)["time"] = now

    def time(self) -> float:
        return self._timers.now_s

    def _now_ns(self) -> int:
        return int(self._timers.now_s * 1_000_000_000)

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        return await self.connect(protocol_factory, path)

    def close(self) -> None:
        vars(gate.clock)["time"] = self._real_time
        super().close()
