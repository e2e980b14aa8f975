"""Starts that can't be: one clear line, exit status 1 or 2, nothing left running."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gate.service.directory_layout import write_private
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import Services
from tests.service.running import Refusal, refused


def run_limited(most_bytes: int, act: Callable[[], None]) -> None:
    """Do it while no file may grow past so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def is_one_line(refusal: Refusal, status: int, *words: str) -> None:
    assert refusal.out == ""
    assert len(refusal.lines) == 1, refusal.lines
    assert refusal.lines[0].startswith("gate: ")
    assert [word for word in words if word not in refusal.lines[0]] == []
    assert refusal.status == status


@pytest.mark.parametrize("flag", ["--http", "--resp"])
def test_a_port_in_use(tmp_path: Path, flag: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        is_one_line(refused(tmp_path / "data", flag, address), 1, address, "in use", flag)


def test_a_disk_that_takes_only_a_part_of_a_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    is_one_line(refused(data, under=["prlimit", "--fsize=0"]), 1, str(data / "run"), "too large", "make room", "--data")
    with pytest.raises(OSError, match=r"too large.*node-id"):
        run_limited(8, lambda: write_private(data / "node-id", b"0123456789abcdef"))
    assert not [path for path in data.iterdir() if path.is_file()]


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    is_one_line(refused(tmp_path / "data"), 1, str(tmp_path / "data"), "--data")


@pytest.mark.parametrize("data", [Path("/proc/gate"), Path("/sys/gate")])
def test_a_data_directory_that_cannot_be_written(data: Path) -> None:
    is_one_line(refused(data), 1, str(data), "--data")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_data_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    is_one_line(refused(tmp_path / "data"), 1, "--data")


def test_a_redis_that_is_not_there(tmp_path: Path) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    refusal = refused(tmp_path / "data", "--redis", url)
    is_one_line(refusal, 1, "127.0.0.1")
    assert "hunter2" not in refusal.lines[0]


def test_a_redis_that_never_answers(tmp_path: Path, private_redis: RedisServer) -> None:
    with private_redis.paused():
        is_one_line(refused(tmp_path / "data", "--redis", private_redis.url), 1, str(private_redis.port))


def test_what_listens_there_is_no_redis(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        is_one_line(refused(tmp_path / "data", "--redis", f"redis://127.0.0.1:{other.getsockname()[1]}"), 1)


def test_another_number_of_partitions(tmp_path: Path, start_service: Services, private_redis: RedisServer) -> None:
    start_service.start("--partitions", "4", redis_url=private_redis.url)
    refusal = refused(tmp_path / "data", "--redis", private_redis.url, "--partitions", "8")
    is_one_line(refusal, 2, "4 Partitions", "8")


def test_a_copy_of_a_data_directory_whose_node_runs(
    tmp_path: Path, start_service: Services, private_redis: RedisServer
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    shutil.copy2(service.data / "node-id", copy)
    is_one_line(refused(copy, "--redis", private_redis.url), 1, str(copy / "node-id"), "delete")
    assert service.is_running
    (copy / "node-id").unlink()
    start_service.start(data=copy, redis_url=private_redis.url)


def test_a_data_directory_that_another_service_uses(start_service: Services) -> None:
    service = start_service.start()
    is_one_line(refused(service.data), 1, str(service.pid), str(service.data))
    assert service.is_running


def test_an_embedded_program_that_is_none(tmp_path: Path) -> None:
    is_one_line(refused(tmp_path / "data", "--redis-server", "/no/such"), 1, "/no/such", "--redis-server")


def test_an_embedded_server_that_does_not_come_up(tmp_path: Path) -> None:
    refusal = refused(tmp_path / "data", "--redis-server", "/bin/false")
    assert refusal.status == 1
    assert re.match(r"gate: redis keeps ending at its start \(exit status 1\)", refusal.lines[-1])


def test_damaged_credentials(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "credentials.json").write_text("{")
    is_one_line(refused(tmp_path / "data"), 1, "credentials.json")


def test_all_mistakes_of_one_call_are_named_at_once(tmp_path: Path) -> None:
    refusal = refused(
        tmp_path / "data", "--http", "nowhere", "--workers", "0", env={"GATE_ON_STALE": "x", "GATE_LOG_FORMAT": "y"}
    )
    assert refusal.status == 2
    assert [line.split(":")[1].strip() for line in refusal.lines] == [
        "--http",
        "--workers",
        "GATE_ON_STALE",
        "GATE_LOG_FORMAT",
    ]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["--redis", "--presence-redis"])
def test_an_option_of_a_redis_url_that_there_is_not(tmp_path: Path, flag: str) -> None:
    is_one_line(refused(tmp_path / "data", flag, "redis://h/0?retries=3"), 2, flag, "retries", "connect_timeout_ms")
    assert not (tmp_path / "data").exists()


def test_an_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    assert refused(tmp_path / "data", "--no-such-option").status == 2
