"""Carries out a schedule of faults against a site, each in a thread of its own, and notes them in the log."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import redis

from harness.servers import StartFailed
from harness.waiting import NotInTime
from loadtests.chaos.deployment import Deployment
from loadtests.chaos.faults import Scene, Skipped, Table
from loadtests.chaos.healing import Healing
from loadtests.chaos.ledger import Ledger
from loadtests.chaos.schedule import Planned, PlannedStorm

TICK_S = 0.2
FAILURES = (redis.RedisError, NotInTime, StartFailed, OSError)
"""Of what a fault does to a server that another fault is at."""
NEVER_STARTED_S = 40.0
"""A node whose file was spoilt or removed has nothing to start from while Redis is away."""


class OnLoop:
    """The ledger as a fault's thread may use it: each call is made on the loop, and waited for."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self._loop = loop

    def losing(self, kept: tuple[float, float] | None) -> None:
        self._call(lambda: self._ledger.losing(kept))

    def lost(self) -> None:
        self._call(self._ledger.lost)

    def _call(self, step: Callable[[], None]) -> None:
        async def stepped() -> None:
            step()

        asyncio.run_coroutine_threadsafe(stepped(), self._loop).result(30)


class Storm:
    """One run's faults."""

    def __init__(self, site: Deployment, ledger: Ledger, healing: Healing, faults: Table) -> None:
        self._site = site
        self._ledger = ledger
        self._healing = healing
        self._faults = faults
        self.carried_out: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._turns: defaultdict[tuple[str, int | None], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def blow(self, planned: PlannedStorm) -> None:
        """All its faults, each at its moment; ends when the last one is over."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(planned.lasts_s))
            for one in planned.faults:
                group.create_task(self._carry_out(one, began_s + one.at_s))

    async def watch(self, ending: asyncio.Event) -> None:
        """Closes writes that can't land any more, and starts nodes again that ended by themselves."""
        while not ending.is_set():
            self._ledger.tick()
            for node in await asyncio.to_thread(self._site.keep_running):
                self._ended_by_itself(node.number)
            await asyncio.sleep(TICK_S)

    async def _carry_out(self, planned: Planned, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        # A fault may have taken longer than the schedule has it; the next one of its domain waits for it.
        async with self._turns[self._faults[planned.name][0].domain, planned.node]:
            await self._strike(planned)

    async def _strike(self, planned: Planned) -> None:
        ledger = OnLoop(self._ledger, asyncio.get_running_loop())
        act = self._faults[planned.name][1](Scene(self._site, ledger, random.Random(planned.draw), planned))
        fault = self._ledger.faults.begin(planned.name, planned.node, time.monotonic())
        try:
            fault.detail = await asyncio.to_thread(_begin, act)
            self.carried_out[planned.name] += 1
            await asyncio.sleep(planned.lasts_s)
        except Skipped as why:
            fault.detail = f"skipped: {why}"
            self.skipped[f"{planned.name}: {why}"] += 1
        except FAILURES as failure:
            # Another fault may be at the same server just now.
            fault.detail = f"failed: {failure!r}"
            self.skipped[f"{planned.name}: {type(failure).__name__}"] += 1
        finally:
            fault.detail += await asyncio.to_thread(_end, act)
            if self._ledger.is_doubtful and planned.name.startswith("Redis"):
                self._ledger.lost()
            fault.ended_s = time.monotonic()
            self._healing.over(fault)

    def _ended_by_itself(self, node: int) -> None:
        now_s = time.monotonic()
        excuses = [one.name for one in self._ledger.faults.active(node, now_s - NEVER_STARTED_S, now_s)]
        self._ledger.counts["nodes that ended by themselves"] += 1
        has_no_start = any(name.startswith("facts") for name in excuses) and any(
            name.startswith(("Redis", "Sentinel", "all cables")) for name in excuses
        )
        if not has_no_start and not any(name.startswith(("disk of a node", "facts spoilt")) for name in excuses):
            self._ledger.broken("a node ended by itself", f"node {node}: {_last_words(self._site, node)}")


def _begin(act: Iterator[str]) -> str:
    return next(act, "")


def _end(act: Iterator[str]) -> str:
    try:
        next(act, None)
    except FAILURES as failure:
        return f" mended with {failure!r}"
    return ""


def _last_words(site: Deployment, node: int) -> str:
    printed = site.nodes[node].running.output_path.read_text(errors="replace").splitlines()
    return " | ".join(line for line in printed[-12:] if "ready" not in line)[-600:]
