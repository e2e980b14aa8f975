"""`gate check --json` never shows a Revision that is newer than its verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from gate.cli.check import check
from gate.core.verdict import Verdict
from gate.replica.app_reading import AppReading
from tests.replica.ledger import Ledger, app_facts, said


def test_the_revision_is_read_before_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write becomes effective between the two: a client that demands its Revision must not get this verdict."""
    ledger = Ledger(tmp_path, 1, app_facts())
    before = ledger.revision
    decide = AppReading.decide

    def then_banned(app: AppReading, sender: bytes, recipient: bytes, now_ms: int) -> Verdict:
        decided = decide(app, sender, recipient, now_ms)
        ledger.commit(said("ban-imposed", b"a"))
        return decided

    monkeypatch.setattr(AppReading, "decide", then_banned)
    with pytest.raises(typer.Exit):
        check(sender="a", recipient="b", min_revision=None, data=tmp_path, app="app", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["verdict"], shown["revision"]) == ("allowed", str(before))
    ledger.close()
