"""The facts file is damaged while Redis is away: it is logged once, no process dies repeatedly, and the node recovers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gate import Replica
from gate.errors import ReplicaMissing
from gate.replica.status_page import NEVER_FRESH_MS
from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.node import JSON_LOGS, RECOVERY_TIMEOUT_S, Node
from tests.faults.test_redis_away import Site
from tests.faults.test_replica_damaged import REBUILT, _cut_in_half, _load, _overwrite_by_older
from tests.service.running import get


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("damaged"), aof=True)
    with Cable(server.port) as cable:
        service = start_module_service.start("--workers", "1", redis_url=cable.url, env=JSON_LOGS)
        yield Site(Node(service, server.url), server, cable)
        service.stop()
    server.stop()


def _readyz(node: Node) -> str:
    """The answer; "" while HTTP restarts after a SIGBUS."""
    try:
        status, body = get(node.service, "/readyz")[:2]
    except OSError:
        return ""
    return body if status == 503 else ""


@pytest.mark.parametrize("damage", [_cut_in_half, _overwrite_by_older])
def test_damaged_while_redis_is_away(site: Site, damage: Callable[[Path], None]) -> None:
    node = site.node
    expected = node.pairs(damage.__name__)
    older = node.facts_file()
    shutil.copyfile(older, older.with_name("older.copy"))
    _load(node.http)
    facts, lines = node.facts_file(), len(node.logged(REBUILT))
    with site.cable.cut_off():
        wait_until(lambda: _readyz(node) or node.stale_ms(), RECOVERY_TIMEOUT_S, "it to be cut off")
        damage(facts)
        wait_until(lambda: "damaged, and loaded again" in _readyz(node), RECOVERY_TIMEOUT_S, "/readyz to say why")
        with pytest.raises(ReplicaMissing):
            Replica.open(node.service.data, app=node.service.credentials.app_key)
        for pair in expected:  # a reader may die of the damage, and then waits for a file
            _asked(node, pair)
        wait_until(lambda: _readyz(node), RECOVERY_TIMEOUT_S, "HTTP to be back")
        assert len(node.logged(REBUILT)) == lines + 1
    node.wait_whole()
    node.asserts(expected)
    assert node.facts_file() != facts
    assert len(node.logged(REBUILT)) == lines + 1


def _asked(node: Node, pair: tuple[str, str]) -> None:
    """An answer must report an unknown age."""
    try:
        answer = node.http.check(pair)
    except (OSError, KeyError, AssertionError, ValueError):
        return
    assert answer.get("stale_ms", NEVER_FRESH_MS) == NEVER_FRESH_MS, answer


def test_an_older_copy_moved_over_the_file_is_never_fresh(site: Site) -> None:
    """For a reader that opens it before the replicator finds the damage; the replicator is paused, so that this state lasts."""
    node = site.node
    facts = node.facts_file()
    shutil.copyfile(facts, facts.with_name("older.copy"))
    expected = node.pairs("since the copy")
    key = node.service.credentials.app_key
    with node.stopped("replicator"):
        facts.with_name("older.copy").replace(facts)
        with Replica.open(node.service.data, app=key) as replica:
            assert replica.status.stale_ms == NEVER_FRESH_MS
        shown = node.gate.json("check", "since the copy banned", "x", status=None)
        assert shown["stale_ms"] == NEVER_FRESH_MS
    node.wait_whole()
    node.asserts(expected)
