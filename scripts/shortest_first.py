"""A plugin of pytest for `make mutants`: the shortest test that calls the changed function runs first, with empty caches.

mutmut passes a mutant's tests in no order and stops at the first failure, so that a long test in front would cost its time
for each mutant. It runs them in a fork of a process that has run all tests, whose caches would hide a changed function.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

DURATIONS = Path("mutmut-stats.json")
"""In the working directory of each run; mutmut writes it after its first run."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DURATIONS.exists():
        durations = json.loads(DURATIONS.read_text())["duration_by_test"]
        items.sort(key=lambda item: durations.get(item.nodeid, 0.0))


def pytest_runtestloop() -> None:
    modules = [module for name, module in sys.modules.items() if name.startswith("gate.")]
    for one in [one for module in modules for one in vars(module).values()]:
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()
