"""Gate: may A message B? Answered in microseconds from a local Replica.

The public surface for Python programs is `Replica` (a synchronous, thread-safe reader of this node's Replica) and `Verdict`.
They are imported when first asked for: Gate's own processes start faster without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gate.core.verdict import Verdict
    from gate.replica.reader import Replica

__version__ = "0.8.1"

__all__ = ["Replica", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Replica":
        from gate.replica.reader import Replica

        return Replica
    if name == "Verdict":
        from gate.core.verdict import Verdict

        return Verdict
    raise AttributeError(f"module 'gate' has no attribute {name!r}")
