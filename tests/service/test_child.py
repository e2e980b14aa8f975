"""A supervised process: restarted when it dies, at once the first time, then ever later; a failed start says why."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from gate.errors import CannotStart
from gate.service.child import FIRST_RESTART_MS, SLOWEST_RESTART_MS, YOUNG_DEATHS_AT_START, Child, backoff_ms
from harness.waiting import wait_until_async

STAYS = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class PythonChild(Child):
    """Runs a line of Python; ready once it has printed something."""

    def __init__(self, code: str) -> None:
        self.restarts = 0
        self.launches = 0
        self.code = code
        super().__init__("child", "tester", self.count)

    def count(self, role: str) -> None:
        self.restarts += 1

    async def launch(self) -> asyncio.subprocess.Process:
        self.launches += 1
        return await asyncio.create_subprocess_exec(sys.executable, "-c", self.code, stdout=asyncio.subprocess.PIPE)

    async def attend(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        if await process.stdout.readline():
            self.declare_ready()
        await asyncio.Event().wait()

    def on_death(self) -> None:
        pass


def test_backing_off_doubles_from_at_once_to_a_ceiling() -> None:
    assert backoff_ms(1, 0.0) == FIRST_RESTART_MS
    waits = [backoff_ms(deaths, 0.0) for deaths in range(1, 20)]
    assert waits == sorted(waits)
    assert waits[-1] == SLOWEST_RESTART_MS
    assert backoff_ms(10**6, 1.0) == SLOWEST_RESTART_MS * 1.5


async def test_one_that_dies_is_restarted_and_counted() -> None:
    child = PythonChild(f"print('up', flush=True); {STAYS}")
    child.start()
    await asyncio.wait_for(child.ready.wait(), 10)
    first = child.pid
    child.process.kill()  # type: ignore[union-attr]
    await wait_until_async(lambda: child.pid != first and child.ready.is_set(), 10, "another process, ready")
    assert child.restarts == 1
    await child.stop(5)
    assert not child.is_running
    assert child.launches == 2


async def test_one_that_ignores_sigterm_is_killed_in_time() -> None:
    child = PythonChild(STUBBORN)
    child.start()
    await asyncio.wait_for(child.ready.wait(), 10)
    await asyncio.wait_for(child.stop(0.1), 5)
    assert not child.is_running


async def test_one_that_never_comes_up_fails_the_start_and_is_not_tried_for_ever() -> None:
    child = PythonChild("raise SystemExit(3)")
    child.start()
    fault = await asyncio.wait_for(child.failed, 20)
    assert isinstance(fault, CannotStart)
    assert "exit status 3" in str(fault)
    assert child.launches == YOUNG_DEATHS_AT_START
    await child.stop(1)


async def test_a_role_that_dies_repeatedly_fails_the_start_though_ready_once() -> None:
    child = PythonChild("print('up', flush=True); raise SystemExit(9)")
    child.start()
    fault = await asyncio.wait_for(child.failed, 20)
    assert "exit status 9" in str(fault)
    await child.stop(1)


async def test_one_that_dies_again_and_again_does_not_end_a_service_that_runs() -> None:
    child = PythonChild("print('up', flush=True); raise SystemExit(9)")
    child.watch.has_started = True
    child.start()
    await wait_until_async(lambda: child.launches > YOUNG_DEATHS_AT_START, 20, "another restart")
    assert not child.failed.done()
    await child.stop(1)


async def test_a_reason_given_before_it_was_ready_ends_the_start_at_once() -> None:
    child = PythonChild(STAYS)
    child.start()
    await wait_until_async(lambda: child.is_running, 10, "the process")
    child.fail(CannotStart("no Redis there"))
    with pytest.raises(CannotStart, match="no Redis there"):
        raise await child.failed
    await child.stop(5)
    assert (child.launches, child.restarts) == (1, 0)


async def test_a_signal_to_one_that_just_ended_takes_no_exit_status_away(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise a failed start prints a second line before the service's own, and the exit is reported with a wrong status."""
    for _ in range(40):
        child = PythonChild("")
        process = child.process = await asyncio.create_subprocess_exec("/bin/true")
        while process.returncode is None:
            child.send_signal(signal.SIGCONT)
            await asyncio.sleep(0)
        assert process.returncode == 0
    assert not [record for record in caplog.records if record.name == "asyncio"]
