"""One supervised process: started, watched, restarted when it dies, stopped on request.

The first restart comes at once, since most deaths are single; a process that keeps dying young backs off to five seconds, with
jitter so that several do not come back in step. Before it was ever ready, a reason it gives, or several young deaths in a row,
end the whole start: a service that can't start should say so and go. Each `Child` is one task of the supervisor's.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

from gate.clock import monotonic_ms
from gate.errors import CannotStart, GateError

FIRST_RESTART_MS = 50
SLOWEST_RESTART_MS = 5_000
# A life shorter than this counts towards backing off, and so does every one in which it was never ready.
YOUNG_MS = 5_000
# This many before the whole service was ever ready: the start has failed.
YOUNG_DEATHS_AT_START = 4
# Or this many deaths at any age, as where memory does for all processes but one.
DEATHS_AT_START = 8


def backoff_ms(young_deaths: int, jitter: float) -> int:
    """The wait before a restart; `jitter` from 0 to 1 adds up to a half."""
    # Ten doublings pass the slowest wait long before; without the bound the shift would grow with each death.
    doubled = FIRST_RESTART_MS << max(0, min(young_deaths - 1, 10))
    return int(min(doubled, SLOWEST_RESTART_MS) * (1 + jitter / 2))


class Watch:
    """How the supervisor looks at its children: when to look again, and which failure at the start it excuses."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.has_started = False
        """The service was ready, or serves checks: no failure of a child ends it any more."""
        self.redis_was_reached = False
        """By one of them: a start goes on waiting for it, also without a Replica."""
        self.excuses: Callable[[Child], bool] = lambda _: False


class Child(ABC):
    """What every supervised process has in common; how it is started and when it is ready are its subclass's."""

    def __init__(self, name: str, role: str, on_restart: Callable[[str], None], watch: Watch | None = None) -> None:
        self.name = name
        self.role = role
        self.waits_for = ""
        """What keeps it from its work; "" for nothing."""
        self.has_opened = False
        """The replicator alone: it has looked at the Replica on disk."""
        self.ready = asyncio.Event()
        self.was_ready = False
        self.failed: asyncio.Future[GateError] = asyncio.get_running_loop().create_future()
        self._on_restart = on_restart
        self.watch = watch or Watch()
        self.process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it and keep it running until `stop`."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    @property
    def is_running(self) -> bool:
        """Whether a process exists now."""
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int | None:
        """Of the present or last process."""
        return None if self.process is None else self.process.pid

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`; returns when it is gone."""
        self._stopping.set()
        self.send_signal(signal.SIGTERM)
        if self._keeper is None:
            return
        try:
            # Shielded: the deadline must not cancel the task that reaps the process and lets no other one start.
            await asyncio.wait_for(asyncio.shield(self._keeper), timeout_s)
        except TimeoutError:
            _warn("killed: it did not stop in time", process=self.name, timeout_s=round(timeout_s, 1))
            self.kill()
            await self._keeper

    def kill(self) -> None:
        """SIGKILL, and no restart."""
        self._stopping.set()
        self.send_signal(signal.SIGKILL)

    def declare_ready(self) -> None:
        """The process does its work."""
        self.was_ready = True
        self.wait_for("")
        self.ready.set()

    def wait_for(self, problem: str) -> None:
        """It can't do its work before this is over; "" once it is."""
        if problem != self.waits_for:
            self.waits_for = problem
            self.watch.changed.set()

    def fail(self, fault: GateError) -> None:
        """The start of the service can't succeed for this reason. Once it has, or is excused, the reason is waited out."""
        if self.watch.has_started or self.watch.excuses(self):
            self.wait_for(str(fault))
        elif not self.failed.done():
            self.failed.set_result(fault)

    @abstractmethod
    async def launch(self) -> asyncio.subprocess.Process:
        """Start the process. `CannotStart` if that is impossible."""

    @abstractmethod
    async def attend(self, process: asyncio.subprocess.Process) -> None:
        """Look after it while it lives: talk to it, see when it is ready. Cancelled when it dies."""

    @abstractmethod
    def on_death(self) -> None:
        """It died: whatever was shown of it no longer holds."""

    def death_note(self) -> str:
        """What its own log last said, if it has one."""
        return ""

    async def _keep(self) -> None:
        young_deaths = deaths = 0
        while not self._stopping.is_set():
            started_ms = monotonic_ms()
            status = await self._live_once()
            self.ready.clear()
            self.on_death()
            if self._stopping.is_set() or self.failed.done():
                return
            is_young = monotonic_ms() - started_ms < YOUNG_MS or not self.was_ready
            # One that lived long enough begins to count again: most deaths are single.
            young_deaths, deaths = young_deaths + 1 if is_young else 1, deaths + 1
            is_too_much = young_deaths >= YOUNG_DEATHS_AT_START or deaths >= DEATHS_AT_START
            if is_too_much and not self.watch.has_started:
                self.fail(CannotStart(f"{self.name} keeps ending at its start ({status}){self._noted()}"))
                if self.failed.done():
                    return
            await self._pause_before_restart(status, young_deaths)

    async def _live_once(self) -> str:
        try:
            process = self.process = await self.launch()
        except (OSError, RuntimeError) as fault:  # no memory, process, file or thread to be had: later there may be
            return str(fault)
        if self._stopping.is_set():  # the stop was requested while it was being started
            _send(process.pid, signal.SIGTERM)
        attending = asyncio.create_task(self.attend(process), name=f"attend {self.name}")
        status = await process.wait()
        attending.cancel()
        # The channel of a process that died may fail in any way; its end was noticed already.
        await asyncio.gather(attending, return_exceptions=True)
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    async def _pause_before_restart(self, status: str, young_deaths: int) -> None:
        wait_ms = backoff_ms(young_deaths, random.random())
        why = {"problem": self.waits_for} if self.waits_for else {}
        _warn("died; restarting", process=self.name, how=status, restart_in_ms=wait_ms, **why)
        self._on_restart(self.role)
        try:
            await asyncio.wait_for(self._stopping.wait(), wait_ms / 1000)
        except TimeoutError:
            return

    def _noted(self) -> str:
        note = self.death_note()
        return f": {note}" if note else ""

    def send_signal(self, number: signal.Signals) -> None:
        """To the process, if it runs."""
        if self.process is not None and self.process.returncode is None:
            _send(self.process.pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    """`Popen.send_signal` polls for an exit first, and so takes the exit status away from the task that waits for it."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _warn(event: str, **fields: object) -> None:
    import structlog  # late: it costs a tenth of a second that every process's start would wait for

    structlog.get_logger().warning(event, **fields)
