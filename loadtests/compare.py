"""`make bench`: see `loadtests.bench.comparison`."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # each process of the load client imports this file again, and needs nothing of it
    from loadtests.bench.comparison import main

    sys.exit(main())
