"""`make fuzz`: everything that reads strangers' bytes, under a fuzzer that follows the coverage (atheris).

Each target takes any bytes; only the errors that its functions document may escape, and its laws must hold.
"""

from __future__ import annotations
