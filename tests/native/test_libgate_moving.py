"""libgate under sanitizers, over bent files and with many threads; and next to a live node.

`GATE_FUZZ_SECONDS` and `GATE_TEST_SEED` search longer or elsewhere.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.files import identity_of
from gate.replica.layout import current_facts
from gate.replica.status_page import NEVER_FRESH_MS, StatusPage
from harness.seeds import seed
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.native.libgate import REPOSITORY, Library, Refused
from tests.replica.ledger import Ledger, app_facts, said

HERE = Path(__file__).parent
NATIVE = REPOSITORY / "gate" / "native"
SOURCES = [str(NATIVE / name) for name in ("tree.c", "users.c", "reader.c", "libgate.c")]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-std=c11", "-D_GNU_SOURCE", "-g", "-O1"]
SECONDS = os.environ.get("GATE_FUZZ_SECONDS", "6")
SEED = seed(1)
MOVING_S = 6
EFFECT_S = 5.0


def sanitized(sanitizers: str, program: str, made: Path) -> Path:
    """The program with libgate's sources, or the test is skipped."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    options = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    if sanitizers == "thread":
        # It knows no fences, and the one that there is orders what other processes write; and it leaves a program 1.5 TiB of
        # addresses, where two files that are open at once take two.
        options += ["-Wno-tsan", "-DMAP_BYTES=((size_t)1<<34)"]
    built = subprocess.run(
        ["cc", *STRICT, *options, "-o", made, *SOURCES, HERE / program, "-llmdb", "-lpthread"],
        capture_output=True,
        text=True,
    )
    for missing in ("cannot find -l", "lmdb.h"):
        if built.returncode != 0 and missing in built.stderr:
            pytest.skip(f"can't be built here: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    return made


def test_no_bent_byte_of_a_file_ends_the_process(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sound", 1, app_facts(exempt=frozenset(f"official{n}-" + "o" * 40 for n in range(200))))
    ledger.commit(*(said("blocked", b"owner%d" % n, b"ana", b"bob") for n in range(500)), said("ban-imposed", b"bob"))
    ledger.close()
    program = sanitized("address,undefined", "fuzz_libgate.c", tmp_path / "fuzz")
    (tmp_path / "bent").mkdir()
    command = [str(one) for one in (program, ledger.file.path, tmp_path / "bent", "app", SEED, SECONDS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100 + int(SECONDS))
    assert ended.returncode == 0, ended.stderr[-4_000:]
    rounds, opened, answered = map(int, ended.stdout.split())
    assert rounds > 20 and opened > rounds // 4 and answered > rounds


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_many_threads_while_commits_and_other_files_come(tmp_path: Path, sanitizers: str) -> None:
    ledger = Ledger(tmp_path, 1, app_facts())
    ledger.commit(said("blocked", b"left", b"asker"))
    status_page = StatusPage(tmp_path / "board", write=True)
    status_page.use(1, identity_of(ledger.file.path))
    program = sanitized(sanitizers, "threads_libgate.c", tmp_path / "threads")
    asking = subprocess.Popen(
        [program, tmp_path, "app", str(MOVING_S)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    asking.stdout.readline()  # it has opened the handle, or ended
    commits = files = 0
    for turn in itertools.count():
        if asking.poll() is not None:
            break
        out, back = (b"right", b"left") if turn % 2 == 0 else (b"left", b"right")
        ledger.commit(said("blocked", out, b"asker"), said("unblocked", back, b"asker"))
        commits += 1
        if turn % 100 == 99:
            following = Ledger(tmp_path, turn, app_facts("other"), app_facts(), current=False)
            following.commit(said("blocked", b"left", b"asker"))
            ledger.replace(following)
            status_page.use(turn, identity_of(following.file.path))
            ledger.close()
            ledger.file.path.unlink()
            ledger, files = following, files + 1
        time.sleep(0.001)  # the pace of the writer, not a wait
    said_last, errors = asking.communicate(timeout=60)
    if "unexpected memory mapping" in errors:
        pytest.skip(f"ThreadSanitizer does not run on this kernel: {errors[:200]}")
    ledger.close()
    status_page.close()
    assert asking.returncode == 0, errors[-4_000:]
    asked, changed, wrong, threads = map(int, said_last.split())
    assert wrong == 0, errors[-2_000:]
    assert asked > 1_000 and changed > 50 and commits > 100 and files > 2 and threads > 16


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateService]:
    services = Services(lambda: tmp_path_factory.mktemp("libgate-node"))
    yield services.start()
    services.end_all()


def test_a_live_node(node: GateService, libgate: Library) -> None:
    """A Ban, a list, settings and a fresh snapshot show in the next answer; a stop of the node shows as staleness."""
    key = node.credentials.app_key
    gate = Command(node.data, key)
    libgate.open(node.data, key)
    assert libgate.status() == (True, 0)
    assert libgate.verdict(b"ana", b"bob") == ("allowed", None)
    gate("ban", "ana", "--for", "1h")
    word, until_ms = libgate.verdict(b"ana", b"bob")
    assert word == "sender-banned" and until_ms is not None and 0 < until_ms / 1_000 - time.time() <= 3_600
    gate("unban", "ana")
    assert libgate.may_send(b"ana", b"bob") == 1
    gate("blacklist", "add", "bob", "ana")
    assert libgate.verdict(b"ana", b"bob") == ("blacklisted", None)
    gate("app", "set", key, "--exempt", "ana")
    wait_until(lambda: libgate.may_send(b"ana", b"bob") == 1, EFFECT_S, "the exempt sender")
    gate("app", "set", key, "--unexempt", "ana")
    wait_until(lambda: libgate.may_send(b"ana", b"bob") == 0, EFFECT_S, "the sender that is exempt no more")

    before = current_facts(node.data / "replica")
    gate("replica", "rebuild")
    wait_until(lambda: current_facts(node.data / "replica") != before, 20, "a fresh snapshot")
    gate("blacklist", "remove", "bob", "ana")
    assert libgate.verdict(b"ana", b"bob") == ("allowed", None)
    assert libgate.status() == (True, 0)

    gate("ban", "ana", "--permanent")
    node.stop()
    assert libgate.may_send(b"ana", b"bob") == 0, "it answers from the facts that there are"
    wait_until(lambda: 1_000 < libgate.status()[1] < NEVER_FRESH_MS, EFFECT_S, "staleness to show")
    with pytest.raises(Refused, match="no App has the key"):
        libgate.open(node.data, "another")
    libgate.open(node.data, key)
    assert libgate.may_send(b"ana", b"bob") == 0
