"""Ids of Sessions, whose random bytes are drawn for many at once."""

from __future__ import annotations

from gate.core.presence import session_parts
from gate.presence.gateway import IDS_A_DRAW, IdPool


def test_none_is_given_twice_across_draws() -> None:
    one, other = IdPool(), IdPool()
    given = [source.next(b"ann") for _ in range(2 * IDS_A_DRAW + 1) for source in (one, other)]
    assert {session_parts(each)[1] for each in given} == {b"ann"}
    assert len(set(given)) == len(given)
