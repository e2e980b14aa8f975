"""How Sessions, last moments and samples are packed in Redis, read; and pages of the Users that are online, slice after slice.

A page's cursor is the slice's number and a place in it: the server's own, or a rank. Users move from old slices to new ones
alone. So a User that leaves a slice before it was looked through is found under way, or in a slice that is looked through
later.

Called by `presence` and the session service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from gate.core.presence import Sample, Session, UserPresence, full_session_id, lease_of
from gate.core.slices import UNSLICED, slicing_of
from gate.store import presence_keys as keys
from gate.store.client import Client

FIRST_RANKED = 1 << 62
"""Cursors within a slice from here on are ranks of Users; the server's own are below."""
SLICE_BITS = 63
RANK_BYTES = 6

_rows = msgspec.msgpack.Decoder(list[list[int | str]])
_flat = msgspec.msgpack.Decoder(list[int | str])
_pair = msgspec.msgpack.Decoder(tuple[int, int])

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


def presences_of(users: Sequence[bytes], reply: Sequence[Sequence[bytes]]) -> list[UserPresence]:
    """What `asking_sessions` replied; last seen while online is of the time before."""
    found = []
    for user, (packed, seen) in zip(users, reply, strict=True):
        sessions = sessions_of(user, packed) if packed else ()
        last_seen_ms, last_active_ms = _pair.decode(seen) if seen else (0, 0)
        active_ms = max([last_active_ms, *(max(one.since_ms, one.active_ms) for one in sessions)])
        found.append(UserPresence(sessions, last_seen_ms, active_ms))
    return found


def sessions_of(user: bytes, packed: bytes) -> tuple[Session, ...]:
    """A User's Sessions, the oldest first."""
    return tuple(_session(user, row) for row in _rows.decode(packed))


def _session(user: bytes, row: Sequence[Any]) -> Session:
    """Of the fields that `presence_keys.SESSION_FIELDS` names; all text is ASCII, as it was checked on the way in."""
    stored_id, platform, gateway, epoch, since_ms, ip, minted_at_ms, *active = row
    return Session(
        full_session_id(stored_id, user), user, platform, gateway.encode(), epoch, since_ms, ip, minted_at_ms,
        active[0] if active else 0,
    )  # fmt: skip


def sample_of(flat: Sequence[bytes]) -> Sample:
    """One entry of the samples, from names and values as they come over the wire."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    counts = _flat.decode(fields[b"c"])
    named = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
    sessions = {(str(gateway).encode(), str(platform)): int(many) for gateway, platform, many in named}
    return Sample(int(fields[b"u"]), sessions, int(fields[b"t"]))
