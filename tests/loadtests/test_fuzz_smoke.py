"""Every fuzzed reader, on its seeds and on some thousand inputs made from them; `make fuzz` follows the coverage."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from harness.seeds import seed
from loadtests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEED = seed(20_261_128)
INPUTS = 4_000


def changed(chance: random.Random, one: bytes, other: bytes) -> bytes:
    """One input: some bytes changed, taken out or put in, or two inputs joined."""
    data = bytearray(one if chance.random() < 0.8 else one[: chance.randrange(len(one) + 1)] + other)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case _:
                data[at:at] = chance.choice([b"\r\n", b"\0", b"%", b'"', b"-1", b"*", b"$9", chance.randbytes(4)])
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors_escape(name: str) -> None:
    target = TARGETS[name]
    chance = random.Random(SEED)
    for known in (b"", *target.seeds):
        target.run(known)
    for _ in range(INPUTS):
        target.run(changed(chance, chance.choice(target.seeds), chance.choice(target.seeds)))


def test_the_fuzzer_runs(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 only")
    command = [sys.executable, "-m", "loadtests.fuzz", "--seconds", "1", "--only", "cursors"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
