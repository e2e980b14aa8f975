"""`gate.Replica` where a program forks, from several threads too; with the compiled core and without.

Each runs in a process of its own: what is looked at is how processes end, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gate import native
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import StatusPage
from tests.replica.ledger import Ledger, app_facts, said

BEGIN = """
import gc, os, sys, threading, time
from pathlib import Path
from gate import Replica
from gate.errors import ReplicaError
directory = Path(sys.argv[1])
sys.setswitchinterval(1e-5)

def ask(replica):
    assert replica.may_send("a", "b") and not replica.may_send("right", "b")
    assert replica.may_send_many("right", ["a", "b"]) == [False, False]
    assert not replica.verdict("right", "b").allowed
    assert replica.explain("a", "b")["verdict"] == "allowed"
    assert replica.status.file == "facts-1.mdb"

def ended(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""
CHILDREN_END = """
for turn in range(12):
    replica = Replica.open(directory, app="app")
    ask(replica)
    child = os.fork()
    if child == 0:
        try:
            replica.may_send("a", "b")
        except ReplicaError as fault:
            assert "forked" in str(fault)
        else:
            os._exit(3)
        if turn % 3 == 0:
            replica.close()
        if turn % 2:
            del replica
        gc.collect()
        sys.exit(0)  # as a program ends that has forked by itself: everything is let go of
    ended(child)
    ask(replica)
    replica.close()
"""
THREADS_ASK = """
replica = Replica.open(directory, app="app")
until = time.monotonic() + 2
asked = [0, 0, 0]

def go_on(index):
    while time.monotonic() < until:
        with Replica.open(directory, app="app") as another:  # opening is when locks are held
            ask(another)
        ask(replica)
        asked[index] += 1

threads = [threading.Thread(target=go_on, args=(index,)) for index in range(3)]
for thread in threads:
    thread.start()
forks = 0
while time.monotonic() < until:
    forks += 1
    child = os.fork()
    if child == 0:
        replica.close()
        del replica
        gc.collect()
        sys.exit(0) if forks % 2 else os._exit(0)
    ended(child)
for thread in threads:
    thread.join()
assert forks > 1 and min(asked) > 0, (forks, asked)
ask(replica)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    ledger.commit(said("ban-imposed", b"right"))
    StatusPage(ledger.directory / BOARD_FILE, write=True).close()
    ledger.close()
    return ledger.directory


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["1", "0"], ids=["core", "python"])
@pytest.mark.parametrize("program", [CHILDREN_END, THREADS_ASK], ids=["children", "threads"])
def test_nothing_is_taken_from_those_who_go_on(program: str, compiled: str, directory: Path) -> None:
    if compiled == "1" and native.core is None:
        pytest.skip(native.why_not)
    environment = os.environ | {"GATE_NATIVE": compiled}
    command = [sys.executable, "-X", "faulthandler", "-c", BEGIN + program, str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
