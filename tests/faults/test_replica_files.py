"""A Replica's file that can't be trusted: damaged, cut short, foreign, missing, of another boot. It is loaded again from Redis.

Each fault is applied to the files of a killed node, which is then started again: it must start, log the reason in one line, and
equal Redis.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import lmdb
import pytest

from gate.replica.layout import META_BOOT, META_CHECKSUM, META_CLEAN, META_LAYOUT, checksum_of, pack_checksum
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.node import JSON_LOGS, RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady

REBUILT = "the Replica is rebuilt from Redis"
SMALL_DISK_BYTES = 24 << 20
BALLAST_CHUNK = b"\xa5" * (1 << 20)


def _overwrite(facts: Path) -> None:
    size = facts.stat().st_size
    with facts.open("r+b") as file:
        file.write(os.urandom(size))


def _overwrite_pages(facts: Path) -> None:
    """All but the two meta pages: it opens normally, and kills its readers."""
    size = facts.stat().st_size
    with facts.open("r+b") as file:
        file.seek(2 * 4_096)
        file.write(os.urandom(size - 2 * 4_096))


def _cut_short(facts: Path) -> None:
    os.truncate(facts, facts.stat().st_size // 2)


def _empty(facts: Path) -> None:
    os.truncate(facts, 0)


def _edit(facts: Path, key: bytes, value: bytes) -> None:
    """As the writer does: with the change of the checksum."""
    with closing(lmdb.open(str(facts), subdir=False, map_size=1 << 30)) as env, env.begin(write=True) as txn:
        stored, old = int.from_bytes(txn.get(META_CHECKSUM, b""), "big"), txn.get(key, b"")
        txn.put(key, value)
        change = checksum_of([(key, value)]) - checksum_of([(key, old)])
        txn.put(META_CHECKSUM, pack_checksum(stored + change))


def _make_foreign(facts: Path) -> None:
    _edit(facts, META_LAYOUT, b"gate-replica-99")


def _from_another_boot(facts: Path) -> None:
    """As after a power cut: the file was not closed in order, and the machine has booted since."""
    with closing(lmdb.open(str(facts), subdir=False, map_size=1 << 30)) as env, env.begin() as txn:
        assert txn.get(META_CLEAN) is None
    _edit(facts, META_BOOT, b"00000000-0000-0000-0000-000000000000")


def _garbage_in_current(facts: Path) -> None:
    facts.with_name("current").write_bytes(b"\0\xff../../etc/passwd\n")


def _spoil_status_page(facts: Path) -> None:
    facts.with_name("board").write_bytes(b"\xff" * 100)


DAMAGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    "overwritten": (_overwrite, True),
    "overwritten behind its meta pages": (_overwrite_pages, True),
    "cut short": (_cut_short, True),
    "emptied": (_empty, True),
    "of another layout": (_make_foreign, True),
    "of another boot": (_from_another_boot, True),
    "named by garbage": (_garbage_in_current, True),
    "deleted": (Path.unlink, False),
    "with a spoilt board": (_spoil_status_page, False),
}
"""By name: the damage, and whether the log must name it. A missing file is loaded without a message."""


class Site:
    """A node that is killed and started again, test after test, on one Redis that keeps its facts."""

    def __init__(self, services: Services, server: RedisServer) -> None:
        self._services = services
        self._server = server
        self._service = services.start(redis_url=server.url, env=JSON_LOGS)
        self.node = Node(self._service, server.url)
        self.expected = self.node.pairs("filed")

    def start_again(self) -> Node:
        """On the same data; ready when this returns."""
        self.node.close()
        self._service = self._services.start(data=self._service.data, redis_url=self._server.url, env=JSON_LOGS)
        self.node = Node(self._service, self._server.url)
        return self.node


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("files"))
    site = Site(start_module_service, server)
    yield site
    site.node.service.stop()
    server.stop()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_file(name: str, site: Site) -> None:
    damage, is_named = DAMAGES[name]
    facts = site.node.facts_file()
    site.node.service.kill_all()
    damage(facts)
    node = site.start_again()
    node.asserts(site.expected)
    node.wait_whole()
    assert len(node.logged(REBUILT)) == int(is_named)


def test_a_clean_stop_is_trusted_after_a_reboot(site: Site) -> None:
    facts = site.node.facts_file()
    site.node.service.stop()
    _edit(facts, META_BOOT, b"00000000-0000-0000-0000-000000000000")
    node = site.start_again()
    assert node.facts_file() == facts
    assert node.logged(REBUILT) == []
    node.asserts(site.expected)
    node.wait_whole()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, to fill: a data directory whose service prints to somewhere else."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "none", str(mounted)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(BALLAST_CHUNK) == len(BALLAST_CHUNK):
                continue
            while file.write(b"\0"):
                continue
        except OSError:
            pass  # it is full
    yield
    ballast.unlink()


def test_a_full_disk(small_disk: Path, start_service: Services, private_redis: RedisServer) -> None:
    """Checks continue with the old facts and report that; the write is in Redis, and effective once there is room."""
    service = start_service.start(data=small_disk, redis_url=private_redis.url, env=JSON_LOGS)
    node = Node(service, private_redis.url)
    expected = node.pairs("full")
    many = {("full crowd", f"owner {number}"): "blacklisted" for number in range(200)}
    with Steady(service, expected):
        with _full(small_disk):
            for number in range(200):
                answer = node.http.call(
                    "POST", "/v1/blacklist", {"owner": f"owner {number}", "members": ["full crowd", *_crowd(number)]}
                )
                assert answer.status == 200, answer
                if answer.applied == "pending":
                    break
            else:
                pytest.fail("the disk never got full")
            node.wait_stale()
            node.asserts(expected)
        wait_until(lambda: node.stale_ms() == 0, RECOVERY_TIMEOUT_S, "the facts to be fresh again")
        node.wait_whole()
    node.asserts({**expected, **dict(list(many.items())[: number + 1])})


def _crowd(number: int) -> list[str]:
    return [f"{number} member {member} {'x' * 40}" for member in range(500)]
