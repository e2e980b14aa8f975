"""The servers under test: every flavor starts, dies, comes back empty, whole, or older."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK, free_port
from harness.servers import Flavor, RedisServer, StartFailed, server_binary

KILLS = 20

VERSION_PREFIX: dict[Flavor, tuple[str, str]] = {
    "redis-6.2": ("redis_version", "6.2."),
    "redis-7": ("redis_version", "7."),
    "valkey-9": ("valkey_version", "9."),
}


def test_every_flavor_is_what_it_says(redis_flavor: Flavor, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path)
    try:
        field, prefix = VERSION_PREFIX[redis_flavor]
        assert str(server.client.info("server")[field]).startswith(prefix)
        assert redis.Redis.from_url(server.url).ping()
    finally:
        server.stop()
    assert not server.is_running


def test_listens_on_loopback_only(private_redis: RedisServer) -> None:
    assert private_redis.client.config_get("bind")["bind"] == LOOPBACK


def test_unix_socket(redis_flavor: Flavor, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path, unixsocket=tmp_path / "redis.sock")
    try:
        assert redis.Redis.from_url(server.unix_url).ping()
    finally:
        server.stop()


def test_restart_keeps_the_state(private_redis: RedisServer) -> None:
    private_redis.client.set("gate:test", "kept")
    pid = private_redis.pid
    private_redis.restart()
    assert private_redis.pid != pid
    assert private_redis.client.get("gate:test") == b"kept"


def test_killed_without_persistence_loses_all(private_redis: RedisServer) -> None:
    private_redis.client.set("gate:test", "lost")
    private_redis.kill()
    assert not private_redis.is_running
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(private_redis.url).ping()
    private_redis.restart()
    assert private_redis.client.get("gate:test") is None


@pytest.mark.parametrize("aof", [False, True])
def test_restart_empty_and_from_an_older_file(redis_flavor: Flavor, aof: bool, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path / "server", aof=aof)
    port = server.port
    try:
        server.client.set("gate:test", "older")
        server.save_copy(tmp_path / "older.rdb")
        server.client.set("gate:test", "newer")

        server.restart_from(tmp_path / "older.rdb")
        assert server.client.get("gate:test") == b"older"

        server.client.set("gate:test", "newest")
        server.restart()
        assert server.client.get("gate:test") == b"newest"

        server.restart_empty()
        assert server.client.dbsize() == 0
        assert server.port == port
    finally:
        server.stop()


def test_append_only_file_survives_a_kill(redis_flavor: Flavor, tmp_path: Path) -> None:
    server = RedisServer.start(redis_flavor, tmp_path, aof=True, extra=["--appendfsync", "always"])
    try:
        server.client.set("gate:test", "written")
        server.kill()
        server.restart()
        assert server.client.get("gate:test") == b"written"
    finally:
        server.stop()


def test_paused_answers_nothing_and_resumes(private_redis: RedisServer) -> None:
    impatient = redis.Redis.from_url(private_redis.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
    impatient.ping()
    with private_redis.paused(), pytest.raises(redis.TimeoutError):
        impatient.ping()
    assert private_redis.client.ping()


def test_a_paused_server_can_be_stopped(private_redis: RedisServer) -> None:
    private_redis.pause()
    private_redis.stop()
    assert not private_redis.is_running


def test_a_port_in_use_is_said_at_once(private_redis: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="Address already in use"):
        RedisServer.start(private_redis.flavor, tmp_path / "second", port=private_redis.port)


def test_a_bad_option_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="no-such-option"):
        RedisServer.start("valkey-9", tmp_path, port=free_port(), extra=["--no-such-option", "1"])


def test_binaries_are_files(redis_flavor: Flavor) -> None:
    assert server_binary(redis_flavor).is_file()


def test_a_paused_server_that_is_killed_carries_nothing_out_any_more(
    private_redis: RedisServer, one_core: set[int]
) -> None:
    for _ in range(KILLS):
        os.sched_setaffinity(private_redis.pid, one_core)
        with socket.create_connection((LOOPBACK, private_redis.port), timeout=5.0) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
            private_redis.pause()
            client.sendall(b"PING\r\n")
            private_redis.kill()
            assert received(client) == b""
        private_redis.restart()


@pytest.fixture
def one_core() -> Iterator[set[int]]:
    """The test runs on this core alone: a server on it that is let go runs before the test does its next step."""
    before = os.sched_getaffinity(0)
    core = {min(before)}
    os.sched_setaffinity(0, core)
    yield core
    os.sched_setaffinity(0, before)


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except ConnectionResetError:  # with what it had not read yet
        return b""
