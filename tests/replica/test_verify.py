"""`gate replica verify` with two facts files; on a live Redis: test_on_redis.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.layout import check_settings_key
from gate.replica.verify import Report, compare
from tests.replica.ledger import Ledger, app_facts


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
