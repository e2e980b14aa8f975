"""With a running service, each command finds Redis and the ports by itself; files of a dead service mislead none."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from gate.cli.options import Target
from gate.service.running import running_services
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import GateService, Services
from tests.cli.command import Command

SERVICE_FILE = "run/redis/service.json"


def test_commands_need_the_data_directory_only(service: GateService) -> None:
    gate = Command(service.data)
    gate("ban", "found-by-itself", "--for", "1h")
    assert gate("check", "found-by-itself", "bob", status=1).out.startswith("sender-banned until ")
    assert gate.json("online")["users"] == 0
    subjects = {finding["subject"]: finding["level"] for finding in gate.json("doctor")["findings"]}
    assert subjects[f"HTTP {service.http.removeprefix('http://')}"] == "ok"
    assert subjects[f"RESP 127.0.0.1:{service.resp_port}"] == "ok"
    assert "online as found-client" in gate("connect", "--user", "found-client", "--once").out


def test_what_it_writes_is_for_its_own_user_only(service: GateService) -> None:
    written = service.data / SERVICE_FILE
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    (running,) = running_services(service.data)
    assert (running.pid, running.redis) == (service.pid, None)
    assert running.resp == f"127.0.0.1:{service.resp_port}"


def test_a_redis_of_its_own_is_found_and_an_option_or_variable_counts_more(
    start_service: Services, private_redis: RedisServer
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    key = service.credentials.app_key
    gate = Command(service.data)
    gate("ban", "ann", "--permanent")
    assert [row["user"] for row in gate.json("bans")["bans"]] == ["ann"]
    nowhere = f"redis://127.0.0.1:{free_port()}"
    assert gate("bans", "--redis", nowhere, status=3).out == ""
    assert Command(service.data, key, nowhere)("bans", status=3).out == ""
    assert Command(service.data, key, nowhere)("bans", "--redis", private_redis.url).out != ""

    service.kill_all()
    assert (service.data / "run/replicator/service.json").exists(), "a kill leaves it"
    assert "no service keeps its Redis" in gate("bans", status=3).err


def test_a_service_that_ends_takes_it_away(start_service: Services) -> None:
    service = start_service.start()
    assert (service.data / SERVICE_FILE).exists()
    service.stop()
    assert not (service.data / SERVICE_FILE).exists()
    assert running_services(service.data) == []


def test_of_two_services_in_one_directory_each_says_its_part(
    start_service: Services, private_redis: RedisServer
) -> None:
    first = start_service.start("--role", "replicator,http", redis_url=private_redis.url, wait=False)
    start_service.start("--role", "worker", data=first.data, redis_url=private_redis.url, wait=False)
    first.wait_for_output("gate ready")
    target = Target(first.data)
    assert len(target.services) == 2
    assert (target.http_address(), target.resp_address()) != ("127.0.0.1:8080", "127.0.0.1:6390")


def test_the_presence_of_another_redis_than_the_services_is_not_guessed(
    tmp_path: Path,
) -> None:
    """Not a real service: which of its answers count is all that is looked at."""
    running = [_Said(redis="redis://facts", presence_redis="redis://presence", http="0.0.0.0:81", resp="[::]:82")]
    for target, facts, presence in (
        (Target(tmp_path), "redis://facts", "redis://presence"),
        (Target(tmp_path, redis="redis://facts"), "redis://facts", "redis://presence"),
        (Target(tmp_path, redis="redis://other"), "redis://other", "redis://other"),
        (Target(tmp_path, presence_redis="redis://third"), "redis://facts", "redis://third"),
    ):
        target.__dict__["services"] = running
        assert (target.redis_url(), target.presence_url()) == (facts, presence)
        assert (target.http_address(), target.resp_address()) == ("127.0.0.1:81", "[::1]:82")


class _Said:
    def __init__(self, **said: str) -> None:
        self.__dict__.update(said)


def test_what_another_version_wrote_is_refused_by_name(start_service: Services) -> None:
    service = start_service.start()
    written = service.data / SERVICE_FILE
    document = json.loads(written.read_text())
    del document["roles"]
    written.write_text(json.dumps(document))
    refused = Command(service.data, "some-app")("bans", status=3)
    assert f"{written} is not what this version of `gate serve` writes" in refused.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_service_of_another_user_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0)
    assert Target(tmp_path, redis="redis://named").presence_url() == "redis://named"
