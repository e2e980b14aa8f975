"""The HTTP surface: `/user/*.json` as RongCloud words it, `/v1/*` for what that API lacks, and the pages that operators
probe.

Reads come from this node's Replica, writes go to the store and are answered once they are effective. `app.py` is the
place to start: it holds the table of endpoints and the few steps that every request takes.
"""

from __future__ import annotations
