"""What `gate doctor` advises follows from what Redis answered, and what an alert would be for is status 1."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Command
from tests.harness.ports import free_port
from tests.harness.servers import RedisServer
from tests.harness.service import GateService


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


def test_ports_that_do_not_answer_are_status_1(service: GateService) -> None:
    gate, http = Command(service.data), service.http.removeprefix("http://")
    resp, dead = f"127.0.0.1:{service.resp_port}", f"127.0.0.1:{free_port()}"
    gate("doctor", "--http", http, "--resp", resp)
    assert f"fail HTTP {dead}: does not answer" in gate("doctor", "--http", dead, "--resp", resp, status=1).out
    assert f"fail RESP {dead}: does not answer" in gate("doctor", "--http", http, "--resp", dead, status=1).out
