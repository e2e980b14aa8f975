"""A node on a Redis user with the documented rights does all of its work; without one of them it says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until, wait_until_async
from tests.cli.command import Command
from tests.service.running import readyz, refused
from tests.service.test_refusals import is_one_line
from tests.store.acl import change_user, denied, make_user
from tests.webhooks.receiver import receiving

NOTICED_WITHIN_S = 20
NOT_NEEDED = {"config|get"}
"""The doctor asks for it, and does without."""


async def test_a_node_with_the_documented_rights_does_all_of_its_work(
    start_service: Services, private_redis: RedisServer, tmp_path: Path
) -> None:
    url = make_user(private_redis)
    service = start_service.start("--redis", url)
    gate, app = Command(service.data, redis=url), service.credentials.app_key
    async with receiving() as receiver:
        gate("app", "set", app, "--webhook-url", receiver.url, "--presence-webhook-url", receiver.url)
        _writes(gate, tmp_path)
        _presence(gate, service)
        gate("user", "deactivate", "gone")
        await wait_until_async(lambda: len(receiver.callbacks) >= 2, NOTICED_WITHIN_S, "both webhooks")
    assert gate.json("replica", "verify")["equal"]
    _doctor(gate, service)
    assert denied(private_redis) - NOT_NEEDED == set()
    _taken_away_while_it_runs(gate, service, private_redis)


def _writes(gate: Command, tmp_path: Path) -> None:
    gate("ban", "ann", "--for", "1h")
    gate("mute", "bob", "--for", "1h")
    gate("blacklist", "add", "ann", "bob")
    gate("whitelist", "add", "ann", "cid")
    gate("check", "ann", "bob", status=1)
    file = tmp_path / "facts.ndjson"
    file.write_text('{"kind": "user", "user": "dan", "name": "Dan"}\n{"kind": "ban", "user": "eve", "minutes": 5}\n')
    gate("import", file)
    gate("bans")
    gate("export", tmp_path / "out.ndjson")


def _presence(gate: Command, service: GateService) -> None:
    client = service.resp_client()
    assert client.execute_command("GATE.LEASE", "g1", 1) > 0
    token = gate.json("user", "token", "fay")["token"]
    client.execute_command("GATE.CONNECT", token, "iOS", "g1")
    assert client.execute_command("GATE.ONLINE", "fay") == [1]
    gate("kick", "fay")
    wait_until(lambda: client.execute_command("GATE.ONLINE", "fay") == [0], NOTICED_WITHIN_S, "the kick")
    client.close()


def _doctor(gate: Command, service: GateService) -> None:
    where = ("--http", service.http.removeprefix("http://"), "--resp", f"127.0.0.1:{service.resp_port}")
    report = gate("doctor", *where).out
    assert "ok   Redis rights: every command, key and channel that Gate uses" in report


def _taken_away_while_it_runs(gate: Command, service: GateService, server: RedisServer) -> None:
    lacks = "lacks +zadd: grant it with ACL SETUSER gate +zadd"
    change_user(server, "-zadd")
    wait_until(lambda: lacks in str(readyz(service)[1].get("warnings")), NOTICED_WITHIN_S, "the warning")
    assert service.output.count(lacks) == 1
    subject = f"the user gate of redis://gate:***@127.0.0.1:{server.port} lacks +zadd"
    assert f"fail Redis rights: {subject}" in gate("doctor", status=1).out
    assert len(gate("ban", "zoe", "--for", "1h", status=3).err.splitlines()) == 1
    change_user(server, "+zadd")
    service.wait_for_output("has every right again", NOTICED_WITHIN_S)
    gate("ban", "zoe", "--for", "1h")  # though a script ended in its middle meanwhile
    wait_until(lambda: gate("check", "zoe", "ann", status=None).status == 1, NOTICED_WITHIN_S, "the Ban on the node")


@pytest.mark.parametrize(
    ("rules", "right"),
    [(["-subscribe"], "+subscribe"), (["resetkeys", "~gate:{0}:*"], "~gate:*"), (["resetchannels"], "&gate:*"),
     (["-info"], "+info"), (["-eval"], "+eval")],
)  # fmt: skip
def test_a_start_without_a_right(tmp_path: Path, private_redis: RedisServer, rules: list[str], right: str) -> None:
    url = make_user(private_redis)
    change_user(private_redis, *rules)
    is_one_line(refused(tmp_path / "data", "--redis", url), 1, f"grant it with ACL SETUSER gate {right}")


def test_a_start_without_a_right_in_the_redis_of_presence(
    tmp_path: Path, private_redis: RedisServer, redis_server: RedisServer
) -> None:
    url = make_user(private_redis)
    change_user(private_redis, "-hscan", "resetchannels")
    refusal = refused(tmp_path / "data", "--redis", redis_server.url, "--presence-redis", url)
    is_one_line(refusal, 1, "lacks +hscan: grant it with ACL SETUSER gate +hscan", str(private_redis.port))
