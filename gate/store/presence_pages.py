"""Pages of the Users that are online, slice after slice.

A cursor is the slice's number and a place in it: the server's own, or a rank. Users move from old slices to new ones alone.
So a User that leaves a slice before it was looked through is found under way, or in a slice that is looked through later.

Called by `presence`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

from gate.core.presence import Session, UserPresence, lease_of
from gate.core.slices import UNSLICED, slicing_of
from gate.store import presence_keys as keys
from gate.store.client import Client
from gate.store.presence_forms import sessions_of

FIRST_RANKED = 1 << 62
"""Cursors within a slice from here on are ranks of Users; the server's own are below."""
SLICE_BITS = 63
RANK_BYTES = 6

Found = list[tuple[bytes, tuple[Session, ...]]]
_Row = tuple[bytes, bytes]
"""A User and its Sessions, packed."""
_Presences = Callable[[str, Sequence[bytes]], Awaitable[list[UserPresence]]]


async def page(client: Client, presences: _Presences, app_key: str, cursor: int, count: int) -> tuple[Found, int]:
    """Some `count` online Users and the cursor of the next page, 0 after the last. Raises `StoreUnavailable`.

    `presences` reads those that are under way to another slice.
    """
    found: Found = []
    while True:
        at, within = cursor >> SLICE_BITS, cursor & ((1 << SLICE_BITS) - 1)
        some, following, slices, under_way = await _page_of_slice(client, app_key, at, within, count - len(found))
        found += some
        if under_way and not following:
            read = zip(under_way, await presences(app_key, under_way), strict=True)
            found += [(user, one.sessions) for user, one in read if one.sessions]
        cursor = at << SLICE_BITS | following if following else (at + 1) << SLICE_BITS if at + 1 < slices else 0
        if cursor == 0 or following or len(found) >= count:
            return found, cursor


async def _page_of_slice(
    client: Client, app_key: str, at: int, cursor: int, count: int
) -> tuple[Found, int, int, Sequence[bytes]]:
    """Also return how many slices there are, and which Users are moving out of this one."""
    rank, place = (cursor - FIRST_RANKED, 0) if cursor >= FIRST_RANKED else (0, cursor)
    # Who left the slice meanwhile is under way by the time at which that is read, or further; and the slicing says so.
    scanned, leases, under_way, word = await client.read(
        ("HSCAN", keys.sessions(app_key, at), place, "COUNT", max(1, count)),
        ("HGETALL", keys.leases(app_key, at)),
        ("HKEYS", keys.moving(app_key, at)),
        ("GET", keys.slices(app_key, at)),
    )
    holding = {(lease.gateway, lease.epoch) for lease in map(lease_of, leases[::2], leases[1::2]) if lease.holds}
    rows, following = list(zip(scanned[1][::2], scanned[1][1::2], strict=True)), int(scanned[0])
    if place == 0 and (rank or following == 0):
        rows, following = _ranked(rows, rank, count if following == 0 else len(rows), following)
    found = [(user, sessions_of(user, packed)) for user, packed in rows]
    live = [(user, tuple(one for one in some if (one.gateway, one.epoch) in holding)) for user, some in found]
    slicing = slicing_of(word.decode()) if word else UNSLICED
    return [(user, some) for user, some in live if some], following, slicing.slices, under_way


def _ranked(rows: list[_Row], rank: int, count: int, following: int) -> tuple[list[_Row], int]:
    """Of a small App's Users, some `count` from this rank on, and the cursor of the next page.

    The server returns a small hash at once, however many were asked for. So its Users are returned in the order of their ranks,
    which no other User moves. If the hash has become a large one since the page before, those of lower ranks were on a page.
    """
    if len(rows) <= count and not rank:
        return rows, following
    rows = sorted((row for row in rows if _rank(row[0]) >= rank), key=lambda row: _rank(row[0]))
    end = next((at for at in range(count, len(rows)) if _rank(rows[at][0]) > _rank(rows[at - 1][0])), len(rows))
    return rows[:end], FIRST_RANKED + _rank(rows[end][0]) if end < len(rows) else following


def _rank(user: bytes) -> int:
    return int.from_bytes(blake2b(user, digest_size=RANK_BYTES).digest())
