"""pytest's plugin for `coverage-floors`: its workers may take their time to write what they measured.

xdist kills a worker that has not ended after ten seconds. On a busy machine the data of that worker are lost, without a word.
"""

from __future__ import annotations

from xdist.workermanage import NodeManager

# More than any test may take.
NodeManager.EXIT_TIMEOUT = 600
