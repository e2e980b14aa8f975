"""The tests. They mirror `gate/`; `harness/` holds the real servers, cables and waits that they share."""

from __future__ import annotations
