"""A Redis that comes back from an older file, under a running service: what it lost is listed, and can be put back."""

from __future__ import annotations

from pathlib import Path

import requests

from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command

RELOAD_TIMEOUT_S = 20.0


def test_a_lost_ban_is_in_list_log_and_audit_and_can_be_put_back(
    start_service: Services, private_redis: RedisServer, tmp_path: Path
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    gate = Command(service.data)
    gate("ban", "kept", "--for", "1h")
    private_redis.save_copy(tmp_path / "older.rdb")
    gate("ban", "lost", "--for", "1h")
    assert gate("check", "lost", "bob", status=1).out.startswith("sender-banned")
    private_redis.restart_from(tmp_path / "older.rdb")
    wait_until(lambda: gate.json("replica", "lost", "--json")["losses"], RELOAD_TIMEOUT_S, "the loss to be listed")
    wait_until(lambda: gate("check", "lost", "bob", status=None).status == 0, RELOAD_TIMEOUT_S, "the swap")
    assert gate("check", "kept", "bob", status=1).out.startswith("sender-banned")
    (loss,) = gate.json("replica", "lost", "--json")["losses"]
    assert (loss["lost"], loss["kinds"], list(loss["apps"].values())) == (1, {"ban": 1}, [1])
    assert "facts that Redis lost were listed" in service.output
    assert "facts-lost" in gate("audit").out and "another history" in gate("audit").out
    wait_until(lambda: lost_facts(service) == 1, RELOAD_TIMEOUT_S, "the gauge to count it")
    assert "facts-lost" in gate("audit", "--deployment").out
    (name,) = loss["files"].values()
    gate("import", service.data / "replica" / "lost" / name)

    def is_back() -> bool:
        return gate("check", "lost", "bob", status=None).out.startswith("sender-banned")

    wait_until(is_back, RELOAD_TIMEOUT_S, "the Ban to be back")
    for path in (service.data / "replica" / "lost").iterdir():
        path.unlink()
    wait_until(lambda: lost_facts(service) == 0, RELOAD_TIMEOUT_S, "the gauge to count it no longer")


def lost_facts(service: GateService) -> float:
    """What `/metrics` says."""
    lines = requests.get(f"{service.http}/metrics", timeout=5).text.splitlines()
    (value,) = [line.split()[-1] for line in lines if line.startswith("gate_lost_facts ")] or ["-1"]
    return float(value)
