"""`gate replica verify` with two facts files, and with a scripted Redis; on a live Redis: test_on_redis.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.replica import verify as verify_module
from gate.replica.files import make_current
from gate.replica.layout import META_CHECKSUM, check_settings_key, facts_name
from gate.replica.loader import load_snapshot
from gate.replica.verify import Report, compare, verify
from gate.replica.writer import FactsFile
from tests.replica.ledger import Ledger, app_facts
from tests.replica.scripted import ScriptedRedis


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """Of the same App, under another number in the second file."""
    both = Ledger(tmp_path / "a", 1, app_facts()), Ledger(tmp_path / "b", 1, app_facts("before"), app_facts())
    for ledger in both:
        ledger.commit()
    with both[1].file.write() as txn:
        txn.delete(b"Abefore")
        txn.delete(check_settings_key("before"))
    yield both
    for ledger in both:
        ledger.close()


async def compared(ledgers: tuple[Ledger, Ledger]) -> Report:
    with ledgers[0].file.read() as replica, ledgers[1].file.read() as redis:
        return await compare(replica, redis)


async def test_numbers_of_the_files_are_no_difference(ledgers: tuple[Ledger, Ledger]) -> None:
    assert await compared(ledgers) == Report(1, 0, ())


async def test_settings_for_checks_that_differ_are_one(ledgers: tuple[Ledger, Ledger]) -> None:
    key = check_settings_key("app")
    with ledgers[0].file.write() as txn:
        value = bytes(txn.raw.get(key, b""))
        txn.put(key, value[:-1] + b"\x01")
    report = await compared(ledgers)
    assert report.differences == 1
    assert [one.fact for one in report.first] == ["the App's record, as checks read it"]


async def test_a_replica_of_before_has_none(ledgers: tuple[Ledger, Ledger]) -> None:
    with ledgers[0].file.write() as txn:
        txn.delete(check_settings_key("app"))
    assert (await compared(ledgers)).equal


# Against Redis, which may have moved on, or back


@pytest.fixture
def redis() -> ScriptedRedis:
    made = ScriptedRedis()
    made.write(0, "app-set")
    for number in range(5):
        made.write(number % 2, "ban-imposed", b"u%d" % number, until_ms=FOREVER_MS)
    return made


@pytest.fixture
async def replica(redis: ScriptedRedis, tmp_path: Path) -> AsyncIterator[FactsFile]:
    """What a node had loaded when it was stopped."""
    directory = tmp_path / "replica"
    directory.mkdir()
    file = await load_snapshot(redis, directory / facts_name(1))
    make_current(file.path)
    yield file
    file.close()


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "CATCH_UP_MS", 50)


async def test_the_same_facts_are_equal(redis: ScriptedRedis, replica: FactsFile) -> None:
    assert await verify(replica.path.parent, redis) == Report(6, 0, ())


class OneWriteLater(ScriptedRedis):
    """Two writes come as soon as a snapshot was loaded; the node has applied the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.on_last_heads: Callable[[], None] = lambda: None
        self.heads_left = 0

    async def heads(self) -> list[Position]:
        answered = await super().heads()
        self.heads_left -= 1
        if self.heads_left == 0:
            self.on_last_heads()
        return answered


async def test_a_node_that_is_ahead_of_the_snapshot_is_compared_at_its_commit(tmp_path: Path) -> None:
    redis = OneWriteLater()
    redis.write(0, "app-set")
    file = await load_snapshot(redis, tmp_path / facts_name(1))
    heads_a_snapshot = redis.calls.count("heads")
    make_current(file.path)

    def write() -> None:
        file.apply({1: [redis.write(1, "ban-imposed", b"first", until_ms=FOREVER_MS)]}, 1)
        redis.write(1, "ban-imposed", b"second", until_ms=FOREVER_MS)

    redis.on_last_heads, redis.heads_left = write, heads_a_snapshot
    report = await verify(tmp_path, redis)
    assert (report.equal, report.facts) == (True, 2), "the second write is no difference"
    assert redis.heads_left == 0
    file.close()


async def test_a_node_that_is_behind_is_named_as_such(redis: ScriptedRedis, replica: FactsFile) -> None:
    redis.write(1, "ban-imposed", b"later", until_ms=FOREVER_MS)
    report = await verify(replica.path.parent, redis)
    assert report.problem == "the Replica did not reach Redis's heads within 50 ms: see its status"


def goes_back(redis: ScriptedRedis) -> None:
    redis.logs[1].log.pop()


def goes_another_way(redis: ScriptedRedis) -> None:
    redis.logs[1].log.pop()
    redis.write(1, "mute-imposed", b"another", until_ms=FOREVER_MS)


def begins_again(redis: ScriptedRedis) -> None:
    redis.logs[1].epoch = "f" * 16


def has_more_partitions(redis: ScriptedRedis) -> None:
    redis.logs.append(type(redis.logs[0])("a" * 16))
    redis.first_held.append(1)


HISTORIES: dict[Callable[[ScriptedRedis], None], str] = {
    goes_back: "Redis no longer has what is applied here",
    goes_another_way: "Partition 1 has another write at",
    begins_again: "Partition 1 has another epoch here",
    has_more_partitions: "2 here, 3 in Redis",
}


@pytest.mark.parametrize("change", HISTORIES)
async def test_another_history_is_no_comparison(
    redis: ScriptedRedis, replica: FactsFile, change: Callable[[ScriptedRedis], None]
) -> None:
    change(redis)
    report = await verify(replica.path.parent, redis)
    assert report.problem.startswith("the Replica and Redis have no common history now: ")
    assert HISTORIES[change] in report.problem


async def test_a_file_whose_checksum_is_wrong_is_damaged_though_equal(redis: ScriptedRedis, tmp_path: Path) -> None:
    file = await load_snapshot(redis, tmp_path / facts_name(1))
    make_current(file.path)
    file.close()
    with lmdb.open(str(file.path), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(META_CHECKSUM, bytes(len(bytes(txn.get(META_CHECKSUM, b"")))))
    report = await verify(tmp_path, redis)
    assert (report.differences, report.equal) == (0, False)
    assert "is damaged, though its facts equal Redis: " in report.problem
