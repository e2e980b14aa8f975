"""The rules of acknowledgement hold in every state of the models, and each wrong rule is refuted (docs/model.md).

`GATE_MODEL=large` searches larger bounds and every wrong rule, as `make chaos` does: that takes minutes, and some GB.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.model.checking import MODELS, search

IS_LARGE = os.environ.get("GATE_MODEL") == "large"
NO_SPIN = "no spin or no gcc: scripts/install-test-tools"

SMALL: dict[str, list[list[str]]] = {
    "acknowledged": [
        [],
        ["FLUSHES=1"],
        ["LEAVES=1"],
        ["RESTARTS=1"],
        ["FAILOVERS=1", "BOTH_CURRENT", "WRITTEN_AFTER_FAILOVER"],
    ],
    "cluster": [[]],
}
LARGE: dict[str, list[list[str]]] = {
    "acknowledged": [
        ["FAILOVERS=1", "DURABLE"],
        ["FAILOVERS=1", "OLD_PRIMARY_LIVES"],
        ["RESTARTS=1", "WRITES=2"],
        ["FLUSHES=1", "LEAVES=1"],
        ["TRUSTED=2", "LEAVES=1"],
        ["TRUSTED=2", "FLUSHES=1"],
    ],
    "cluster": [["PARTITION_FAILOVERS=1"], ["REGISTRY_FAILOVERS=1"]],
}
"""Faults by model."""
SMALL_WRONG: dict[str, dict[str, list[str]]] = {
    "acknowledged": {
        "LIVE_NODES_FROM_A_LOST_LIST": ["FLUSHES=1"],
        "SETTLED_NOT_AWAITED": ["FLUSHES=1"],
        "KEEP_DEMOTED_CONNECTION": ["FAILOVERS=1", "BOTH_CURRENT"],
        "ADDRESS_NOT_CHECKED": ["FAILOVERS=1", "BOTH_CURRENT", "OLD_PRIMARY_LIVES"],
        "HEADS_BEFORE_LEASE": [],
        "LIST_READ_BEFORE_THE_WRITE": [],
        "LEASE_AS_SHORT_AS_FRESHNESS": [],
        "LEASE_GIVEN_UP_WHILE_FRESH": ["LEAVES=1"],
        "ANNOUNCED_BEFORE_COMMIT": [],
    },
    "cluster": {
        "HEADS_BEFORE_MARK": [],
        "NUMBERS_NOT_COMPARED": [],
        "JOINED_ONCE": [],
        "MARK_WITHOUT_SERVER_ID": ["PARTITION_FAILOVERS=1"],
        "MARK_WITHOUT_INCARNATION": ["REGISTRY_FAILOVERS=1"],
    },
}
LARGE_WRONG: dict[str, dict[str, list[str]]] = {
    "acknowledged": {
        "ANNOUNCED_WITHOUT_SERVER_ID": ["RESTARTS=1", "WRITES=2"],
        "MARKER_WITHOUT_SERVER_ID": ["RESTARTS=1"],
        "HISTORY_NOT_VERIFIED": ["RESTARTS=1", "WRITES=2"],
        "DURABILITY_OF_ANY_SERVER": ["FAILOVERS=1", "DURABLE"],
    },
    "cluster": {"MARK_NOT_SETTLED": ["REGISTRY_FAILOVERS=1"], "MARK_WITHOUT_NONCE": ["REGISTRY_FAILOVERS=1"]},
}
"""The faults that each wrong rule needs to be refuted, by model."""


def bounds(*some: dict[str, list[list[str]]]) -> list[tuple[str, list[str]]]:
    return [(model, faults) for each in some for model, all_faults in each.items() for faults in all_faults]


def wrong(*some: dict[str, dict[str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    return [(model, rule, faults) for each in some for model, rules in each.items() for rule, faults in rules.items()]


@pytest.mark.skipif(not (shutil.which("spin") and shutil.which("gcc")), reason=NO_SPIN)
@pytest.mark.parametrize(("model", "faults"), bounds(SMALL, LARGE) if IS_LARGE else bounds(SMALL), ids=str)
@pytest.mark.timeout(1_800)
def test_the_rules_hold_in_every_state(model: str, faults: list[str], tmp_path: Path) -> None:
    searched = search(model, tmp_path, *faults, is_large=IS_LARGE)
    assert searched.violations == 0 and searched.is_complete, searched.report[-2_000:]


@pytest.mark.skipif(not (shutil.which("spin") and shutil.which("gcc")), reason=NO_SPIN)
@pytest.mark.parametrize(
    ("model", "rule", "faults"), wrong(SMALL_WRONG, LARGE_WRONG) if IS_LARGE else wrong(SMALL_WRONG), ids=str
)
@pytest.mark.timeout(1_800)
def test_a_wrong_rule_is_refuted(model: str, rule: str, faults: list[str], tmp_path: Path) -> None:
    assert search(model, tmp_path, rule, *faults, is_large=IS_LARGE).violations == 1


def test_every_macro_of_a_model_is_searched() -> None:
    for model in SMALL:
        text = (MODELS / f"{model}.pml").read_text()
        macros = set(re.findall(r"^#ifn?def (\w+)", text, re.MULTILINE))
        searched = {rule for of_model, rule, _ in wrong(SMALL_WRONG, LARGE_WRONG) if of_model == model}
        named = {
            macro.partition("=")[0]
            for of_model, faults in bounds(SMALL, LARGE)
            if of_model == model
            for macro in faults
        }
        assert macros - searched - named <= {"BOTH_WATCH", "BOTH_IN_DETAIL"}
