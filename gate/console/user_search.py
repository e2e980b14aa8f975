"""Search for Users by a part of their id or name, page by page, among millions.

    begins   ids in the Replica that begin with the part: one range, so the first page has them at once, the exact id first
    holds    other ids in the Replica that hold it; the case of ASCII letters is ignored
    names    registered Users in Redis whose name holds it, and ids that the Replica does not have yet

A page ends when it is full, or when its time is over: then it says how many were looked at, and its cursor leads on. Followed
to the end, the pages name every User that matches once. The process is held for a slice of some milliseconds at a time, however
many search, and Redis for a script of one. While Redis is away, ids are found and names are not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Literal, NamedTuple

import msgspec

from gate.clock import monotonic_ms
from gate.core.ids import MAX_ID_BYTES
from gate.errors import InvalidInput, ReplicaError, StoreUnavailable
from gate.http.context import Deps
from gate.replica.id_search import IdsFound, ids_beginning_with, ids_holding
from gate.replica.reader import app_of
from gate.store.places import Place
from gate.store.user_search import Noun, SearchPlace, checked_part

# The time of a page's search, so that the page itself begins within 150 ms.
PAGE_MS = 70
# How long the process is held at once.
SLICE_MS = 3
_turn = asyncio.Lock()
"""One slice in a pass of the loop: those of a hundred searches would hold up every check for a third of a second."""

Phase = Literal["begins", "holds", "names"]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a search goes on. It comes from a browser: whatever it says, it is only a place to look from."""

    phase: Phase = "begins"
    looked_at: int = 0
    partition: int = 0
    score: int = -1
    """-1: from the beginning of the Partition's index."""
    member: bytes = b""

    @property
    def place(self) -> SearchPlace:
        """The position in Redis."""
        return SearchPlace(self.partition, None if self.score < 0 else Place(self.score, self.member))


class UserMatches(NamedTuple):
    """One page: Users that match, how many were looked at so far, and the cursor of the next page; None at the end.

    `away` is why names were not searched, "" if they were.
    """

    users: list[bytes]
    looked_at: int
    following: str | None
    away: str = ""


class IndexMatches(NamedTuple):
    """One page of an index, as `UserMatches`; each User with its moment there."""

    rows: list[Place]
    looked_at: int
    following: str | None


async def matching_users(deps: Deps, app_key: str, part: str, cursor: str | None, wanted: int) -> UserMatches:
    """Return the next Users of the App that match. Raises `InvalidInput` for a part or cursor that can't be one."""
    checked_part(part)
    search = _Search(deps, app_key, part, Cursor() if cursor is None else _cursor_of(cursor), wanted)
    try:
        await search.in_replica()
    except ReplicaError:  # not there yet: Redis knows all registered Users
        search.at = Cursor("names", search.at.looked_at)
    try:
        await search.in_redis()
    except StoreUnavailable as fault:
        return UserMatches(search.users, search.at.looked_at, None, str(fault))
    return UserMatches(search.users, search.at.looked_at, _text_of(search.at) if search.goes_on else None)


async def matching_in(deps: Deps, app_key: str, noun: Noun, part: str, cursor: str | None, wanted: int) -> IndexMatches:
    """Return the next Users of an index that match, by Partition, the latest moment first. Raises `StoreUnavailable` too."""
    checked_part(part)
    at = Cursor("names") if cursor is None else _cursor_of(cursor)
    rows: list[Place] = []
    ends_ms, goes_on = monotonic_ms() + PAGE_MS, True
    while goes_on and len(rows) < wanted:
        step = await deps.store.search.step(app_key, noun, part, at.place, wanted - len(rows))
        rows += step.users
        at, goes_on = _after(at, step.looked_at, step.following), step.following is not None
        if monotonic_ms() >= ends_ms:
            break
    return IndexMatches(rows, at.looked_at, _text_of(at) if goes_on else None)


class _Search:
    """One page of `matching_users`."""

    def __init__(self, deps: Deps, app_key: str, part: str, at: Cursor, wanted: int) -> None:
        self._deps, self._app_key, self._part, self._wanted = deps, app_key, part, wanted
        self._raw = part.encode("utf-8", "surrogatepass")
        self._ends_ms = monotonic_ms() + PAGE_MS
        self.at = at
        self.users: list[bytes] = []
        self.goes_on = True

    @property
    def is_done(self) -> bool:
        """Whether the page is full, or its time is over."""
        return len(self.users) >= self._wanted or monotonic_ms() >= self._ends_ms

    async def in_replica(self) -> None:
        """The first two phases, slice by slice."""
        while self.at.phase != "names":
            # Held for one slice and one pass of the loop, not for a page: a hundred searches share it evenly.
            async with _turn:
                await asyncio.sleep(0)  # other requests of this process have their turn
                found = self._slice()
            self.users += found.ids
            # The ids of the first phase are looked at again by the second.
            many = self.at.looked_at + (found.looked_at if self.at.phase == "holds" else 0)
            if found.behind is not None:
                self.at = Cursor(self.at.phase, many, member=found.behind)
            elif self.at.phase == "begins":
                self.at = Cursor("holds", many)
            else:
                self.at = Cursor("names")
            if self.is_done:
                return

    async def in_redis(self) -> None:
        """The last phase."""
        while self.at.phase == "names" and self.goes_on and len(self.users) < self._wanted:
            wanted = self._wanted - len(self.users)
            step = await self._deps.store.search.step(self._app_key, "users", self._part, self.at.place, wanted)
            self.users += self._not_in_replica([one.member for one in step.users])
            self.at, self.goes_on = _after(self.at, step.looked_at, step.following), step.following is not None
            if self.is_done:
                return

    def _slice(self) -> IdsFound:
        wanted = self._wanted - len(self.users)
        with self._deps.replica as snapshot:
            app = app_of(snapshot, self._app_key)
            if self.at.phase == "begins":
                return ids_beginning_with(snapshot, app, self._raw, self.at.member, wanted)
            return ids_holding(snapshot, app, self._raw, self.at.member, wanted, SLICE_MS)

    def _not_in_replica(self, users: list[bytes]) -> list[bytes]:
        """Those that the first two phases did not find: by their names, or because the Replica did not have them."""
        lowered = self._raw.lower()
        by_name = [user for user in users if lowered not in user.lower()]
        by_id = [user for user in users if lowered in user.lower()]
        if by_id:
            try:
                with self._deps.replica as snapshot:
                    app = app_of(snapshot, self._app_key)
                    by_id = [user for user in by_id if not app.user(user).registered]
            except ReplicaError:
                pass  # then the first two phases found none
        return by_name + by_id


def _after(at: Cursor, looked_at: int, following: SearchPlace | None) -> Cursor:
    partition, behind = following or SearchPlace()
    score, member = behind or (-1, b"")
    return Cursor("names", at.looked_at + looked_at, partition, score, member)


def _text_of(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def _cursor_of(text: str) -> Cursor:
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(packed, type=Cursor)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise InvalidInput("token", "must be the `next` of an earlier answer") from None
    # A number that no Redis takes would be a 500; past the last Partition the search ends.
    is_place = 0 <= cursor.partition < 1 << 16 and -1 <= cursor.score < 1 << 62 and 0 <= cursor.looked_at < 1 << 62
    if not is_place or len(cursor.member) > MAX_ID_BYTES:
        raise InvalidInput("token", "must be the `next` of an earlier answer")
    return cursor
