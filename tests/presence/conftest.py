"""Presence on one server, and on a cluster."""

from __future__ import annotations

import pytest

from harness.servers import RedisServer

HANGS = "it stops a server, or cuts it off: tests/store/test_cluster.py has a master that is away"
BLOCKED = "it counts the blocked reads of one server"
ONE_READ = "on a cluster one read of the Changelog may have the Changes of one master only"
ONE_SERVER = {
    "test_restoring_that_was_cut_short_is_done_again": HANGS,
    "test_it_is_closed_after_an_outage_without_a_renewal": HANGS,
    "test_a_lost_server_fails_all_and_says_what_is_known": HANGS,
    "test_a_kicked_user_is_not_restored_where_the_feed_has_the_kick": ONE_READ,
    "test_a_close_that_redis_forgot_is_done_again": ONE_READ,
    "test_a_question_that_was_not_answered_may_not_still_be_carried_out": HANGS,
    "test_without_the_audit_no_client_is_disconnected": HANGS,
    "test_a_kick_that_is_done_is_answered_though_the_audit_failed": HANGS,
    "test_where_the_changelog_has_a_hole_everybody_online_is_looked_at": ONE_READ,
    "test_each_act_closes_what_it_should": ONE_READ,
    "test_a_connect_that_was_verified_before_the_ban_is_sent_back": ONE_READ,
    "test_changes_made_between_two_followers_are_applied_by_the_second": ONE_READ,
    "test_a_presence_redis_that_lost_all_has_no_kicks_left_out": ONE_READ,
    "test_many_at_once_are_not_asked_for_one_by_one": ONE_READ,
    "test_a_late_revoker_closes_no_session_after_a_ban_was_lifted": ONE_READ,
    "test_local_gateway": "its tests start a service: tests/service/test_on_cluster.py has one",
    "test_it_goes_on_once_redis_is_back": HANGS,
    "test_the_lag_of_a_change_is_reported_if_it_closed_a_session": ONE_READ,
    "test_a_failed_look_restarts_the_watch": HANGS,
    "test_without_a_cursor_it_begins_at_the_head": BLOCKED,
    "test_an_outage_delays_and_loses_nothing": HANGS,
    "test_many_followers_share_one_blocked_read_that_ends_with_the_last": BLOCKED,
    "test_a_restarted_feed_resets_its_followers_and_serves_new_ones": BLOCKED,
    "test_what_comes_one_behind_the_other_is_read_together": BLOCKED,
    "test_an_unreadable_entry_is_an_error_and_not_waited_on": HANGS,
    "test_closing_ends_followers_that_wait": BLOCKED,
}
"""Tests that say nothing about a cluster, and why."""


@pytest.fixture
def one_server_reasons() -> dict[str, str]:
    """See `tests/conftest.py`."""
    return ONE_SERVER


@pytest.fixture
def redis_server(any_redis: RedisServer) -> RedisServer:
    """In these tests it may be a cluster."""
    return any_redis
