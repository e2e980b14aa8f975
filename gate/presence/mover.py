"""The mover: spreads an App's Presence over more slices when its setting `presence_slices` says so, while everything goes on.

    1  the old slices record that Users move, slice 0 last: a caller that believes otherwise is refused, and asks slice 0
    2  the new slices get the leases and the floors of the old ones, and are open from then on
    3  some Users at a time are taken out of their old slice, put into their new one, and let go of. Between the first step and
       the last they can be read, and writes wait
    4  all slices record that nothing moves any more, slice 0 last, with where the old slices' feeds ended

Each step may be done again, by this process or another. A mover has a number that every slice knows, and a slice refuses what
comes late from a mover with a lower one. A mover renews its right with each step. Another process takes over once it has seen
no renewal for `CLAIM_MS` on its own monotonic clock, and goes on from what is there. A slice that lost its data gets it again.

Called by the background role, `run` until cancelled. See docs/decisions/0018.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from gate.clock import monotonic_ms
from gate.core.slices import UNSLICED, Slicing, slicing_of
from gate.errors import StoreUnavailable
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.apps import Apps
from gate.store.client import Client
from gate.store.clocks import Watch
from gate.store.link import Reply
from gate.store.presence import PresenceStore
from gate.store.scripts import Call, Script

LOOK_EVERY_S = 1.0
CLAIM_MS = 3_000
# Some 2 ms of the server's time in each of two scripts; a write of one of these Users waits for both.
USERS_A_STEP = 100
# So many are under way at once.
SCANNED_AT_ONCE = 500
# A new slice refuses its Users until it has the slicing; each slice gets the leases of all old ones.
SLICES_UPDATED_AT_ONCE = 8

_log = structlog.get_logger()


class _Superseded(Exception):
    """Another mover took over."""


class _Known(NamedTuple):
    """What the slices of one App say, and who moves its Users."""

    slicing: Slicing
    is_alike: bool
    """Whether all slices say the same."""
    number: int
    """The highest number of a mover in any slice."""
    claim: tuple[int, int]
    """Number and beat, in slice 0; a beat of 0 belongs to no mover."""


class Mover:
    """One a process."""

    def __init__(self, apps: Apps, store: PresenceStore, clock: Callable[[], int] = monotonic_ms) -> None:
        self._apps = apps
        self._store = store
        self._client = store.client
        self._clock = clock
        self._watch = Watch[str]()
        self._moved_at: tuple[Any, ...] | None = None
        self._wanted: Mapping[str, int] = {}
        self._own: dict[str, int] = {}
        """Of each App the number that this process took last."""

    async def run(self) -> None:
        """Move for ever."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as away:
                _log.debug("slices of Presence are looked at later", problem=str(away))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Do what is to be done now. Raises `StoreUnavailable`."""
        moved_at = await self._apps.moved_at()
        if moved_at != self._moved_at:
            self._wanted = await self._apps.with_presence_slices()
            self._moved_at = moved_at
        if self._wanted:
            for app in await self._store.apps():
                if app in self._wanted:
                    try:
                        await self._look_at(app, self._wanted[app])
                    except _Superseded:
                        for removed in await self._apps.missing([app]):  # some slices may have got the word after that
                            await self._store.remove_app(removed)

    async def _look_at(self, app: str, wanted: int) -> None:
        known = await self._known(app, wanted)
        # More slices than wanted stay: Users are never moved back together.
        is_settled = known.is_alike and not known.slicing.before and known.slicing.slices >= wanted
        if is_settled or self._is_moved_by_another(app, known):
            return
        mover = _AppMover(self._client, app, await self._taken(app, known.number + 1))
        self._own[app] = mover.number
        try:
            await mover.settle(known.slicing, wanted)
        except asyncio.CancelledError:
            with suppress(StoreUnavailable, _Superseded):
                await mover.let_go()
            raise

    def _is_moved_by_another(self, app: str, known: _Known) -> bool:
        number, beat = known.claim
        unchanged_ms = self._watch.unchanged_ms(app, known.claim, self._clock())
        return beat > 0 and number != self._own.get(app) and unchanged_ms < CLAIM_MS

    async def _known(self, app: str, wanted: int) -> _Known:
        slices = range(max(wanted, (await self._store.slices.slicing(app)).slices))
        words, movers = _halves(
            await self._client.read(
                *(("GET", keys.slices(app, at)) for at in slices),
                *(("HMGET", keys.mover(app, at), "number", "beat") for at in slices),
            )
        )
        slicing = slicing_of(words[0].decode()) if words[0] else UNSLICED
        number, beat = movers[0]
        return _Known(
            slicing,
            all(word == words[0] for word in words[: slicing.slices]),
            # Of all slices, as slice 0 may have lost its own.
            max(int(one or 0) for one, _ in movers),
            (int(number or 0), int(beat or 0)),
        )

    async def _taken(self, app: str, least: int) -> int:
        (reply,) = await self._client.write([Call(scripts.PRESENCE_MOVER, [keys.base(app)], ("", least))])
        return int(reply[0])


class _Run(NamedTuple):
    """A script to run in a slice, and its arguments behind the mover's number."""

    at: int
    script: Script
    args: Sequence[bytes | str | int]


_RENEWAL = _Run(0, scripts.PRESENCE_MOVER, [0])


class _AppMover:
    """Moves the Users of one App, under one number. Everything raises `StoreUnavailable` and `_Superseded`; then the number is
    not used any more, since what was sent may still be carried out."""

    def __init__(self, client: Client, app: str, number: int) -> None:
        self._client = client
        self._app = app
        self.number = number

    async def settle(self, slicing: Slicing, wanted: int) -> None:
        """From how the App is sliced to how it should be."""
        if not slicing.before and slicing.slices >= wanted:
            await self._announce_settled(slicing, "")  # some slice lost its data
            return
        is_begun = slicing.before > 0
        growth = slicing if is_begun else Slicing(wanted, slicing.slices)
        _log.info("an App's Presence is spread over more slices", app=self._app, slices=growth.word, goes_on=is_begun)
        await self._announce_growth(growth, is_begun)
        moved = await self._move_all(growth)
        ends = await self._client.read(
            *(("HMGET", keys.feed_meta(self._app, at), "epoch", "seq") for at in range(growth.before))
        )
        said = " ".join([growth.word, *(f"{(epoch or b'0').decode()}-{int(seq or 0)}" for epoch, seq in ends)])
        await self._announce_settled(Slicing(growth.slices), said)
        _log.info("an App's Presence is spread over its slices", app=self._app, slices=growth.slices, users=moved)

    async def let_go(self) -> None:
        """Any process may go on at once."""
        await self._run(_Run(0, scripts.PRESENCE_MOVER, [0, "1"]))

    async def _announce_growth(self, growth: Slicing, is_begun: bool) -> None:
        await self._update_each(range(1, growth.before), growth)
        # Slice 0 last: from here on, callers that ask it find the others ready.
        await self._update_slice(0, growth, "" if is_begun else growth.word)
        copied = await self._copied(range(growth.before))
        await self._update_each(range(growth.before, growth.slices), growth, "" if is_begun else "1", *copied)

    async def _announce_settled(self, slicing: Slicing, said: str) -> None:
        copied = await self._copied(range(slicing.slices))  # for one that lost them
        await self._update_each(range(1, slicing.slices), slicing, "", *copied)
        await self._update_slice(0, slicing, said, "", *copied)
        await self.let_go()

    async def _update_each(
        self, slices: Sequence[int], slicing: Slicing, is_new: str = "", *copied: bytes | int
    ) -> None:
        for first in range(0, len(slices), SLICES_UPDATED_AT_ONCE):
            some = slices[first : first + SLICES_UPDATED_AT_ONCE]
            await asyncio.gather(*(self._update_slice(at, slicing, "", is_new, *copied) for at in some))

    async def _update_slice(
        self, at: int, slicing: Slicing, growth: str, is_new: str = "", *copied: bytes | int
    ) -> None:
        args = [slicing.word, growth, is_new, *(copied or (0,))]
        await self._run(_RENEWAL, _Run(at, scripts.PRESENCE_SLICE, args))

    async def _copied(self, slices: Sequence[int]) -> list[bytes | int]:
        """Leases and floors, as the script takes them."""
        leases, floors = _halves(
            await self._client.read(
                *(("HGETALL", keys.leases(self._app, at)) for at in slices),
                *(("HGETALL", keys.floors(self._app, at)) for at in slices),
            )
        )
        flat = [part for one in leases for part in one]
        return [len(flat) // 2, *flat, *(part for one in floors for part in one)]

    async def _move_all(self, growth: Slicing) -> int:
        """Until nothing is left in an old slice of who belongs into a new one; how many were moved."""
        for at in range(growth.before):  # what an earlier mover left under way
            (users,) = await self._client.read(("HKEYS", keys.moving(self._app, at)))
            await self._move(growth, at, users)
        moved = 0
        # A pass may miss Users that came while it went on: until one finds none.
        while some := sum([await self._move_some(growth, at) for at in range(growth.before)]):
            moved += some
        return moved

    async def _move_some(self, growth: Slicing, at: int) -> int:
        """All that one pass over an old slice finds."""
        moved = 0
        for kept in keys.kept_by_user(self._app, at):
            await self._run(_RENEWAL)  # there may be nothing to move
            cursor = b"0"
            while True:
                ((cursor, flat),) = await self._client.read(("HSCAN", kept, cursor, "COUNT", SCANNED_AT_ONCE))
                users = [user for user in flat[::2] if growth.place(user) != at]
                await self._move(growth, at, users)
                moved += len(users)
                if cursor == b"0":
                    break
        return moved

    async def _move(self, growth: Slicing, at: int, users: Sequence[bytes]) -> None:
        some = [users[first : first + USERS_A_STEP] for first in range(0, len(users), USERS_A_STEP)]
        steps = asyncio.gather(*(self._step(growth, at, one) for one in some), return_exceptions=True)
        try:
            ends = await asyncio.shield(steps)
        except asyncio.CancelledError:  # no User is left under way
            await asyncio.wait([steps])
            raise
        for fault in filter(None, ends):
            raise fault

    async def _step(self, growth: Slicing, at: int, users: Sequence[bytes]) -> None:
        _, taken = await self._run(_RENEWAL, _Run(at, scripts.PRESENCE_TAKE, users))
        by_place = defaultdict[int, list[bytes]](list)
        for user, packed in zip(users, taken, strict=True):
            if packed:
                by_place[growth.place(user)] += (user, packed)
        await self._run(*(_Run(place, scripts.PRESENCE_PUT, parts) for place, parts in by_place.items()))
        await self._run(_Run(at, scripts.PRESENCE_MOVED, users))

    async def _run(self, *wanted: _Run) -> list[Reply]:
        """Scripts, each of a slice, in one pipeline."""
        calls = [Call(script, [keys.base(self._app, at)], (self.number, *args)) for at, script, args in wanted]
        replies = await self._client.write(calls) if calls else []
        # A slice that knows a higher number does nothing and replies nil.
        if None in replies:
            raise _Superseded
        return replies


def _halves(replies: Sequence[Reply]) -> tuple[Sequence[Reply], Sequence[Reply]]:
    return replies[: len(replies) // 2], replies[len(replies) // 2 :]
