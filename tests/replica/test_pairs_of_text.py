"""Pairs of text, as JSON has them: their words and counts, with the compiled core and with Python alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import InvalidInput
from gate.replica.reading import Reading
from tests.replica.ledger import Ledger, app_facts, said, without_core


@pytest.fixture(params=["compiled", "Python"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "Python":
        without_core(monkeypatch)
    return tmp_path / "replica"


def test_pairs_of_text_are_answered_and_counted(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("ban-imposed", "é".encode()), said("blocked", b"b", b"c"))
    reading = Reading(directory)
    reading.refresh()
    app = reading.app("app")
    assert app is not None
    assert app.words_of([]) == ([], {})
    words, counts = app.words_of([["a", "b"], ["é", "a"], ["c", "b"], ["b", "a"]])
    assert words == ["allowed", "sender-banned", "blacklisted", "allowed"]
    assert dict(counts) == {"allowed": 2, "sender-banned": 1, "blacklisted": 1}
    others: list[list[object]] = [
        [["a"]],
        [["a", "b", "c"]],
        [("a", "b")],
        [["a", "b"], ("a", "b")],
        [["a", "b"], []],
        ["ab"],
    ]
    for pairs in others:
        with pytest.raises(TypeError) as refused:
            app.words_of(pairs)
        assert app.checks is not None or str(refused.value) == "a pair consists of two ids"
    with pytest.raises(TypeError):
        app.words_of([["a", 3]])
    for bad in ("", "x" * 65):
        with pytest.raises(InvalidInput, match=f"{len(bad)} were sent"):
            app.words_of([["a", "b"], ["a", bad]])
    reading.close()
    ledger.close()
