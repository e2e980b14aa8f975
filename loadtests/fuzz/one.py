"""Fuzzes one target in this process: `python -m loadtests.fuzz.one TARGET CORPUS [libFuzzer options]`; it ends the process.

`gate` is loaded under atheris, so that every branch that bytes take is seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gate"]):
    from loadtests.fuzz.targets import TARGETS


def main() -> None:
    """Seed the corpus, then fuzz until time is up or something breaks."""
    name, corpus, *options = sys.argv[1:]
    target = TARGETS[name]
    Path(corpus).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, corpus], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
