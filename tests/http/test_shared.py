"""What HTTP processes of one node share: the table by itself, then several processes on one memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gate.core.model import AppFacts
from gate.http.limits import BUCKETS, FAILURES, FREE_FAILURES, Limiter, OwnTable, Table, Throttle
from gate.http.shared import (
    HEADER_BYTES,
    RECALLED,
    VERIFYING_LOOK_EVERY_S,
    WAYS,
    Shared,
    make_shared_memory,
)

HERE = "192.0.2.1"
PROCESSES, TRIES = 3, 4_000
SPENDING = """
import sys
from gate.core.model import AppFacts
from gate.http.limits import Limiter, RateExceeded
from gate.http.shared import Shared
limiter = Limiter(lambda: 1_000, Shared(int(sys.argv[1]), 3).buckets)
facts, passed = AppFacts(key="app", secrets=("s",), rate_limits={"user": 5_000}), 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    try:
        limiter.spend(facts, ["user"])
        passed += 1
    except RateExceeded:
        pass
print(passed)
"""
HOLDING = """
import sys
from gate.http.shared import Shared
with Shared(int(sys.argv[1]), 2).buckets.turn:
    print("ready", flush=True)
    sys.stdin.readline()
"""
VERIFYING = """
import asyncio, sys
from gate.http.shared import Shared
async def verify():
    async with Shared(int(sys.argv[1]), 2).verifying():
        print("ready", flush=True)
        sys.stdin.readline()
asyncio.run(verify())
"""


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_shared_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["own", "shared"])
def table(request: pytest.FixtureRequest, memory: int) -> Table:
    return OwnTable(BUCKETS.slots) if request.param == "own" else Shared(memory, 2).buckets


def started(code: str, memory: int, *arguments: str) -> subprocess.Popen[str]:
    """A process that has the memory, once it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(memory), *arguments],
        pass_fds=(memory,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_was_put_is_found_until_it_is_popped(table: Table) -> None:
    for number in range(500):
        table.put((b"key", b"%d" % number), b"value %d" % number)
    assert [table.get((b"key", b"%d" % number)) for number in range(500)] == [b"value %d" % n for n in range(500)]
    table.put((b"key", b"7"), b"")
    table.pop((b"key", b"8"))
    table.pop((b"never", b"there"))
    assert (table.get((b"key", b"7")), table.get((b"key", b"8"))) == (b"", None)


def test_parts_of_a_key_do_not_run_together(table: Table) -> None:
    table.put((b"ab", b"c"), b"1")
    assert (table.get((b"a", b"bc")), table.get((b"ab", b"c", b"")), table.get((b"abc",))) == (None, None, None)


@pytest.mark.slow
def test_a_full_set_forgets_the_one_written_longest_ago(memory: int) -> None:
    table = Shared(memory, 2).failures
    many = 4 * FAILURES.slots
    for number in range(many):
        table.put((b"%d" % number,), b"x")
    kept = [number for number in range(many) if table.get((b"%d" % number,)) is not None]
    assert len(kept) <= FAILURES.slots
    assert len(kept) > FAILURES.slots * 0.8
    # A key outlives the next writes but for those of its own set: far fewer than the last eighth of all slots.
    assert set(range(many - FAILURES.slots // WAYS, many)) <= set(kept)


def test_a_value_that_is_too_long_changes_nothing(memory: int) -> None:
    table = Shared(memory, 2).recalled
    table.put((b"a",), b"x" * RECALLED.value_bytes)
    table.put((b"b",), b"x" * (RECALLED.value_bytes + 1))
    assert (table.get((b"a",)), table.get((b"b",))) == (b"x" * RECALLED.value_bytes, None)


def test_tables_and_nodes_do_not_mix(memory: int) -> None:
    shared, other = Shared(memory, 2), make_shared_memory()
    try:
        shared.buckets.put((b"a",), b"x")
        assert [table.get((b"a",)) for table in (shared.failures, shared.signed_out, shared.recalled)] == [None] * 3
        assert Shared(other, 2).buckets.get((b"a",)) is None
        assert os.pread(memory, HEADER_BYTES, 0) != os.pread(other, HEADER_BYTES, 0), "the key of the hash is a secret"
    finally:
        os.close(other)


@pytest.mark.slow
def test_a_limit_is_one_for_all_processes(memory: int) -> None:
    spending = [started(SPENDING, memory, str(TRIES)) for _ in range(PROCESSES)]
    for one in spending:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    passed = [int(one.communicate(timeout=60)[0]) for one in spending]
    assert sum(passed) == 5_000
    assert min(passed) > 0


def test_failures_count_together_and_one_success_clears_them(memory: int) -> None:
    doors = [Throttle(lambda: 1_000, Shared(memory, 2).failures) for _ in range(2)]
    for number in range(FREE_FAILURES):
        assert doors[1].wait_ms("ann", HERE) == 0
        doors[number % 2].failed("ann", HERE)
    assert [door.wait_ms("ann", HERE) for door in doors] == [1_000, 1_000]
    doors[0].succeeded("ann", HERE)
    assert [door.has_failed("ann", HERE) for door in doors] == [False, False]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_ends_or_hangs_in_its_turn_holds_up_no_other(memory: int, number: signal.Signals) -> None:
    holding = started(HOLDING, memory)
    try:
        os.kill(holding.pid, number)
        if number == signal.SIGKILL:
            holding.wait(10)
        limiter = Limiter(lambda: 1_000, Shared(memory, 2).buckets)
        facts = AppFacts(key="app", secrets=("s",), rate_limits={"user": 100})
        began_s = time.monotonic()
        for _ in range(100):
            limiter.spend(facts, ["user"])
        assert time.monotonic() - began_s < 5
    finally:
        holding.kill()
        holding.communicate(timeout=10)


@pytest.mark.parametrize("hangs", [False, True], ids=["ends", "hangs"])
@pytest.mark.slow
async def test_passwords_are_verified_by_one_process_at_a_time(
    memory: int, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, verified = started(VERIFYING, memory), asyncio.Event()
    monkeypatch.setattr("gate.http.shared.VERIFYING_WITHIN_S", 1.0 if hangs else 60.0)

    async def verify() -> None:
        async with Shared(memory, 2).verifying():
            verified.set()

    verifying = asyncio.create_task(verify())
    try:
        for _ in range(20):  # turns of this loop, in each of which it could get in
            await asyncio.sleep(VERIFYING_LOOK_EVERY_S)
            assert not verified.is_set()
        if not hangs:
            holding.communicate("\n", timeout=10)
        await asyncio.wait_for(verifying, 30)
    finally:
        holding.kill()
        holding.communicate(timeout=10)
