"""A wall clock that a test sets, for any process: libfaketime adds an offset that it reads from a file.

The monotonic clock stays as it is, as it does where a real clock is set. `scripts/install-test-tools` installs the library.
"""

from __future__ import annotations

from pathlib import Path

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class LibraryMissing(RuntimeError):
    """This machine has no libfaketime."""


class FakedClock:
    """Set by `step_to`; `env` makes a process run on it."""

    def __init__(self, directory: Path, ahead_s: float = 0) -> None:
        if not LIBRARIES:
            raise LibraryMissing("libfaketime is not installed: run scripts/install-test-tools")
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "offset"
        self.step_to(ahead_s)
        self.env = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step_to(self, ahead_s: float) -> None:
        """Set the clock's lead over the real one (negative: behind). By a rename, so that no half file is read."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(f"{ahead_s:+.3f}\n")
        draft.replace(self._path)
