"""The core under AddressSanitizer and UndefinedBehaviorSanitizer, over bent pages and bent commands.

`GATE_FUZZ_SECONDS` and `GATE_TEST_SEED` search longer or elsewhere. `make chaos` begins with ten minutes of it.
The program breaks each bound of the walk and of the records on purpose as well, and requires that it is noticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from gate.core.model import FOREVER_MS, NO_FACTS, ListKind, UserFacts
from gate.replica import native_core
from gate.replica.native_core import Entry, write_facts_file
from harness.seeds import EXAMPLES, seed

NATIVE = Path(native_core.__file__).parents[1] / "native"
SANITIZED = ["-g", "-O1", "-std=c11", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
SECONDS = os.environ.get("GATE_FUZZ_SECONDS", "20")
SEED = seed(1)
OF_THE_MODULE = [f"tests/native/test_{one}.py" for one in ("moving", "rules", "answers", "objects")]

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
    monkeypatch.setattr(native_core, "APP_NUMBER", 1)
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
    with lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"long", b"\xff" * 10_000)  # on pages of its own, which are not the last ones
    write_facts_file(str(path), users, entries)
    return path


@pytest.mark.timeout(200 + int(SECONDS))
def test_no_bent_byte_leads_out_of_a_page_or_a_buffer(program: Path, facts: Path) -> None:
    ended = subprocess.run(
        [str(program), str(facts), str(SEED), SECONDS], capture_output=True, text=True, timeout=100 + int(SECONDS)
    )
    assert ended.returncode == 0, ended.stderr[-4_000:]
    rounds, whole, answered = map(int, ended.stdout.split())
    assert rounds > 10 and whole > rounds // 4 and answered > 10_000


@pytest.mark.timeout(400)
def test_the_module_itself_under_the_sanitizers(program: Path, tmp_path: Path) -> None:
    """The tests of this folder that use it, Changes applied by another process among them, in a copy with such a build."""
    repository = NATIVE.parents[1]
    for name in ("gate", "harness", "tests", "setup.py", "pyproject.toml", "requirements.in", "README.md", "LICENSE"):
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, tmp_path / name)
    for old in (tmp_path / "gate/native").glob("*.so"):
        old.unlink()
    flags = " ".join(one for one in SANITIZED if one.startswith(("-fs", "-fn", "-g")))
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(build, cwd=tmp_path, env=os.environ | {"GATE_NATIVE_CFLAGS": flags}, check=True, capture_output=True)
    [core] = (tmp_path / "gate/native").glob("_core*.so")
    assert b"__asan_" in core.read_bytes()
    libraries = (
        subprocess.check_output(["cc", f"-print-file-name=lib{one}.so"], text=True) for one in ("asan", "ubsan")
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "LD_PRELOAD": " ".join(one.strip() for one in libraries),
        # It is five times slower: what the draws find without the sanitizers, the same tests find next to this one.
        EXAMPLES: os.environ.get(EXAMPLES, "0.2"),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves much at its end
    }
    where = f"import gate.native as n; assert n.core.__file__ == {str(core)!r}, n.core.__file__"
    for command in (["-c", where], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *OF_THE_MODULE]):
        ended = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr[-4_000:]
