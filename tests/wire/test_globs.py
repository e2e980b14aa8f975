"""Patterns of strangers: what they fit, and what they may cost."""

from __future__ import annotations

import pytest

from gate.wire.listing import MAX_PATTERN_BYTES, alike
from tests.wire.peer import Peer


@pytest.mark.parametrize(
    ("pattern", "found"),
    [(b"*", ["save", "maxmemory"]), (b"MAX*", ["maxmemory"]), (b"sav?", ["save"]), (b"[st]ave", ["save"]), (b"x", [])],
)
def test_a_pattern_fits_as_in_redis(pattern: bytes, found: list[str]) -> None:
    assert alike(["save", "maxmemory"], pattern) == found


def test_long_patterns_are_refused_before_they_are_compiled(stranger: Peer, peer: Peer) -> None:
    """A pattern of 60,000 bytes took 0.4 s, during which no client was answered, and it was kept."""
    long = b"*a" * MAX_PATTERN_BYTES
    for refusal in (stranger.error("CONFIG", "GET", long), peer.error("COMMAND", "LIST", "FILTERBY", "PATTERN", long)):
        assert refusal == f"ERR a pattern has at most {MAX_PATTERN_BYTES} bytes here: send a shorter one, or * for all"
    assert stranger.error("CONFIG", "GET", *["*"] * 9).startswith("ERR wrong number of arguments for 'config'")
