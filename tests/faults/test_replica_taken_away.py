"""Files of a running node's Replica are deleted, moved or replaced: it recovers once, and no verdict is wrong meanwhile."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gate import Replica
from gate.replica.replaced import OLD_FACTS_KEPT_S
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.node import JSON_LOGS, RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady
from tests.service.running import kill

RELOADS = "gate_replica_reloads_total"


def _delete_all(facts: Path) -> None:
    subprocess.run(f"rm -r {facts.parent}/*", shell=True, check=True)


def _move_directory(facts: Path) -> None:
    facts.parent.rename(facts.parent.with_name("replica.moved"))


def _take_lock_file(facts: Path) -> None:
    facts.with_name(f"{facts.name}-lock").unlink()


def _replace_by_older(facts: Path) -> None:
    """A copy from before a Ban was lifted, moved over the file in use."""
    shutil.copyfile(facts.with_name("older.copy"), facts.with_name("moved.in"))
    facts.with_name("moved.in").rename(facts)


def _put_names_ahead(facts: Path) -> None:
    """Files and a directory under the names that come next, the file itself gone."""
    generation = int(facts.stem.removeprefix("facts-"))
    for ahead in range(1, 4):
        facts.with_name(f"facts-{generation + ahead}.mdb").write_bytes(b"foreign")
    facts.with_name(f"facts-{generation + 4}.mdb").mkdir()
    facts.unlink()


def _take_status_page(facts: Path) -> None:
    facts.with_name("board").unlink()


def _protect(facts: Path) -> None:
    facts.chmod(0o400)


TAKEN: dict[str, tuple[Callable[[Path], object], int]] = {
    "the facts file is deleted": (Path.unlink, 1),
    "the name is deleted": (lambda facts: facts.with_name("current").unlink(), 1),
    "the lock file is deleted": (_take_lock_file, 1),
    "the status page is deleted": (_take_status_page, 0),
    "an older copy takes the name": (_replace_by_older, 1),
    "other files have the next names": (_put_names_ahead, 1),
    "everything is deleted": (_delete_all, 1),
    "the directory is moved away": (_move_directory, 1),
    "the file is made read-only": (_protect, 0),
}
"""By name: the fault, and the maximum of snapshots that it may cost."""


@pytest.fixture(scope="module")
def node(start_module_service: Services) -> Node:
    return Node(start_module_service.start(env=JSON_LOGS))


@pytest.mark.parametrize("name", TAKEN)
def test_taken_away(name: str, node: Node) -> None:
    take, cost = TAKEN[name]
    expected = node.pairs("taken")
    facts = node.facts_file()
    _keep_older_copy(node, facts)
    before = node.metric(RELOADS)
    with Steady(node.service, expected) as steady:
        wait_until(lambda: len(steady.seen) == 3 * len(expected), RECOVERY_TIMEOUT_S, "every surface to be asked")
        take(facts)
        wait_until(lambda: _is_healed(node, facts, before + cost), RECOVERY_TIMEOUT_S, "the Replica to be whole")
        node.wait_whole()
    assert node.metric(RELOADS) == before + cost
    with Replica.open(node.service.data, app=node.service.credentials.app_key) as opened:
        assert {pair: opened.verdict(*pair).word for pair in expected} == expected
        wait_until(lambda: opened.status.stale_ms == 0, RECOVERY_TIMEOUT_S, "the facts to be fresh")
    node.asserts(expected)


def _keep_older_copy(node: Node, facts: Path) -> None:
    """An older copy, in which a User is not banned yet."""
    node.http.unban("taken banned")
    shutil.copyfile(facts, facts.with_name("older.copy"))
    assert node.http.ban("taken banned").applied == "all"


def _is_healed(node: Node, facts: Path, reloads: float) -> bool:
    directory = facts.parent
    return node.metric(RELOADS) == reloads and (directory / "current").exists() and (directory / "board").exists()


def test_a_name_is_not_used_twice_and_nothing_reloads_again(node: Node) -> None:
    """After the delay of deletions, the present files all exist."""
    facts = node.facts_file()
    before = node.metric(RELOADS)
    facts.unlink()
    wait_until(lambda: node.metric(RELOADS) == before + 1, RECOVERY_TIMEOUT_S, "a reload")
    second = node.facts_file()
    assert second != facts
    second.unlink()
    wait_until(lambda: node.metric(RELOADS) == before + 2, RECOVERY_TIMEOUT_S, "another reload")
    third = node.facts_file()
    assert third not in (facts, second)
    locks = [path.with_name(f"{path.name}-lock") for path in (facts, second)]
    wait_until(lambda: not any(lock.exists() for lock in locks), OLD_FACTS_KEPT_S + 5, "the old files to be deleted")
    node.wait_whole()
    assert node.facts_file() == third
    assert node.metric(RELOADS) == before + 2


def test_the_replicator_dies_while_the_status_page_is_gone(node: Node) -> None:
    """Workers have the deleted page mapped, which gets no more stamps."""
    expected = node.pairs("boardless")
    with Steady(node.service, expected):
        _take_status_page(node.facts_file())
        kill(node.service, "replicator")
        node.wait_whole()
    node.asserts(expected)
