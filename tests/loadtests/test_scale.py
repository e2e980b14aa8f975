"""The facts that `python -m loadtests.scale` makes up, and what the repository shows of its report."""

from __future__ import annotations

import json
from multiprocessing import Pipe
from pathlib import Path

from gate.core.model import AppFacts
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from loadtests.bench import facts
from loadtests.scale import made, shown

APP = AppFacts(key="app", secrets=("s",))
USERS = 3_000


def test_made_facts_are_a_replica_of_the_requested_shape(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    ours, theirs = Pipe()
    made.build(theirs, tmp_path, APP, USERS)
    word, figures = ours.recv()
    assert word == "done"
    replica = Reading(tmp_path)
    try:
        with replica as snapshot:
            app = app_of(snapshot, "app")
            users = [app.user(facts.user_id(number)) for number in range(USERS)]
    finally:
        replica.close()
    sizes = [user.blacklist_size + user.whitelist_size for user in users]
    assert sum(sizes) == figures["entries"]
    assert 0.9 < figures["entries"] / (made.ENTRIES_A_USER * USERS) < 1.1
    assert [number for number, size in enumerate(sizes) if size] == list(range(0, USERS, facts.OWNER_EVERY))
    assert sum(user.whitelist_on for user in users) == USERS // facts.OWNER_EVERY // facts.WHITELIST_EVERY_OWNER
    banned = [number for number, user in enumerate(users) if user.banned_until_ms]
    assert banned == list(range(facts.BANNED_AT, USERS, facts.BANNED_EVERY))
    assert not list((tmp_path / "replica").glob("*.loading"))


def test_the_repository_shows_the_figures_of_the_scale_report() -> None:
    for path, text in shown.published().items():
        assert path.read_text() == text, (
            f"run .venv/bin/python -m loadtests.scale.shown: {path.name} is not of scale.json"
        )


def test_a_bound_that_is_missed_is_said_so() -> None:
    report = json.loads(shown.REPORT.read_text())
    assert all(line["met"] for line in shown.judged(report, 0.0, 1_000, 1_000.0))
    assert not any(line["met"] for line in shown.judged(report, 99.0, 1, 0.0))
