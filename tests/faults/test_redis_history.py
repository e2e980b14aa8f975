"""Redis comes back with another history: empty, older, older and written again, or without the Changes a node still needs.

The old facts are served until a fresh snapshot is swapped in; then the Replica equals Redis, and the reload was counted and its
reason logged. No restart of the service is needed for any of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.calls import Pair
from tests.faults.node import JSON_LOGS, RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady

CANT_FOLLOW = "the Changelog can't be followed; loading a fresh snapshot"


class Site(NamedTuple):
    """A node, the Redis it uses, and the cable between them."""

    node: Node
    server: RedisServer
    cable: Cable

    def reloads(self) -> int:
        return int(self.node.metric("gate_replica_reloads_total"))

    def reasons(self) -> list[str]:
        """The reasons of all reloads so far, in order."""
        return [str(line["reason"]) for line in self.node.logged(CANT_FOLLOW)]


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("history"))
    with Cable(server.port) as cable:
        service = start_module_service.start(redis_url=cable.url, env=JSON_LOGS)
        yield Site(Node(service, server.url), server, cable)
        service.stop()
    server.stop()


def _reloaded(site: Site, reloads: int, reason: str, known: int) -> None:
    """A fresh snapshot was swapped in since there were `reloads` of them and `known` reasons, and this was why."""
    wait_until(lambda: site.reloads() > reloads, RECOVERY_TIMEOUT_S, "a fresh snapshot to be in use")
    assert reason in site.reasons()[known:]


def _may_lose(expected: dict[Pair, str]) -> dict[Pair, set[str]]:
    """Permitted verdicts while Redis has lost these facts and the Replica has not reloaded yet."""
    return {pair: {word, "allowed"} for pair, word in expected.items()}


def test_restarted_empty(site: Site) -> None:
    node, known, reloads = site.node, len(site.reasons()), site.reloads()
    expected = node.pairs("emptied")
    with Steady(node.service, _may_lose(expected)):
        site.server.restart_empty()
        _reloaded(site, reloads, "epoch", known)
        node.wait_whole()
    node.asserts(dict.fromkeys(expected, "allowed"))
    node.asserts(node.pairs("emptied"))


def test_restarted_from_an_older_file(site: Site, tmp_path: Path) -> None:
    node, known, reloads = site.node, len(site.reasons()), site.reloads()
    kept = node.pairs("kept")
    site.server.save_copy(tmp_path / "older.rdb")
    lost = node.pairs("lost")
    with Steady(node.service, {**kept, **_may_lose(lost)}):
        site.server.restart_from(tmp_path / "older.rdb")
        _reloaded(site, reloads, "behind", known)
        node.wait_whole()
    node.asserts({**kept, **dict.fromkeys(lost, "allowed")})


def test_restarted_from_an_older_file_and_written_past_our_position(site: Site, tmp_path: Path) -> None:
    """The numbers match and the history does not: this node applied other writes under them."""
    node, known, reloads = site.node, len(site.reasons()), site.reloads()
    kept = node.pairs("kept too")
    site.server.save_copy(tmp_path / "older.rdb")
    assert node.http.ban("forked").applied == "all"
    with Steady(node.service, {**kept, ("forked", "x"): {"sender-banned", "allowed", "sender-muted"}}):
        with site.cable.cut_off():
            site.server.restart_from(tmp_path / "older.rdb")
            for command in ("mute", "unmute", "mute"):
                node.gate(command, "forked", *(["--permanent"] if command == "mute" else []))
            node.wait_stale()
            node.asserts({("forked", "x"): "sender-banned"})
        _reloaded(site, reloads, "forked", known)
        node.wait_whole()
    node.asserts({**kept, ("forked", "x"): "sender-muted"})


def test_a_changelog_trimmed_past_a_replicator_that_was_away(site: Site) -> None:
    node, known, reloads = site.node, len(site.reasons()), site.reloads()
    expected = node.pairs("trimmed")
    late = {("trimmed late", "x"): "sender-banned"}
    with Steady(node.service, {**expected, ("trimmed late", "x"): {"allowed", "sender-banned"}}):
        with node.stopped("replicator"):
            for _ in range(3):
                assert node.http.ban("trimmed late").applied == "pending"
            node.wait_stale()
            for log in site.server.client.scan_iter("gate:{*}:log"):
                site.server.client.xtrim(log, maxlen=1, approximate=False)
        _reloaded(site, reloads, "trimmed", known)
        node.wait_whole()
    node.asserts({**expected, **late})


def test_a_changelog_deleted_under_a_replicator_that_follows(site: Site) -> None:
    """No read reveals it: no Change comes although the heads are ahead."""
    node, known, reloads = site.node, len(site.reasons()), site.reloads()
    expected = node.pairs("deleted")
    with Steady(node.service, expected):
        with node.stopped("replicator"):
            for _ in range(2):  # the first is on its way to the replicator at once
                assert node.http.ban("deleted late").applied == "pending"
            site.server.client.delete(*site.server.client.scan_iter("gate:{*}:log"))
        _reloaded(site, reloads, "trimmed", known)
        node.wait_whole()
    node.asserts({**expected, ("deleted late", "x"): "sender-banned"})


def test_a_write_after_redis_went_back_is_acknowledged_when_effective(site: Site, tmp_path: Path) -> None:
    """The node has announced higher numbers than this write's, from the lost history."""
    node = site.node
    site.server.save_copy(tmp_path / "older.rdb")
    for _ in range(3):
        assert node.http.ban("went back").applied == "all"
    assert node.http.unban("went back").applied == "all"
    with node.stopped("replicator"):
        site.server.restart_from(tmp_path / "older.rdb")
        wait_until(lambda: node.http.unban("other").status == 200, RECOVERY_TIMEOUT_S, "writes to work again")
        assert node.http.ban("went back").applied == "pending"
    node.wait_whole()
    node.asserts({("went back", "x"): "sender-banned"})
