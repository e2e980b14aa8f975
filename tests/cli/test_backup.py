"""`gate backup` and `gate restore`, through the real command: into an empty Redis, with nodes that run and without."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.ports import free_port
from harness.seeds import seed
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.cli.command import Command

SEED = seed(16)
FORMAT_1 = Path(__file__).parents[1] / "backups" / "format-1.gatebackup"
"""Written by the first version that had backups. Every later version must restore it."""

FACTS: list[dict[str, Any]] = [
    {"kind": "ban", "user": "spammer", "permanent": True, "reason": "spam", "actor": "joe"},
    {"kind": "ban", "user": {"b64": "/wA="}, "until": 4_000_000_000_000},
    {"kind": "mute", "user": "loud", "until": "2099-01-01T00:00:00Z", "reason": "noise"},
    {"kind": "blacklist", "owner": "bob", "members": ["ann", "a\r\n:b", "😀", {"b64": "gA=="}]},
    {"kind": "blacklist", "owner": "bob", "member": "timed", "until": 4_000_000_000_000},
    {"kind": "whitelist", "owner": "eve", "member": "ann"},
    {"kind": "whitelist-switch", "user": "eve", "on": True},
    {"kind": "user", "user": "registered", "name": "Ann", "registered": 1_000},
]
PAIRS = [("spammer", "bob"), ("loud", "bob"), ("ann", "bob"), ("timed", "bob"), ("bob", "eve"), ("ann", "eve"),
         ("registered", "bob")]  # fmt: skip


@pytest.fixture
def source(redis_server: RedisServer, tmp_path: Path) -> Command:
    """A deployment with facts, without a node."""
    gate = Command(tmp_path / "source", "shop", redis_server.url)
    gate("app", "create", "Shop", "--key", "shop", "--secret", "secret-of-the-shop-1", "--environment", "production")
    lines = b"".join(json.dumps(fact).encode() + b"\n" for fact in FACTS)
    gate("import", "-", stdin=lines)
    gate("mute", "late", "--permanent", "--reason", "why", "--actor", "joe")
    gate("operator", "add", "ann", stdin=b"a password of ann\n")
    return gate


@pytest.fixture
def target(private_redis: RedisServer, tmp_path: Path) -> Command:
    return Command(tmp_path / "target", "shop", private_redis.url)


def shown(gate: Command) -> dict[str, Any]:
    """What the commands show of an App."""
    return {
        "export": sorted(gate("export").out.splitlines()),
        "app": gate.json("app", "show", "shop"),
        "audit": gate.json("audit"),
    }


def test_a_restored_deployment_shows_the_same(source: Command, target: Command, tmp_path: Path) -> None:
    file = tmp_path / "all.gatebackup"
    done = source.json("backup", file)
    assert done["entries"] == sum(done["by_kind"].values()) and done["bytes"] == file.stat().st_size
    assert done["by_kind"] == done["by_kind"] | {"apps": 1, "operators": 1, "blacklist": 5, "whitelist": 1}
    assert file.stat().st_mode & 0o777 == 0o600
    restored = target.json("restore", file)
    assert restored == restored | {"sha256": done["sha256"], "by_kind": done["by_kind"], "partitions": 16}
    assert shown(target) == shown(source)
    assert target.json("operator", "list") == source.json("operator", "list")


def test_a_node_that_runs_loads_the_restored_facts(
    source: Command, private_redis: RedisServer, start_service: Services, tmp_path: Path
) -> None:
    source("backup", tmp_path / "all")
    node = start_service.start(redis_url=private_redis.url)
    running = Command(node.data, "shop")
    first = node.credentials.app_key
    assert running("restore", tmp_path / "all").out.startswith("19 entries restored from")

    def is_loaded() -> bool:
        return running("check", "spammer", "bob", status=None).out == "sender-banned\n"

    wait_until(is_loaded, 20, "the node never loaded the restored facts")
    verdicts = [running("check", *pair, status=None).out.split()[0] for pair in PAIRS]
    expected = ["sender-banned", "sender-muted", "blacklisted", "blacklisted", "not-whitelisted", "allowed", "allowed"]
    assert verdicts == expected
    assert {one["key"] for one in running.json("app", "list")["apps"]} == {"shop", first}
    # The node goes on from there.
    assert running.json("ban", "bob", "--permanent")["applied"] in ("all", "node")


def test_a_redis_in_use_is_refused(source: Command, tmp_path: Path) -> None:
    source("backup", tmp_path / "all")
    before = shown(source)
    refused = source("restore", tmp_path / "all", status=1)
    assert "is not empty: it holds 1 App (shop) and facts of Users, such as" in refused.err
    assert shown(source) == before


def test_stdout_and_stdin_are_files_too(source: Command, target: Command) -> None:
    content = subprocess.run(
        [sys.executable, "-m", "gate", "backup", "-"], env=source.env, capture_output=True, check=True
    ).stdout
    assert "restored from -" in target("restore", "-", stdin=content).out
    assert shown(target) == shown(source)
    assert "name a FILE" in source("backup", "-", "--json", status=2).err


def test_without_the_audit(source: Command, target: Command, tmp_path: Path) -> None:
    assert "audit" not in source.json("backup", tmp_path / "all", "--without-audit")["by_kind"]
    target("restore", tmp_path / "all")
    assert shown(target) == shown(source) | {"audit": target.json("audit")}
    assert target.json("audit")["entries"] == []


def test_a_damaged_file_is_refused_before_the_first_write(
    source: Command, target: Command, private_redis: RedisServer, tmp_path: Path
) -> None:
    source("backup", tmp_path / "all")
    content, draw = (tmp_path / "all").read_bytes(), random.Random(SEED)
    flipped = bytearray(content)
    flipped[draw.randrange(len(content) // 2, len(content))] ^= 0x10
    for damaged in (bytes(flipped), content[: draw.randrange(len(content))], content + b"x"):
        (tmp_path / "damaged").write_bytes(damaged)
        refused = target("restore", tmp_path / "damaged", status=1)
        assert "byte" in refused.err and refused.err.endswith("nothing was written\n")
    assert private_redis.client.dbsize() == 0
    assert "No such file" in target("restore", tmp_path / "missing", status=3).err


def test_ctrl_c_leaves_no_half_file_and_a_restore_can_be_repeated(
    source: Command, target: Command, private_redis: RedisServer, tmp_path: Path
) -> None:
    lines = "".join(
        json.dumps({"kind": "blacklist", "owner": f"o{n}", "members": [f"m{n}-{m}" for m in range(1_000)]}) + "\n"
        for n in range(200)
    )
    source("import", "-", stdin=lines.encode())
    source("backup", tmp_path / "all")
    process = subprocess.Popen(
        [sys.executable, "-m", "gate", "restore", tmp_path / "all"], env=target.env, stderr=subprocess.PIPE
    )
    wait_until(lambda: private_redis.client.dbsize() > 20, 20, "the restore never began")
    process.send_signal(signal.SIGINT)
    _, problem = process.communicate(timeout=20)
    if process.returncode:  # else the restore was complete before the signal came
        assert process.returncode == 130
        assert b"The restore is incomplete, and no node loads it: repeat it with the same file" in problem
        assert "a backup is being restored into" in target("bans", status=3).err
        assert target.json("restore", tmp_path / "all")["repeated"]
    assert sorted(target("export").out.splitlines()) == sorted(source("export").out.splitlines())


def test_an_address_without_a_redis(target: Command, tmp_path: Path) -> None:
    nowhere = Command(tmp_path / "x", "shop", f"redis://127.0.0.1:{free_port()}")
    nowhere("backup", tmp_path / "all", status=3)
    assert not (tmp_path / "all").exists() and list(tmp_path.glob(".gate-*")) == []
    nowhere("restore", FORMAT_1, status=3)
    assert "at least 1 and at most 1024" in target("restore", FORMAT_1, "--partitions", "0", status=2).err


@pytest.mark.parametrize("partitions", [(), ("--partitions", "3")])
def test_a_file_of_the_first_format_is_restored(target: Command, partitions: tuple[str, ...]) -> None:
    restored = target.json("restore", FORMAT_1, *partitions)
    assert restored["by_kind"] == {
        "apps": 2, "audit": 13, "blacklist": 5, "blacklist-ends": 1, "deployment-audit": 3, "hooks": 1, "jobs": 1,
        "operators": 1, "users": 8, "whitelist": 1,
    }  # fmt: skip
    assert sorted(target("export").out.splitlines()) == FORMAT_1.with_suffix(".ndjson").read_text().splitlines()
    assert [one["key"] for one in target.json("app", "list")["apps"]] == ["game", "shop"]
    assert target.json("operator", "list")["operators"][0]["operator"] == "ann"
    audit = target.json("audit")["entries"]
    assert audit[0]["reason"] == "why" and audit[0]["actor"] == "joe"
