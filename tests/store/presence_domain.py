"""What the state machine of Presence draws from: few values, so that they meet often."""

from __future__ import annotations

APP = "default"
USERS = [b"ann", b"\0", b"a:b:c", "é".encode("latin-1"), b"}:left"]
GATEWAYS = [b"edge-1", b"1:iOS:edge", b"*", b"1"]
PLATFORMS = ["iOS", "Web", "1"]
MOST_SESSIONS = 4
MOST_GATEWAYS = 3
NOON_US = 1_800_000_000_000_000
LOGS = [("a1", 1), ("a1", 2), ("a1", 3), ("b2", 1)]
ALL_ENTRIES = 10_000
MOST_REPEATS = 50
