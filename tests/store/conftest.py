"""A Store on a real server: on each flavor (`store`), or on one where the flavor can't matter (`valkey_store`).

Both run on a cluster as well. `ONE_SERVER` lists the tests to which a cluster does not apply.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.core.model import AppFacts
from gate.store.acks import Acknowledger
from gate.store.store import Store
from harness.registry import settle
from harness.servers import RedisServer
from tests.store.following import Follower

APP = "default"


PATIENCE_MS = 10_000
"""No call may be late: a busy machine must not look like an unavailable server. `test_faults` has its own deadlines."""


ONE_READ = "on a cluster one read of the Changelog may have the Changes of one master only"
COUNTS = "it counts the commands, or times the work, of one server"
OF_ONE = "it changes one server: its memory, its role, its users or its database"
ONE_SERVER = {
    "test_rights": OF_ONE,
    "test_presence_leases": "its clock is played by the Client of one server",
    "test_presence_samples": "its clock is played by the Client of one server",
    "test_presence_model": "its clock is played by the Client of one server",
    "test_a_password_is_used_and_never_shown": OF_ONE,
    "test_a_database_of_its_own": OF_ONE,
    "test_a_full_server_writes_nothing_by_halves": OF_ONE,
    "test_a_demoted_server_refuses_writes": OF_ONE,
    "test_keys_of_others_in_the_same_server_are_passed_over": "its own keys are in several slots",
    "test_a_lease_ends_and_leaves_no_trace": "the registry of a cluster also has the number of joins",
    "test_a_write_before_any_preparation_opens_its_partition": ONE_READ,
    "test_a_read_is_bounded_and_goes_on_where_it_ended": ONE_READ,
    "test_no_fact_overtakes_the_creation_of_its_app": ONE_READ,
    "test_the_log_is_trimmed_and_a_hole_shows": ONE_READ,
    "test_a_log_without_its_meta_is_no_history": ONE_READ,
    "test_an_entry_of_no_known_kind_is_refused": ONE_READ,
    "test_operations_changes_and_snapshot_agree": ONE_READ,
    "test_adding_costs_the_same_however_many_entries_have_ended": COUNTS,
    "test_a_kick_of_very_many_is_done_in_short_steps": COUNTS,
    "test_only_writes_of_a_user_that_is_held_up_fail_and_they_fail_in_time": "its deadline is for one connection",
    "test_a_renewal_is_a_write_in_each_slice_whatever_the_users": COUNTS,
    "test_a_slow_mover_is_not_taken_for_a_dead_one": "its cable leads to one server",
    "test_an_app_removed_while_slices_are_announced_leaves_nothing": "its cable leads to one server",
    "test_a_slice_of_the_sweep_holds_up_no_other_command_for_long": COUNTS,
}
"""By name: tests and modules to which a cluster does not apply, and why."""


@pytest.fixture
def one_server_reasons() -> dict[str, str]:
    """See `tests/conftest.py`."""
    return ONE_SERVER


@pytest.fixture
def redis_server(any_redis: RedisServer) -> RedisServer:
    """In these tests it may be a cluster."""
    return any_redis


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(each_redis.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    yield opened
    await opened.aclose()


@pytest.fixture
async def valkey_store(redis_server: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(redis_server.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await opened.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    yield opened
    await opened.aclose()


@pytest.fixture
async def acks(store: Store) -> AsyncIterator[Acknowledger]:
    await settle(store)
    listening = Acknowledger(store, "n1")
    await listening.start()
    yield listening
    await listening.aclose()


@pytest.fixture
async def follower(store: Store) -> Follower:
    return await Follower.start(store.changelog)
