"""The case files, run through the core."""

from __future__ import annotations

import pytest

from gate.core.decide import decide
from tests.cases.facts import DictFacts
from tests.cases.loading import Case, load_cases

CASES = load_cases()
LEAST_CASES = 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_core_decides_as_the_case_says(case: Case) -> None:
    facts = DictFacts.of(case)
    answers = [decide(facts, asked.sender, asked.recipient, asked.at_ms) for asked in case.questions]
    assert answers == [asked.expected for asked in case.questions]


def test_there_are_enough_cases_and_every_word_occurs() -> None:
    assert len(CASES) >= LEAST_CASES
    expected = {asked.expected.word for case in CASES for asked in case.questions}
    assert expected == {
        "allowed",
        "sender-unknown",
        "sender-deactivated",
        "sender-banned",
        "sender-muted",
        "recipient-unknown",
        "recipient-deactivated",
        "not-whitelisted",
        "blacklisted",
    }
