"""Decision cases that a product person can read, one file a theme, and what reads them.

Every surface that answers "may A message B?" runs the same files: the core, the Replica, the live RESP port and live HTTP.
"""

from __future__ import annotations
