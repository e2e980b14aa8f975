"""The `gate` program, also as `python -m gate`.

The first process of a container gets no signal that it has no handler for, so a service that is stopped while it still imports
would not notice. Hence the handlers below come before all imports; `gate.service.supervisor` puts its own in their place.
"""

from __future__ import annotations

import os
import signal
import sys


def _leave(number: int, _frame: object) -> None:
    """Nothing is running yet that would have to be stopped in order."""
    os._exit(0 if number == signal.SIGTERM else 130)


if sys.argv[1:2] == ["serve"]:
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)

from gate.cli import main  # noqa: E402 - as above

__all__ = ["main"]

if __name__ == "__main__":
    main()
