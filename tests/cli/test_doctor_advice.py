"""What `gate doctor` advises follows from what Redis answered, and what an alert would be for is status 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from harness.ports import free_port
from harness.servers import RDB_FILE, RedisServer
from harness.service import GateService
from harness.waiting import wait_until
from tests.cli.command import Command


def test_the_advice_is_by_what_redis_answers(private_redis: RedisServer, tmp_path: Path) -> None:
    client, where = private_redis.client, f"127.0.0.1:{private_redis.port}"
    client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~nothing", "&*", "+@all")
    client.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+ping", "+auth", "+hello")
    client.config_set("requirepass", "right")
    cases = {
        f"redis://{where}": "wants a password",
        f"redis://:wrong@{where}": "was it changed?",
        f"redis://narrow:pw@{where}": "lacks ~gate:*: grant it with ACL SETUSER narrow ~gate:*",
        f"redis://mute:pw@{where}": "grant it with ACL SETUSER mute +info",
        f"redis://127.0.0.1:{free_port()}": "start it, or say --redis URL",
    }
    for url, advice in cases.items():
        report = Command(tmp_path, "some-app", url)("doctor", status=1).out
        assert advice in report, (url, report)
        assert "pw@" not in report and "wrong@" not in report
    for url in list(cases)[:4]:
        refused = Command(tmp_path, "some-app", url)("bans", status=3).err
        assert len(refused.splitlines()) == 1, refused


def _out_of_memory(server: RedisServer) -> None:
    server.client.config_set("maxmemory", "1")


def _demoted(server: RedisServer) -> None:
    server.client.replicaof("127.0.0.1", free_port())


def _without_snapshots(server: RedisServer) -> None:
    """A directory stands where the snapshot is to be."""
    (server.directory / RDB_FILE).mkdir()
    server.client.config_set("save", "900 1")
    server.client.bgsave()
    wait_until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "a failed snapshot")


def _loading(server: RedisServer) -> None:
    """Each of many keys takes 5 ms to load, a minute for all of them; after some ten it answers what has come."""
    server.client.mset({f"filler-{nth}": "x" * 100 for nth in range(12_000)})
    server.client.save()
    server.kill()
    server.start_slowly("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    wait_until(lambda: _answers(server), 10, "the server to answer")


def _answers(server: RedisServer) -> bool:
    try:
        server.client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
    return True


@pytest.mark.parametrize(
    ("fault", "word", "advice"),
    [
        (_out_of_memory, "OOM", "its memory is full: raise maxmemory"),
        (_demoted, "is a replica of", "is a replica: name the primary with --redis"),
        (_without_snapshots, "MISCONF", "can't write its snapshots: look at its disk"),
        (_loading, "LOADING", "is reading its data: wait"),
    ],
)
def test_the_advice_on_a_server_that_answers_and_can_not_serve(
    fault: Callable[[RedisServer], None], word: str, advice: str, private_redis: RedisServer, tmp_path: Path
) -> None:
    fault(private_redis)
    report = Command(tmp_path, "some-app", private_redis.url)("doctor", status=1).out
    found = report[report.index("fail Redis:") :]
    assert word in found.splitlines()[0]
    assert advice in found.splitlines()[1]
    private_redis.kill()


def test_ports_that_do_not_answer_are_status_1(service: GateService) -> None:
    gate, http = Command(service.data), service.http.removeprefix("http://")
    resp, dead = f"127.0.0.1:{service.resp_port}", f"127.0.0.1:{free_port()}"
    gate("doctor", "--http", http, "--resp", resp)
    assert f"fail HTTP {dead}: does not answer" in gate("doctor", "--http", dead, "--resp", resp, status=1).out
    assert f"fail RESP {dead}: does not answer" in gate("doctor", "--http", http, "--resp", dead, status=1).out
