"""The judge of `make chaos`, on histories that were written by hand."""

from __future__ import annotations

import pytest

from loadtests.chaos.faultlog import FaultLog
from loadtests.chaos.judge import ALLOWED, Applied, Read, Register, Value
from loadtests.chaos.schedule import storms
from loadtests.soak.trend import trend

WALL_MS = 1_000_000.0
FIRST, SECOND = Value("sender-banned", 9_000_000), Value("sender-banned", 9_500_000)


@pytest.fixture
def register() -> Register:
    return Register("ban", "ban", "sender", "owner", "sender-banned")


def written(register: Register, value: Value, at_s: float, applied: Applied = "all", node: int = 0) -> None:
    """From `at_s` to a tenth of a second later."""
    register.begin(value, node, at_s).done(applied, f"0:e:{at_s}", at_s + 0.1)


def is_right(
    register: Register, value: Value, at_s: float, stale_ms: float = 0, node: int = 0, ahead_ms: float = 0
) -> bool:
    read = Read("EXPLAIN", node, value.word, at_s, at_s + 0.01, stale_ms, value.until_ms)
    return register.right(read, ahead_ms, WALL_MS)


def test_a_value_superseded_by_all_is_wrong_on_every_node(register: Register) -> None:
    written(register, FIRST, 10)
    assert not is_right(register, ALLOWED, 10.2, node=1)
    assert is_right(register, FIRST, 10.2, node=1)


def test_a_check_that_began_before_the_answer_may_show_either(register: Register) -> None:
    written(register, FIRST, 10)
    assert is_right(register, ALLOWED, 10.05)
    assert is_right(register, FIRST, 10.05)


def test_two_bans_are_distinguished_by_their_ends(register: Register) -> None:
    written(register, FIRST, 10)
    written(register, SECOND, 11)
    assert not is_right(register, FIRST, 11.2)


def test_node_binds_the_node_that_answered_and_soon_every_fresh_one(register: Register) -> None:
    written(register, FIRST, 10, "node", node=0)
    assert not is_right(register, ALLOWED, 10.2, node=0)
    assert is_right(register, ALLOWED, 10.2, node=1)
    assert not is_right(register, ALLOWED, 13, node=1)


def test_an_old_value_is_right_while_it_says_how_old_it_is(register: Register) -> None:
    written(register, FIRST, 10)
    assert is_right(register, ALLOWED, 20, stale_ms=11_000)
    assert not is_right(register, ALLOWED, 20, stale_ms=2_000)


def test_a_demanded_revision_must_show(register: Register) -> None:
    written(register, FIRST, 10, "pending")
    read = Read("MIN", 1, "allowed", 10.2, 10.3, 1e12, None, False, register.writes[-1])
    assert not register.right(read, 0, WALL_MS)


def test_a_refused_write_never_shows(register: Register) -> None:
    register.begin(FIRST, 0, 10).refuse(10.1)
    assert not is_right(register, FIRST, 10.2)
    assert is_right(register, ALLOWED, 10.2)


def test_a_write_of_unknown_outcome_may_land_until_it_is_closed(register: Register) -> None:
    write = register.begin(FIRST, 0, 10)
    write.leave_open(11)
    assert not register.is_settled
    written(register, SECOND, 12)
    assert is_right(register, FIRST, 13)
    write.closed_s = 14
    written(register, ALLOWED, 15)
    assert not is_right(register, FIRST, 16)


def test_after_a_loss_old_values_show_until_the_first_new_write(register: Register) -> None:
    written(register, FIRST, 10)
    left = register.losing(20, None)
    register.lost(left, 20, 20.1)
    assert is_right(register, FIRST, 20.5)
    assert is_right(register, ALLOWED, 20.5)
    assert not is_right(register, FIRST, 23)
    written(register, SECOND, 24)
    assert not is_right(register, ALLOWED, 24.2)


def test_a_restored_copy_brings_its_values_back(register: Register) -> None:
    written(register, FIRST, 10)
    written(register, SECOND, 12)
    left = register.losing(20, (11, 11.1))
    register.lost(left, 20, 20.1)
    assert is_right(register, FIRST, 25)
    assert not is_right(register, ALLOWED, 25)


def test_a_failover_may_not_lose_a_durable_write(register: Register) -> None:
    written(register, FIRST, 10)
    left = register.losing(20, (17, 20), is_durable=True)
    written(register, SECOND, 20.5)
    register.lost(left, 20, 22, is_durable=True)
    assert is_right(register, SECOND, 22.1)
    assert not is_right(register, FIRST, 22.1)
    assert not is_right(register, ALLOWED, 22.1)


def test_a_failover_may_lose_what_was_pending_for_its_durability(register: Register) -> None:
    written(register, FIRST, 10)
    written(register, SECOND, 18, "pending")
    left = register.losing(20, (17, 20), is_durable=True)
    register.lost(left, 20, 22, is_durable=True)
    assert is_right(register, FIRST, 25)
    assert is_right(register, SECOND, 25)
    assert not is_right(register, ALLOWED, 25)
    written(register, ALLOWED, 26)
    assert not is_right(register, FIRST, 26.2)


def test_a_fast_clock_ends_a_ban_on_its_own_node(register: Register) -> None:
    written(register, FIRST, 10)
    assert is_right(register, ALLOWED, 11, ahead_ms=8_100_000)
    assert not is_right(register, ALLOWED, 11, ahead_ms=5_000_000)


def test_a_held_write_is_closed_after_the_faults_that_may_hold_it() -> None:
    log = FaultLog(0)
    fault = log.begin("Redis hangs", None, 5)
    assert not log.nothing_holds_since(0, 4, 6, 100)
    fault.ended_s = 9
    assert not log.nothing_holds_since(0, 4, 6, 11)
    assert log.nothing_holds_since(0, 4, 6, 12)


def test_a_seed_gives_one_schedule() -> None:
    from loadtests.chaos.faults import FAULTS

    kinds = {name: kind for name, (kind, _) in FAULTS.items()}
    planned = storms(7, 120, 60, 3, kinds)
    assert planned == storms(7, 120, 60, 3, kinds)
    assert planned != storms(8, 120, 60, 3, kinds)
    assert sum(len(storm.faults) for storm in planned) > 60


def test_a_series_that_grows_is_not_flat() -> None:
    flat = trend("pages, node 0", [(float(at), 1_000.0 + at % 3) for at in range(100)])
    grown = trend("pages, node 0", [(float(at), 1_000.0 + 20 * at) for at in range(100)])
    assert flat is not None and flat.is_flat
    assert grown is not None and not grown.is_flat
