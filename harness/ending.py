"""Orderly end of a program that has started servers: a signal leaves every `with`.

Called by `make bench`, `make load` and `make demo`.
"""

from __future__ import annotations

import signal
import sys


def exit_on_signals() -> None:
    """SIGTERM and SIGINT raise SystemExit with a shell's status for them, so that every `with` is left.

    A shell starts background jobs with SIGINT ignored; this sets a handler nevertheless. Main thread only.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
