"""The core under AddressSanitizer and UndefinedBehaviorSanitizer, over bent pages and bent commands.

`GATE_FUZZ_SECONDS` and `GATE_FUZZ_SEED` search longer or elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS, NO_FACTS, ListKind, UserFacts
from gate.replica import native_core
from gate.replica.native_core import Entry, written

NATIVE = Path(native_core.__file__).parents[1] / "native"
SANITIZED = ["-g", "-O1", "-std=c11", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
SECONDS = os.environ.get("GATE_FUZZ_SECONDS", "8")
SEED = os.environ.get("GATE_FUZZ_SEED", "1")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fuzz") / "fuzz"
    sources = [str(NATIVE / name) for name in ("tree.c", "users.c", "resp.c")]
    built = subprocess.run(
        ["cc", *SANITIZED, *STRICT, "-o", str(made), *sources, "-x", "c", str(Path(__file__).with_name("fuzz.c"))],
        capture_output=True,
        text=True,
    )
    if "asan" in built.stderr or "ubsan" in built.stderr:
        pytest.skip(f"no sanitizers: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    return made


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 Users, each with ten entries on one of its lists."""
    monkeypatch.setattr(native_core, "_APP_NUMBER", 1)
    names = [b"ana", b"bob", b"carl", b"x", b"exactly-twenty-bytes", *(b"u%d" % number for number in range(200))]
    kinds = [ListKind(number % 2) for number in range(len(names))]
    sizes = {
        ListKind.BLACKLIST: UserFacts(blacklist_size=10),
        ListKind.WHITELIST: UserFacts(whitelist_size=10, whitelist_on=True),
    }
    users = {name: sizes[kind] for name, kind in zip(names, kinds, strict=True)} | {
        b"bob": UserFacts(banned_until_ms=FOREVER_MS),
        b"carl": NO_FACTS,
    }
    entries = [
        Entry(kind, name, names[(at * 7 + step) % len(names)], FOREVER_MS if step % 2 else 5)
        for at, (name, kind) in enumerate(zip(names, kinds, strict=True))
        for step in range(10)
        if users[name] != NO_FACTS
    ]
    path = tmp_path / "facts.mdb"
    written(str(path), users, entries)
    return path


def test_no_bent_byte_leads_out_of_a_page_or_a_buffer(program: Path, facts: Path) -> None:
    ended = subprocess.run(
        [str(program), str(facts), SEED, SECONDS], capture_output=True, text=True, timeout=100 + int(SECONDS)
    )
    assert ended.returncode == 0, ended.stderr[-4_000:]
    rounds, whole, answered = map(int, ended.stdout.split())
    assert rounds > 10 and whole > rounds // 4 and answered > 10_000
