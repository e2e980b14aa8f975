"""The compiled core of checks: `core` is its module, or None if it could not be built or is switched off.

It is optional: its callers have the same code in Python (`gate.replica.app_reading`, `gate.wire`), and use that if `core` is
None or does not answer. `GATE_NATIVE=0` in the environment switches it off.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gate.native._core import Checks, Snapshot, Socket, Sockets
else:
    Checks = Snapshot = Socket = Sockets = object

__all__ = ["Checks", "Snapshot", "Socket", "Sockets", "core", "why_not"]

VARIABLE = "GATE_NATIVE"

NOT_BUILT = "not built: it takes a C compiler and Python's headers (apt-get install gcc python3-dev, then make setup)"
SWITCHED_OFF = f"switched off by {VARIABLE}=0"


def _found() -> tuple[ModuleType | None, str]:
    if os.environ.get(VARIABLE) == "0":
        return None, SWITCHED_OFF
    try:
        from gate.native import _core
    except ImportError:
        return None, NOT_BUILT
    except Exception as fault:  # noqa: BLE001 - of an older build; it is shown, and Python answers
        return None, f"not used: it belongs to another version of Gate, build it again (make setup): {fault!r}"
    return _core, ""


core, why_not = _found()
