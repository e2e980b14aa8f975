"""The demo, end to end, against an oracle that shares nothing with it but the compressed files."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A service's start, a quarter of a million entries and 60,000 checks: some ten seconds, far more on a busy machine.
DEMO_TIMEOUT_S = 100


def lines_of(name: str) -> list[str]:
    return lzma.open(ROOT / "demo" / "data" / name, "rt").read().splitlines()


def oracle() -> dict[str, object]:
    """Every count, worked out from the rating triples themselves, the slow and plain way."""
    ratings = [tuple(map(int, line.split(",")[:3])) for line in lines_of("bitcoin-otc.csv.xz")]
    liked = {(rater, rated) for rater, rated, rating in ratings if rating > 0}
    disliked = {(rater, rated) for rater, rated, rating in ratings if rating < 0}
    dislikes_of: dict[int, list[int]] = {}
    for rater, rated in disliked:
        dislikes_of.setdefault(rater, []).append(rated)
    blocks = set(disliked)
    for rater, friend in liked:
        blocks |= {(rater, foe) for foe in dislikes_of.get(friend, [])}
    score = Counter[int]()
    for _, rated, rating in ratings:
        score[rated] += rating
    banned = {user for user in score if score[user] <= -20}
    choosy = {user for user, given in Counter(rater for rater, _, _ in ratings).items() if given >= 50}
    counts = Counter[str]()
    messages = [line.split() for line in lines_of("college-msg.txt.xz")[1:]]
    for sender, recipient in ((int(message[0]), int(message[1])) for message in messages):
        if sender in banned:
            counts["sender-banned"] += 1
        elif recipient in choosy:
            counts["allowed" if (recipient, sender) in liked else "not-whitelisted"] += 1
        else:
            counts["blacklisted" if (recipient, sender) in blocks else "allowed"] += 1
    return {
        "messages": len(messages),
        "blacklist_entries": len(blocks),
        "whitelists_on": len(choosy),
        "whitelist_entries": sum(1 for rater, _ in liked if rater in choosy),
        "bans": len(banned),
        "verdicts": dict(counts),
    }


def test_the_data_is_what_its_readme_says() -> None:
    expected = oracle()
    assert expected["messages"] == 59_835
    assert expected["blacklist_entries"] == 208_412
    users = {name for line in lines_of("college-msg.txt.xz")[1:] for name in line.split()[:2]}
    assert len(users) == 1_899


@pytest.mark.timeout(DEMO_TIMEOUT_S + 20)
@pytest.mark.parametrize("flags", [["--json"]], ids=["json"])
def test_the_demo_counts_exactly_what_the_oracle_counts(flags: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", *flags], cwd=ROOT, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = oracle()
    assert {name: found[name] for name in expected} == expected
    assert found["checks_per_s"] > 0
