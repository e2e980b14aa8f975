"""Random bytes that are drawn for many ids at once."""

from __future__ import annotations

from gate.presence.id_pool import IDS_A_DRAW, IdPool


def test_none_is_given_twice_across_draws() -> None:
    one, other = IdPool(8), IdPool(8)
    given = [source.next() for _ in range(2 * IDS_A_DRAW + 1) for source in (one, other)]
    assert {len(each) for each in given} == {8}
    assert len(set(given)) == len(given)
