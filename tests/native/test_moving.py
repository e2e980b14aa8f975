"""Readers of the compiled core while another process commits: no snapshot is torn."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from gate import Replica, native
from gate.replica.layout import current_facts
from gate.replica.reading import Reading
from tests.replica.ledger import Ledger, app_facts, said

pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)

SECONDS = 4.0
READERS = 2
WRITER = """
import sys, time
from pathlib import Path
from gate.replica.writer import FactsFile
from gate.core.changes import Change
from gate.core.model import FOREVER_MS
from gate.core.revision import Position

def said(kind, user, *members):
    return Change(0, kind, 1, "", "", "app", user, FOREVER_MS, members, b"")

file = FactsFile.open(Path(sys.argv[1]))
position = file.positions[0]
end, turn = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    turn += 1
    out, back = (b"left", b"right") if turn % 2 else (b"right", b"left")
    fresh = b"%d-" % turn + b"f" * 40
    changes = [said("ban-imposed", out), said("ban-lifted", back), said("blocked", b"owner", fresh)]
    changes.append(said("blocked", fresh, b"left", b"right"))
    changes.append(said("blocked" if out == b"right" else "unblocked", b"guard", b"left"))
    if turn > 50:
        changes.append(said("unblocked", b"owner", b"%d-" % (turn - 50) + b"f" * 40))
    batch = []
    for seq, change in enumerate(changes, position.seq + 1):
        tip = f"{seq:016x}"
        batch.append(change._replace(seq=seq, write_id=tip, previous_write_id=position.tip))
        position = Position(position.epoch, seq, tip)
    file.apply({0: batch}, 1)
print(turn, flush=True)
file.close()
"""


def test_no_snapshot_is_torn(tmp_path: Path) -> None:
    """Of `left` and `right` one is banned in every commit: an answer that says both or neither mixed two.

    `left` is on the list of `guard` while it is not banned, so it may never message it.
    """
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    ledger.commit(said("ban-imposed", b"right"), said("blocked", b"guard", b"left"))
    path = current_facts(ledger.directory)
    ledger.close()
    faults: list[object] = []
    asked = [0] * READERS
    end = time.monotonic() + SECONDS

    def read(index: int) -> None:
        try:
            with Replica.open(ledger.directory, app="app") as replica, closing(Reading(ledger.directory)) as pair:
                while time.monotonic() < end:
                    stranger = f"{asked[index]}-" + "f" * 40
                    answers = replica.may_send_many("friend", [stranger, "owner"])
                    # Behind a question that takes up what moved, this is read without a transaction, and not from the cache.
                    if replica.may_send("left", "guard"):
                        faults.append("read of two commits")
                    banned = [replica.may_send(who, "friend") for who in ("left", "right")]
                    pair.refresh()
                    app = pair.app("app")
                    assert app is not None and app.checks is not None and app.checks.is_set
                    words = app.words([b"left", b"right"], [b"friend", b"friend"])
                    pair.release()
                    if sorted(words) != ["allowed", "sender-banned"] or answers != [True, True] or len(banned) != 2:
                        faults.append((words, answers))
                    asked[index] += 1
        except BaseException as fault:  # noqa: BLE001 (a thread's fault must fail the test)
            faults.append(fault)

    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(SECONDS)], stdout=subprocess.PIPE, text=True
    )
    threads = [threading.Thread(target=read, args=(index,)) for index in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commits, _ = writer.communicate(timeout=30)
    assert faults == []
    assert writer.returncode == 0 and int(commits) > 100 and min(asked) > 100
