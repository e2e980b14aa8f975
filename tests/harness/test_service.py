"""The service under test: the harness reports a node's state correctly, and no process outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.processes import is_alive, kill_each
from harness.service import GateService, ServiceDied, Services, SharedService
from harness.waiting import wait_until


def test_a_ready_node_has_credentials_and_stops_clean(tmp_path: Path) -> None:
    service = GateService.start(tmp_path / "data")
    assert service.app_key == service.credentials.app_key
    assert service.resp_client().ping()
    pids = [one.pid for one in service.processes()]
    assert service.stop() == 0
    assert not any(map(is_alive, pids))


def test_kill_all_is_a_power_switch_and_the_node_starts_again(start_service: Services) -> None:
    service = start_service.start()
    pids = [one.pid for one in service.processes()]
    service.kill_all()
    assert not any(map(is_alive, pids))
    again = start_service.start(data=service.data)
    assert again.credentials == service.credentials


def test_a_node_that_dies_at_start_says_why(start_service: Services) -> None:
    first = start_service.start()
    with pytest.raises(ServiceDied) as died:
        start_service.start(resp_port=first.resp_port)
    assert died.value.status in (1, 2)
    assert str(first.resp_port) in died.value.output


def test_processes_distinguishes_a_live_node_from_an_ended_one(start_service: Services) -> None:
    service = start_service.start()
    assert service.pid in {one.pid for one in service.processes()}
    # One that is just being started or is just ending has no command line for a moment.
    wait_until(lambda: all(one.command for one in service.processes()), 5.0, "a command line of every process")
    service.stop()
    assert service.processes() == []
    assert not is_alive(service.pid)


def test_a_shared_node_that_lost_a_process_fails_the_test_and_is_replaced(tmp_path: Path) -> None:
    shared = SharedService(tmp_path / "data")
    try:
        first = shared.whole()
        shared.expect_whole()
        assert shared.whole() is first
        (worker,) = [one.pid for one in first.processes() if "role worker" in one.command]
        kill_each([worker])
        wait_until(lambda: not is_alive(worker), 5.0, "its end")
        with pytest.raises(AssertionError, match="a process of the shared service ended"):
            shared.expect_whole()
        again = shared.whole()
        assert again is not first and again.credentials == first.credentials
        shared.expect_whole()
    finally:
        shared.stop()
