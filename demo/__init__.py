"""Gate on real input: a real trust network as bans and lists, and every message of a real trace as one check."""

from __future__ import annotations
