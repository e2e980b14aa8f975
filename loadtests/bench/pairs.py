"""The pairs that every system is asked: one uniform set and one where few Users get most of the traffic (Zipf 1.1)."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Literal

from loadtests.bench.facts import SHUFFLE, user_id

Spread = Literal["uniform", "zipf"]
Pair = tuple[bytes, bytes]
ZIPF_EXPONENT = 1.1
PAIR_SEEDS: dict[Spread, int] = {"uniform": 1, "zipf": 2}


def make_pairs(spread: Spread, users: int, count: int, round_number: int = 0) -> list[Pair]:
    """`count` pairs of (sender, recipient), the same for every call with the same arguments."""
    rng = random.Random(PAIR_SEEDS[spread] * 1_000 + round_number)
    if spread == "uniform":
        return [(user_id(rng.randrange(users)), user_id(rng.randrange(users))) for _ in range(count)]
    weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(users)))
    drawn = rng.choices(range(users), cum_weights=weights, k=2 * count)
    ids = [user_id(rank * SHUFFLE % users) for rank in drawn]
    return list(zip(ids[::2], ids[1::2], strict=True))
