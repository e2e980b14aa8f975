"""The compiled core's two Python objects: refusals, and the state after a failed opening."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from gate import native
from gate.core.model import FOREVER_MS, AppFacts, UserFacts
from gate.replica.layout import pack_check_settings
from gate.replica.native_core import write_facts_file

core = native.core
pytestmark = pytest.mark.skipif(core is None, reason=native.why_not)

PLAIN = pack_check_settings(1, AppFacts(key="app", secrets=()))


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(65_536), b"\xff" * 65_536])
def test_what_is_no_facts_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert core is not None
    path = tmp_path / "facts.mdb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not an LMDB file"):
        core.Snapshot(str(path))


def test_a_failed_opening_closes_no_descriptor_of_others(tmp_path: Path) -> None:
    assert core is not None
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (7, "no\0path", "\ud800", str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises((TypeError, ValueError, OSError)):
            core.Snapshot(path)
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_nothing_is_read_from_a_closed_or_foreign_snapshot(tmp_path: Path) -> None:
    assert core is not None
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, {b"a": UserFacts(registered=True)}, [])
    snapshot, checks = core.Snapshot(path), core.Checks(10, bytes(16))
    assert not checks.is_set and checks.may_send_now("a", "b") is None
    checks.adopt(snapshot, PLAIN)
    with pytest.raises(core.Damaged, match="no transaction"):
        checks.word(b"a", b"b")
    assert not snapshot.at(99), "there is no such commit"
    assert snapshot.at(1)
    assert checks.word(b"a", b"b") == "allowed"
    assert checks.may_send_now("a", "b") is None, "nothing says how to begin"
    snapshot.close()
    snapshot.close()
    with pytest.raises(core.Damaged):
        checks.word(b"new", b"b")


@pytest.mark.parametrize("ids", [("", "b"), ("a", "x" * 65), (b"a", b""), ("é" * 33, "b")])
def test_an_id_of_a_wrong_length_is_an_index_error(tmp_path: Path, ids: tuple[str | bytes, str | bytes]) -> None:
    assert core is not None
    checks = core.Checks(10, bytes(16))
    for ask in (checks.word, checks.may_send_now):
        with pytest.raises(IndexError):
            ask(*ids)
    with pytest.raises(ValueError):
        core.Checks(10, b"short")


def test_a_small_cache_starts_over_and_answers_the_same(tmp_path: Path) -> None:
    assert core is not None
    path = str(tmp_path / "facts.mdb")
    users = [b"%d" % number + b"-" * (number % 50) for number in range(3_000)]
    write_facts_file(path, {user: UserFacts(deactivated=number % 3 == 0) for number, user in enumerate(users)}, [])
    for most in (1, 7, 100_000):
        snapshot, checks = core.Snapshot(path), core.Checks(most, os.urandom(16))
        assert snapshot.at(1)
        exempt = frozenset(str(number) for number in range(500))
        checks.adopt(snapshot, pack_check_settings(0x010203, AppFacts(key="app", secrets=(), exempt=exempt)))
        for _ in range(2):
            words = checks.words_to(b"somebody", users)
            assert [word == "recipient-deactivated" for word in words] == [number % 3 == 0 for number in range(3_000)]
        checks.forget(users[1])
        checks.forget(b"")
        checks.forget(b"y" * 65)
        assert checks.word(b"somebody", users[1]) == "allowed"


@pytest.mark.parametrize(
    "settings",
    [b"", PLAIN[:4], b"\1" + PLAIN[1:], PLAIN[:4] + b"\x20", PLAIN[:4] + b"\x0c", PLAIN + b"\0", PLAIN + b"\2a"],
)
def test_settings_of_another_form_are_refused(tmp_path: Path, settings: bytes) -> None:
    assert core is not None
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, {b"a": UserFacts(registered=True)}, [])
    with pytest.raises(core.Damaged, match=r"App's settings|exempt sender"):
        core.Checks(10, bytes(16)).adopt(core.Snapshot(path), settings)


def test_a_value_on_pages_of_its_own_is_read(tmp_path: Path) -> None:
    assert core is not None
    values = {b"%d" % size: os.urandom(size) for size in (1_900, 2_100, 4_080, 4_081, 70_000)}
    path = str(tmp_path / "facts.mdb")
    with lmdb.open(path, subdir=False, map_size=1 << 24, lock=False) as env, env.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)
    snapshot = core.Snapshot(path)
    assert snapshot.at(1)
    assert {key: snapshot.get(key) for key in values} == values


class Raw(bytes):
    """Some libraries have such ids."""


def test_ids_may_be_of_a_subclass(tmp_path: Path) -> None:
    assert core is not None
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, {b"a": UserFacts(registered=True)}, [])
    snapshot, checks = core.Snapshot(path), core.Checks(10, bytes(16))
    checks.adopt(snapshot, PLAIN)
    assert snapshot.at(1)
    assert checks.word(Raw(b"a"), Raw(b"b")) == checks.word(b"a", b"b") == "allowed"
    snapshot.close()


WITHOUT_ROOM = """
import resource, sys, lmdb
from gate.native import core
env = lmdb.open(sys.argv[1], subdir=False, map_size=1 << 28, sync=False)
with env.begin(write=True) as txn:
    txn.put(b"a", b"1")
snapshot = core.Snapshot(sys.argv[1])
with env.begin(write=True) as txn:
    for number in range(200):
        txn.put(b"%03d" % number, bytes(500_000))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 24), -1))
for _ in range(4):
    with env.begin() as txn:
        print(snapshot.at(txn.id()) and snapshot.get(b"199"))
"""


def test_a_file_that_grew_past_the_address_space_is_left_to_python(tmp_path: Path) -> None:
    assert core is not None
    command = [sys.executable, "-c", WITHOUT_ROOM, str(tmp_path / "grown.mdb")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, set(ended.stdout.splitlines())) == (0, {"False"}), ended


def test_pairs_of_text_and_nothing_else_are_looked_at_once(tmp_path: Path) -> None:
    assert core is not None
    path = str(tmp_path / "facts.mdb")
    write_facts_file(path, {b"a": UserFacts(registered=True), b"bad": UserFacts(muted_until_ms=FOREVER_MS)}, [])
    snapshot, checks = core.Snapshot(path), core.Checks(10, bytes(16))
    checks.adopt(snapshot, pack_check_settings(0x010203, AppFacts(key="app", secrets=())))
    assert snapshot.at(1)
    pairs: list[object] = [["a", "b"], ["bad", "a"], ["a", "bad"], ["é", "\0"]]
    words = ["allowed", "sender-muted", "allowed", "allowed"]
    assert checks.words_of(pairs) == (words, {"allowed": 3, "sender-muted": 1})
    assert checks.words_of([]) == ([], {})
    wrong: list[object] = [
        None,
        "ab",
        ("a", "b"),
        ["a"],
        ["a", "b", "c"],
        ["a", None],
        [1, "b"],
        [["a"], "b"],
        {"a": "b"},
    ]
    for pair in wrong:
        with pytest.raises(TypeError):
            checks.words_of([["a", "b"], pair])
    for pair in (["", "b"], ["a", "x" * 65]):
        with pytest.raises(IndexError):
            checks.words_of([pair])
    with pytest.raises(TypeError):
        checks.words_of(None)
