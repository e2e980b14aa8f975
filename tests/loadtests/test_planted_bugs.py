"""The judge of `make chaos` catches bugs that were planted, and finds nothing where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from harness.seeds import seed
from loadtests.chaos.clients import Target
from loadtests.chaos.ledger import Ledger
from loadtests.chaos.run import Options, Run
from loadtests.chaos.site import Site
from tests.loadtests.planted import Liar, Lie

HONEST_S = 3.0
LYING_S = 12.0
"""A lie is found within the first second or two."""
SEED = seed(20_261_128)
SEEDS = count(SEED)
WRONG = "violation: verdict wrong and fresh"


class Planted:
    """Two nodes, each behind a liar."""

    def __init__(self, directory: Path) -> None:
        self.liars: list[Liar] = []
        self.site = Site(directory, 2, self._proxied)

    def _proxied(self, number: int, target: Target) -> Target:
        liar = Liar(target, number)
        self.liars.append(liar)
        return liar.target

    def work(self, *lies: Lie) -> Ledger:
        """Writers and checkers until something is found, with node 0 lying so, and node 1."""
        for liar, lie in zip(self.liars, lies, strict=True):
            liar.lie = lie
        is_honest = all(lie == Lie() for lie in lies)
        options = Options(next(SEEDS), HONEST_S if is_honest else LYING_S, 2, with_presence=False)
        run = Run(options, self.site)
        asyncio.run(run.workload_only())
        return run.ledger


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    planted = Planted(tmp_path_factory.mktemp("planted"))
    planted.site.start()
    yield planted
    for liar in planted.liars:
        liar.close()
    planted.site.close()


def test_nothing_is_found_where_nothing_is_wrong(planted: Planted) -> None:
    ledger = planted.work(Lie(), Lie())
    assert ledger.violations == []
    assert ledger.counts["writes all"] > 5
    assert ledger.counts["verdicts fresh"] > 100


@pytest.mark.parametrize("cached_for_ms", [50, 500])
def test_cached_verdicts(planted: Planted, cached_for_ms: int) -> None:
    assert planted.work(Lie(), Lie(cached_for_s=cached_for_ms / 1_000)).counts[WRONG] > 0


@pytest.mark.parametrize("early_ms", [20, 200])
def test_all_is_answered_early(planted: Planted, early_ms: int) -> None:
    assert planted.work(Lie(early_s=early_ms / 1_000), Lie()).counts[WRONG] > 0


def test_dropped_writes(planted: Planted) -> None:
    assert planted.work(Lie(share_dropped=0.02), Lie(share_dropped=0.02)).counts[WRONG] > 0


def test_writes_that_were_made_and_answered_as_refused(planted: Planted) -> None:
    assert planted.work(Lie(share_refused=0.05), Lie(share_refused=0.05)).counts[WRONG] > 0
