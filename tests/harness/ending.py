"""A program that starts servers and is told to end stops them first.

Called by `make bench`, `make load` and `make demo`.
"""

from __future__ import annotations

import signal
import sys


def end_orderly_when_told() -> None:
    """SIGTERM and SIGINT raise SystemExit with a shell's status for them, so that every `with` is left.

    A shell starts what it puts into the background with SIGINT ignored; this heeds it all the same. Main thread only.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
