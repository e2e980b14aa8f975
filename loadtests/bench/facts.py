"""The benchmark's facts: made up, but the same for every system, and made again from a seed rather than kept in memory.

At scale 1: a million Users with ids of 12 digits, so that `redis-benchmark`'s `__rand_int__` draws real Users. Every fifth
owns a list of 1 to 49 entries, 25 on average, hence five million edges. A fifth of the owners have their Whitelist on and
keep that; the others keep a Blacklist. A tenth of the Blacklist entries have an end. One User in a hundred is banned and one
in two hundred muted, all for longer than the benchmark runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from gate.clock import wall_ms
from gate.core.model import ListKind

USERS_AT_SCALE_1 = 1_000_000
LEAST_USERS = 1_000
OWNER_EVERY = 5
WHITELIST_EVERY_OWNER = 5
LARGEST_LIST = 49
ENDING_SHARE = 10
"""One entry in so many ends."""
BANNED_EVERY, BANNED_AT = 100, 7
MUTED_EVERY, MUTED_AT = 200, 11
DAY_MS = 86_400_000
SEED = 20_041_015
# A prime far above any number of Users: multiplying by it shuffles ranks, so that popularity says nothing of the facts.
SHUFFLE = 2_147_483_647


class OwnedList(NamedTuple):
    """One owner's list. The members in `ending` end at the fact set's `until_ms`, the others never."""

    kind: ListKind
    owner: int
    members: list[int]
    ending: list[int]


def user_id(number: int) -> bytes:
    """12 bytes."""
    return b"%012d" % number


class FactSet:
    """Facts at one scale. Iterating twice gives the same."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.users = max(LEAST_USERS, round(USERS_AT_SCALE_1 * scale))
        self.until_ms = wall_ms() + 30 * DAY_MS

    @property
    def banned(self) -> range:
        return range(BANNED_AT, self.users, BANNED_EVERY)

    @property
    def muted(self) -> range:
        return range(MUTED_AT, self.users, MUTED_EVERY)

    def lists(self) -> Iterator[OwnedList]:
        """Every list. The members of one are distinct."""
        rng = random.Random(SEED)
        everyone = range(self.users)
        for nth, owner in enumerate(range(0, self.users, OWNER_EVERY)):
            members = list(dict.fromkeys(rng.choices(everyone, k=rng.randint(1, LARGEST_LIST))))
            if nth % WHITELIST_EVERY_OWNER == 0:
                yield OwnedList(ListKind.WHITELIST, owner, members, [])
            else:
                cut = len(members) - len(members) // ENDING_SHARE
                yield OwnedList(ListKind.BLACKLIST, owner, members[:cut], members[cut:])

    def edges(self) -> int:
        """How many list entries there are."""
        return sum(len(owned.members) + len(owned.ending) for owned in self.lists())
