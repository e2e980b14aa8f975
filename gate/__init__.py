"""Gate: may A message B? Answered in microseconds from a local Replica.

The public surface for Python programs is `Replica` (a synchronous, thread-safe reader of this node's Replica) and `Verdict`.
"""

from __future__ import annotations

__version__ = "0.1.0"

from gate.core.verdict import Verdict
from gate.replica.reader import Replica

__all__ = ["Replica", "Verdict", "__version__"]
