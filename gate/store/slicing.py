"""Sends calls for Users to the slices of their App's Presence, and repeats those that reached a wrong slice.

A process believes what slice 0 last returned as an App's slicing (`gate.core.slices`); before that, that there is one slice.
Every script for Users receives that belief. If it is outdated, the script does nothing and replies `stale`: slice 0 is read
again. While Users move, the slice that a User leaves is asked first. It replies `moving` or `moved` for a User that it no
longer has. So an App with one slice costs one exchange, as does any App while nothing moves.

Repeated calls of one User keep their order. If a move delays a call beyond its deadline, `StoreUnavailable` is raised.

Called by `presence`, and through it by `gate.presence.gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import msgspec

from gate.clock import monotonic_ms
from gate.core.slices import UNSLICED, Slicing, slicing_of
from gate.errors import StoreUnavailable
from gate.store import presence_keys as keys
from gate.store.client import Client
from gate.store.link import Command, Reply, ReplyError, raise_if_error
from gate.store.scripts import Call, Script

# Wait for moving Users: the time in which some 200 of them move.
AGAIN_EVERY_S = 0.003
# Run as one, about a millisecond: an upper bound of the delay of other commands.
MAX_ROWS_A_SCRIPT = 128
Part = bytes | str | int

_ONE_WORD = UNSLICED.word
_slice_of = itemgetter(0)
_STALE, _MOVING, _MOVED = b"stale", b"moving", b"moved"
_ELSEWHERE = frozenset({_STALE, _MOVING, _MOVED})
_HELD_UP = "the Users of this App are moving to other slices of its Presence; try again"


class SlicedCall(msgspec.Struct, frozen=True, gc=False):
    """A script for one or more Users. `parts` has `width` values for each User; the first is the User."""

    app_key: str
    script: Script
    args: tuple[Part, ...]
    parts: Sequence[Part]
    width: int
    is_row: bool = False
    """For one User, and combined with calls like it. Its reply is that of this User, else a list with one for each User."""

    @property
    def rows(self) -> int:
        """Number of Users."""
        return len(self.parts) // self.width

    def user(self, row: int) -> bytes:
        """Return one of the Users."""
        user = self.parts[row * self.width]
        assert isinstance(user, bytes)
        return user

    def of(self, rows: Sequence[_Row]) -> Sequence[Part]:
        """Return the parts of some Users."""
        if self.is_row:
            return self.parts
        return [part for _, row in rows for part in self.parts[row * self.width : (row + 1) * self.width]]


# A call, or its part for Users of one slice: the slice, the App's slicing as a word, "1" if they move away from it, the call,
# and the values of these Users. A plain tuple, as a storm makes one per connect.
Piece = tuple[int, str, str, SlicedCall, Sequence[Part]]


class Run(NamedTuple):
    """Consecutive pieces that run as one. `rows` is their number, and that of the replies; 0: one that is no row."""

    call: Call
    rows: int


def runs_of(pieces: Sequence[Piece]) -> list[Run]:
    """Return the same pieces in the same order, with consecutive rows that differ only in their Users combined."""
    runs: list[Run] = []
    at = 0
    while at < len(pieces):
        place, word, away, first, parts = pieces[at]
        begun, at = at, at + 1
        script, app_key, args, keys = first.script, first.app_key, first.args, _base(first.app_key, place)
        if not first.is_row:
            runs.append(Run(Call(script, keys, (word, away, *args, *parts)), 0))
            continue
        rows = [word, away, *args, *parts]
        # Bounds the time of one script.
        while at < len(pieces) and at - begun < MAX_ROWS_A_SCRIPT:
            its_place, _, its_away, one, its_parts = pieces[at]
            if one.script is not script or one.args != args or one.app_key != app_key or not one.is_row:
                break
            if its_place != place or its_away != away:
                break
            rows += its_parts
            at += 1
        runs.append(Run(Call(script, keys, rows), at - begun))
    return runs


def replies_of(runs: Sequence[Run], replies: Sequence[Reply]) -> list[Reply]:
    """Return the reply of each piece, from the reply of each run. An error applies to all pieces of its run."""
    each: list[Reply] = []
    for run, reply in zip(runs, replies, strict=True):
        if run.rows == 0:
            each.append(reply)
        else:
            each += [reply] * run.rows if isinstance(reply, ReplyError) else reply
    return each


@lru_cache(maxsize=4_096)
def _base(app_key: str, at: int) -> Sequence[bytes]:
    return [keys.base(app_key, at)]


class _Row(NamedTuple):
    """One User of one call, both by number."""

    asked: int
    row: int


class Slices:
    """A process's knowledge of all Apps' slicing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, Slicing] = {}
        """Of Apps with more than one slice."""

    async def slicing(self, app_key: str) -> Slicing:
        """Return the slicing that slice 0 returns now. Raises `StoreUnavailable`."""
        await self._refresh([app_key])
        return self._believed(app_key)

    async def exchange(self, asked: Sequence[SlicedCall]) -> list[Reply]:
        """Return each reply, or the exception of a refused call. Raises `StoreUnavailable` if nothing was answered."""
        if not asked:
            return []
        if not self._known:
            # Every App has one slice, as far as this process knows: no call has to be sorted, and replies are in order.
            runs = runs_of([(0, _ONE_WORD, "", one, one.parts) for one in asked])
            replies = replies_of(runs, await self._client.write_each([run.call for run in runs]))
            # Of lists only the first value can say so; a look at each costs less than a call.
            if not any(reply == _STALE or (isinstance(reply, list) and reply[:1] == [_STALE]) for reply in replies):
                return replies
            exchange = _Exchange(asked)
            for nth, reply in enumerate(replies):
                exchange.take_whole(nth, reply)
        elif (placed := self._placed(asked)) is not None:
            runs, exchange = runs_of([self._piece(at, asked[nth]) for at, nth in placed]), _Exchange(asked)
            replies = replies_of(runs, await self._client.write_each([run.call for run in runs]))
            for (_, nth), reply in zip(placed, replies, strict=True):
                exchange.take_whole(nth, reply)
        else:
            exchange = _Exchange(asked)
            await self._send(exchange, [_Row(nth, row) for nth, one in enumerate(asked) for row in range(one.rows)])
        # Only during a move, or with an outdated slicing.
        if exchange.again:
            await self._repeat(exchange)
        return exchange.replies

    async def everywhere(self, app_key: str, script: Script, *args: Part) -> list[Reply]:
        """Run a script in every slice of an App, newest first. Returns replies by slice. Raises `StoreUnavailable`."""
        deadline_ms = monotonic_ms() + self._client.deadline_ms
        while True:
            slicing = self._believed(app_key)
            calls = [Call(script, [keys.base(app_key, at)], (slicing.word, *args)) for at in range(slicing.slices)]
            replies = (await self._client.write(calls[::-1]))[::-1]
            if not any(_is_stale(reply) for reply in replies):
                return replies
            await self._refresh([app_key])
            if self._believed(app_key) == slicing:
                await asyncio.sleep(AGAIN_EVERY_S)
            if monotonic_ms() >= deadline_ms:
                raise StoreUnavailable(_HELD_UP)

    async def look(
        self, app_keys: Sequence[str], commands: Callable[[str, int], Sequence[Command]]
    ) -> list[list[list[Reply]]]:
        """Return the replies of these commands, for each App by slice. Raises `StoreUnavailable`."""
        while True:
            before = [self._believed(app) for app in app_keys]
            asked = [
                [("GET", keys.slices(app)), *(one for at in range(slicing.slices) for one in commands(app, at))]
                for app, slicing in zip(app_keys, before, strict=True)
            ]
            if not asked:
                return []
            replies = iter(await self._client.read(*chain.from_iterable(asked)))
            found = []
            for app, slicing in zip(app_keys, before, strict=True):
                self._note(app, next(replies))
                found.append([[next(replies) for _ in commands(app, at)] for at in range(slicing.slices)])
            if [self._believed(app).slices for app in app_keys] == [slicing.slices for slicing in before]:
                return found

    def _placed(self, asked: Sequence[SlicedCall]) -> list[tuple[int, int]] | None:
        """Return slice and number of each, sorted by slice to combine scripts; None if one is for several slices.

        Nearly all calls to sliced Apps are sent this way, which costs a third of the general way.
        """
        placed = []
        for nth, one in enumerate(asked):
            slicing = self._known.get(one.app_key)
            if slicing is None:
                placed.append((0, nth))
            elif slicing.before or not one.is_row:
                return None
            else:
                placed.append((slicing.place(one.user(0)), nth))
        # By slice only: calls of one User keep their order.
        placed.sort(key=_slice_of)
        return placed

    def _piece(self, at: int, one: SlicedCall) -> Piece:
        return at, self._believed(one.app_key).word, "", one, one.parts

    def _believed(self, app_key: str) -> Slicing:
        return self._known.get(app_key, UNSLICED)

    async def _refresh(self, app_keys: Sequence[str]) -> None:
        words = await self._client.read(*(("GET", keys.slices(app)) for app in app_keys))
        for app, word in zip(app_keys, words, strict=True):
            self._note(app, word)

    def _note(self, app_key: str, word: bytes | None) -> None:
        slicing = slicing_of(word.decode()) if word else UNSLICED
        if slicing == UNSLICED:
            self._known.pop(app_key, None)
        else:
            self._known[app_key] = slicing

    async def _send(self, exchange: _Exchange, rows: Sequence[_Row]) -> None:
        """Call the slices where these Users should be, sorted by slice, so that one script handles many Users."""
        pieces: dict[tuple[int, int, bool], list[_Row]] = {}
        for row in rows:
            one = exchange.asked[row.asked]
            user, slicing = one.user(row.row), self._believed(one.app_key)
            at = place = slicing.place(user)
            # The old slice first, until it has replied that the User has moved.
            if slicing.before and (one.app_key, user) not in exchange.moved:
                at = slicing.origin(user)
            pieces.setdefault((at, row.asked, at != place), []).append(row)
        order = sorted(pieces, key=lambda piece: piece[0])
        parts: list[Piece] = []
        for at, nth, is_away in order:
            one = exchange.asked[nth]
            word, away = self._believed(one.app_key).word, "1" if is_away else ""
            parts.append((at, word, away, one, one.of(pieces[at, nth, is_away])))
        runs = runs_of(parts)
        replies = replies_of(runs, await self._client.write_each([run.call for run in runs]))
        for piece, reply in zip(order, replies, strict=True):
            exchange.take(pieces[piece], reply)

    async def _repeat(self, exchange: _Exchange) -> None:
        """Repeat until everything is answered, or until the deadline."""
        deadline_ms = monotonic_ms() + self._client.deadline_ms
        try:
            while exchange.again:
                if monotonic_ms() >= deadline_ms:
                    raise StoreUnavailable(_HELD_UP)
                stale = sorted(exchange.stale)
                before = [self._believed(app) for app in stale]
                if stale:
                    await self._refresh(stale)
                if exchange.is_held_up or (stale and before == [self._believed(app) for app in stale]):
                    await asyncio.sleep(AGAIN_EVERY_S)
                await self._send(exchange, exchange.next_rows())
        except StoreUnavailable as away:
            exchange.fail(away)


class _Exchange:
    """The calls, their replies, and the Users whose calls must be repeated, in the order of the calls."""

    def __init__(self, asked: Sequence[SlicedCall]) -> None:
        self.asked = asked
        self.replies: list[Reply] = [None if one.is_row else [None] * one.rows for one in asked]
        self.again: list[_Row] = []
        self.moved: set[tuple[str, bytes]] = set()
        self.stale: set[str] = set()
        self.is_held_up = False

    def take_whole(self, nth: int, reply: Reply) -> None:
        """Add a reply under a slicing without a move: either all of its Users are stale or none."""
        if _is_stale(reply):
            self.take([_Row(nth, row) for row in range(self.asked[nth].rows)], reply)
        else:
            self.replies[nth] = reply

    def take(self, rows: Sequence[_Row], reply: Reply) -> None:
        """Add the reply for these Users of one call."""
        nth = rows[0].asked
        one, kept = self.asked[nth], self.replies[nth]
        if isinstance(reply, ReplyError):
            self.replies[nth] = reply
            return
        for row, word in zip(rows, [reply] if one.is_row else reply, strict=True):
            if isinstance(word, bytes) and word in _ELSEWHERE:
                self.again.append(row)
                self._note(one.app_key, one.user(row.row), word)
            elif one.is_row:
                self.replies[nth] = word
            elif not isinstance(kept, ReplyError):
                kept[row.row] = word

    def next_rows(self) -> list[_Row]:
        """Return the first row of each User; later rows of the same User wait for it."""
        self.again.sort()
        seen, rows, later = set[tuple[str, bytes]](), list[_Row](), list[_Row]()
        for row in self.again:
            one = self.asked[row.asked]
            whose = one.app_key, one.user(row.row)
            (later if whose in seen else rows).append(row)
            seen.add(whose)
        self.again, self.is_held_up = later, False
        self.stale.clear()
        return rows

    def fail(self, away: StoreUnavailable) -> None:
        """Set the fault for everything that was not answered."""
        for row in self.again:
            self.replies[row.asked] = away

    def _note(self, app_key: str, user: bytes, word: bytes) -> None:
        if word == _STALE:
            self.stale.add(app_key)
            self.moved = {one for one in self.moved if one[0] != app_key}  # these belong to another slicing
        elif word == _MOVED:
            self.moved.add((app_key, user))
        else:
            self.is_held_up = True


def answered(reply: Reply) -> Reply:
    """Return a reply of `Slices.exchange`. Raises `StoreUnavailable` and the server's refusal."""
    if isinstance(reply, StoreUnavailable):
        raise reply
    raise_if_error(reply)
    return reply


def _is_stale(reply: Reply) -> bool:
    return bool(reply == _STALE or (isinstance(reply, list) and reply and reply[0] == _STALE))
