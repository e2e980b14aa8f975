"""The facts file of a running node is damaged: it is found, logged once, and loaded again; no process dies repeatedly."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gate import Replica
from gate.errors import GateError
from harness.seeds import seed
from harness.service import Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.faults.calls import Http, Pair
from tests.faults.node import JSON_LOGS, RECOVERY_TIMEOUT_S, Node
from tests.service.running import get

SEED = seed(7)

REBUILT = "the Replica is rebuilt from Redis"
PAGE_BYTES = 4_096
OWNERS = 120
MEMBERS = 25
FLIPPED_BITS = 2_000
SCRUB_TIMEOUT_S = 200.0
"""A scrub of a small file runs every ten seconds, and pauses for a hundred times what the last one took."""


def _pages(facts: Path) -> range:
    """All but the two meta pages."""
    return range(2, facts.stat().st_size // PAGE_BYTES)


def _write_pages(facts: Path, content: Callable[[], bytes]) -> None:
    with facts.open("r+b") as file:
        for page in _pages(facts):
            file.seek(page * PAGE_BYTES)
            file.write(content())


def _zero_pages(facts: Path) -> None:
    _write_pages(facts, lambda: bytes(PAGE_BYTES))


def _zero_every_third(facts: Path) -> None:
    with facts.open("r+b") as file:
        for page in _pages(facts)[::3]:
            file.seek(page * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES))


def _garbage(facts: Path) -> None:
    _write_pages(facts, lambda: os.urandom(PAGE_BYTES))


def _cut_in_half(facts: Path) -> None:
    os.truncate(facts, facts.stat().st_size // 2)


def _empty(facts: Path) -> None:
    os.truncate(facts, 0)


def _flip_bits(facts: Path) -> None:
    seeded = random.Random(SEED)
    with facts.open("r+b") as file:
        for _ in range(FLIPPED_BITS):
            at = seeded.randrange(2 * PAGE_BYTES, facts.stat().st_size)
            file.seek(at)
            flipped = file.read(1)[0] ^ (1 << seeded.randrange(8))
            file.seek(at)
            file.write(bytes((flipped,)))


def _overwrite_by_older(facts: Path) -> None:
    facts.write_bytes(facts.with_name("older.copy").read_bytes())


DAMAGES = {
    "every page zeroed": _zero_pages,
    "a third of the pages zeroed": _zero_every_third,
    "every page garbage": _garbage,
    "cut in half": _cut_in_half,
    "emptied": _empty,
    "bits flipped": _flip_bits,
    "overwritten by an older copy": _overwrite_by_older,
}


class Site:
    """One node with enough facts for many pages."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.expected = _load(node.http)
        self.gate = Command(node.service.data, node.service.credentials.app_key)

    def asserts_facts(self) -> None:
        pairs = list(self.expected)
        assert dict(zip(pairs, self.node.http.check_many(pairs), strict=True)) == self.expected

    def damages(self) -> float:
        return self.node.metric("gate_replica_damages_total")


def _load(http: Http) -> dict[Pair, str]:
    expected: dict[Pair, str] = {}
    for nth in range(OWNERS):
        owner, members = f"owner {nth}", [f"member {nth} {member}" for member in range(MEMBERS)]
        assert http.call("POST", "/v1/blacklist", {"owner": owner, "members": members}).status == 200
        expected[members[nth % MEMBERS], owner] = "blacklisted"
        expected["a friend", owner] = "allowed"
    return expected


@pytest.fixture(scope="module")
def site(start_module_service: Services) -> Iterator[Site]:
    yield Site(Node(start_module_service.start(env=JSON_LOGS)))


@pytest.mark.timeout(SCRUB_TIMEOUT_S + 60)
@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_while_it_runs(name: str, site: Site) -> None:
    node = site.node
    facts, lines = node.facts_file(), len(node.logged(REBUILT))
    shutil.copyfile(facts, facts.with_name("older.copy"))
    assert node.http.ban(f"since {name}").applied == "all"
    DAMAGES[name](facts)
    wait_until(lambda: node.logged(REBUILT)[_ask_all(site) and lines :], SCRUB_TIMEOUT_S, "the damage to be found")
    wait_until(lambda: _is_another(node, facts), RECOVERY_TIMEOUT_S, "another facts file")
    wait_until(lambda: _is_ready(node), RECOVERY_TIMEOUT_S, "the node to be ready")
    node.wait_whole()
    site.asserts_facts()
    node.asserts({(f"since {name}", "x"): "sender-banned"})
    assert len(node.logged(REBUILT)) == lines + 1
    assert not facts.with_name("damaged").exists()


def _ask_all(site: Site) -> bool:
    """Readers meet the damage; checks continue whatever they answer."""
    with contextlib.suppress(OSError, AssertionError, KeyError, ValueError):
        site.node.http.check_many(list(site.expected)[:20])
    return True


def _is_ready(node: Node) -> bool:
    """HTTP may have died of SIGBUS, and be on its way back."""
    try:
        return get(node.service, "/readyz")[0] == 200
    except OSError:
        return False


def _is_another(node: Node, facts: Path) -> bool:
    current = facts.with_name("current")
    return current.exists() and node.facts_file() != facts


def test_appended_garbage_is_no_damage(site: Site) -> None:
    facts, damages = site.node.facts_file(), site.damages()
    with facts.open("ab") as file:
        file.write(os.urandom(100_000))
    for nth in range(20):
        assert site.node.http.ban(f"appended {nth}").applied == "all"
    site.node.wait_whole()
    site.asserts_facts()
    assert (site.node.facts_file(), site.damages()) == (facts, damages)


def test_a_reader_of_another_process_reports_what_it_meets(site: Site) -> None:
    """`gate.Replica` raises, and the node recovers without a scrub."""
    node = site.node
    facts = node.facts_file()
    with Replica.open(node.service.data, app=node.service.credentials.app_key) as opened:
        _zero_pages(facts)
        with pytest.raises(GateError):
            for pair in site.expected:
                opened.verdict(*pair)
        wait_until(lambda: _is_another(node, facts), RECOVERY_TIMEOUT_S, "another facts file")
        node.wait_whole()
        assert {pair: opened.verdict(*pair).word for pair in site.expected} == site.expected
        assert opened.status.stale_ms == 0
    assert "replaced since it began" in site.gate("doctor", "--json", status=None).out


@pytest.mark.parametrize("name", ["every page zeroed", "bits flipped", "emptied"])
def test_verify_and_doctor_name_damage(name: str, site: Site) -> None:
    """Of a node whose replicator is stopped, so that nothing heals meanwhile; then verify has reported it."""
    node = site.node
    facts = node.facts_file()
    with node.stopped("replicator"):
        DAMAGES[name](facts)
        verified = site.gate("replica", "verify", status=1)
        assert "damaged" in verified.out or "difference" in verified.out
        doctor = site.gate("doctor", "--json", status=None)
        assert "damaged" in doctor.out or "can't be" in doctor.out, doctor
    wait_until(lambda: _is_another(node, facts), RECOVERY_TIMEOUT_S, "another facts file")
    node.wait_whole()
    site.asserts_facts()
