"""Reads the two data sets and derives the demo's facts from them, as `data/README.md` defines both.

Users stay numbers here; they become ids where they leave for the service.
"""

from __future__ import annotations

import csv
import io
import lzma
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"
WHITELIST_FROM_RATINGS = 50
"""Given ratings from which on a user accepts only those it trusts."""
BANNED_AT_RATING = -20
"""The sum of received ratings at which a user is banned."""


class Rating(NamedTuple):
    """One user's judgement of another, from -10 to +10, never 0."""

    rater: int
    rated: int
    rating: int


class Message(NamedTuple):
    """One message of the trace."""

    sender: int
    recipient: int


class Facts(NamedTuple):
    """The facts that the service gets before the trace runs."""

    blacklists: dict[int, set[int]]
    whitelists: dict[int, set[int]]
    """Of users whose whitelist is on; a set may be empty."""
    banned: set[int]

    @property
    def blacklist_entries(self) -> int:
        return sum(map(len, self.blacklists.values()))

    @property
    def whitelist_entries(self) -> int:
        return sum(map(len, self.whitelists.values()))


def read_messages() -> list[Message]:
    """The trace, in order of time."""
    _, *lines = _text("college-msg.txt.xz").splitlines()
    return [Message(int(sender), int(recipient)) for sender, recipient, _ in map(str.split, lines)]


def read_ratings() -> list[Rating]:
    """The trust network."""
    rows = csv.reader(io.StringIO(_text("bitcoin-otc.csv.xz")))
    return [Rating(int(rater), int(rated), int(rating)) for rater, rated, rating, _ in rows]


def derive_facts(ratings: list[Rating]) -> Facts:
    """Blacklists shared among those who trust each other; whitelists of the busy; bans of the distrusted."""
    trusts: defaultdict[int, set[int]] = defaultdict(set)
    distrusts: defaultdict[int, set[int]] = defaultdict(set)
    given: Counter[int] = Counter()
    received: Counter[int] = Counter()
    for rater, rated, rating in ratings:
        (trusts if rating > 0 else distrusts)[rater].add(rated)
        given[rater] += 1
        received[rated] += rating
    blacklists = {
        user: distrusts.get(user, set()).union(*(distrusts.get(friend, set()) for friend in trusts.get(user, set())))
        for user in given
    }
    return Facts(
        {user: members for user, members in blacklists.items() if members},
        {user: trusts.get(user, set()) for user, count in given.items() if count >= WHITELIST_FROM_RATINGS},
        {user for user, total in received.items() if total <= BANNED_AT_RATING},
    )


def _text(name: str) -> str:
    return lzma.decompress((DATA / name).read_bytes()).decode()
