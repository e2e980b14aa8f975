"""Gateways whose Users come and go, readers of the feed on every node, and the webhook: what each must have seen at the end.

A Gateway keeps to docs/protocol.md: one connection, a lease, a higher epoch whenever it can't know what came of its calls. A
reader of the feed goes on from its cursor over whatever happens; every entry reaches it once, under contiguous numbers, and all
readers get the same. Where Redis lost data the feed says RESET, or begins again under another epoch.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from loadtests.chaos.clients import Broken, Late, NotSent, Resp, Target
from loadtests.chaos.ledger import Ledger

USERS = 40
SESSIONS = 8
"""About how many a Gateway holds."""
PACE_S = 0.15
BEAT_S = 0.8
WITHIN_S = 6.0
PLATFORMS = ("iOS", "Web")
PAGE = "500"
MADE_AGAIN_S = 10.0
"""After a loss the App is made again, and its feed with it."""
Key = tuple[str, int, str]
"""Epoch and number of an entry of the feed, and its moment: a Redis that went back gives a number twice."""


def mint_tokens(target: Target) -> list[str]:
    """A Token for each User, valid for the whole run under every step of the clocks."""
    app = AppFacts(key=target.app_key, secrets=(target.app_secret,))
    early_ms = wall_ms() - 4 * 3_600_000
    return [token.mint(app, b"visitor %d" % number, early_ms, os.urandom(8)) for number in range(USERS)]


class Lost(Exception):
    """The lease, or the connection: begin again with a higher epoch."""


class Gateway:
    """Connects and disconnects Users; `held` are its Sessions while `is_sure`."""

    def __init__(self, name: str, target: Target, tokens: Sequence[str], ledger: Ledger, seed: int) -> None:
        self.name = name
        self._resp = Resp(target, WITHIN_S)
        self._tokens = tokens
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._epoch = 0
        self.held: dict[str, tuple[str, str]] = {}
        self._owed: list[tuple[str, str]] = []
        self._leaving: list[str] = []
        self._cursor = "$"
        self.is_sure = False
        self.is_settling = False

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            try:
                await self._begin()
                while not ending.is_set():
                    await self._live(ending)
            except (Lost, Broken, Late, NotSent):
                self.is_sure = False
                self._resp.close()
                self._ledger.counts["Gateways began again"] += 1
                await asyncio.sleep(0.2)
        self._resp.close()

    async def _begin(self) -> None:
        self._epoch = max(self._epoch + 1, time.monotonic_ns() // 1_000_000)
        await self._lease()
        (reply,) = await self._resp.ask([("GATE.EVENTS", "$")])
        if not isinstance(reply, list):
            raise Lost(str(reply))
        self._cursor = reply[0].decode()
        self._owed += self.held.values()
        self.held, self._leaving = {}, []

    async def _lease(self) -> None:
        (reply,) = await self._resp.ask([("GATE.LEASE", self.name, str(self._epoch))])
        if not isinstance(reply, int):
            raise Lost(str(reply))

    async def _live(self, ending: asyncio.Event) -> None:
        until_s = time.monotonic() + BEAT_S
        while time.monotonic() < until_s and not ending.is_set():
            await self._exchange()
            await self._heed_kicks()
            self.is_sure = not self._owed and not self._leaving
            await asyncio.sleep(PACE_S)
        await self._lease()

    async def _exchange(self) -> None:
        if not self.is_settling:
            self._come_and_go()
        owed, leaving = self._owed, self._leaving
        commands: list[tuple[str, ...]] = [("GATE.CONNECT", *one, self.name) for one in owed]
        commands += [("GATE.DISCONNECT", session) for session in leaving]
        if not commands:
            return
        replies = await self._resp.ask(commands)
        self._owed, self._leaving = [], []
        for one, reply in zip(owed, replies[: len(owed)], strict=True):
            if isinstance(reply, bytes):
                self.held[reply.decode()] = one
            else:
                self._owed.append(one)
                _expect_away(reply)
        for session, reply in zip(leaving, replies[len(owed) :], strict=True):
            if not isinstance(reply, int):
                self._leaving.append(session)
                _expect_away(reply)

    def _come_and_go(self) -> None:
        for _ in range(self._chance.randrange(3)):
            if self.held and self._chance.random() < len(self.held) / (2 * SESSIONS):
                session = self._chance.choice(list(self.held))
                del self.held[session]
                self._leaving.append(session)
            elif len(self.held) + len(self._owed) < 2 * SESSIONS:
                self._owed.append((self._chance.choice(self._tokens), self._chance.choice(PLATFORMS)))

    async def _heed_kicks(self) -> None:
        (reply,) = await self._resp.ask([("GATE.EVENTS", self._cursor, "COUNT", "1000", "GATEWAY", self.name)])
        if not isinstance(reply, list):
            if not str(reply).startswith("UNAVAILABLE"):
                raise Lost(str(reply))
            return
        self._cursor = reply[0].decode()
        for flat in reply[1]:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            self.held.pop(fields[b"session"].decode(), None)


def _expect_away(reply: Any) -> None:
    if not str(reply).startswith("UNAVAILABLE"):
        raise Lost(str(reply))


class Feeds:
    """The entries that readers of the feed saw: each entry must be the same for all."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[Key, tuple[bytes, ...]] = {}
        self.of_session: dict[tuple[str, str], Key] = {}
        """Where a Session's coming (status 0) or going (status 1) stands."""
        self.demanded: set[tuple[str, str]] = set()
        """Changes that the webhook must be sent: those since `demand`, for as long as Redis loses nothing."""
        self._losses: int | None = None

    def demand(self) -> None:
        """From here on every change must come."""
        self._losses, self.demanded = self._ledger.losses, set()

    def take(self, reader: int, key: Key, fields: dict[bytes, bytes]) -> None:
        said = (fields[b"kind"], fields[b"user"], fields[b"session"], fields[b"platform"])
        known = self._entries.setdefault(key, said)
        self._ledger.counts["feed entries"] += 1
        if known != said:
            self._ledger.broken("feed entries differ", f"reader {reader}, {key}: {said}, another one got {known}")
        kind = said[0].decode()
        if kind.endswith(("online", "offline")):
            change = (said[2].decode(), "0" if kind.endswith("online") else "1")
            self.of_session.setdefault(change, key)
            if self._losses == self._ledger.losses and not self._ledger.is_doubtful:
                self.demanded.add(change)
            else:
                self._losses, self.demanded = None, set()


class FeedReader:
    """Reads the feed over one node from cursor to cursor."""

    def __init__(self, number: int, target: Target, feeds: Feeds, ledger: Ledger) -> None:
        self._number = number
        self._resp = Resp(target, WITHIN_S)
        self._feeds = feeds
        self._ledger = ledger
        self.cursor = "$"
        self._losses = 0

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            try:
                await self._page()
            except (Broken, Late, NotSent):
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.1)
        self._resp.close()

    async def _page(self) -> None:
        losses = self._ledger.losses
        (reply,) = await self._resp.ask([("GATE.EVENTS", self.cursor, "COUNT", PAGE)])
        before = self.cursor
        if isinstance(reply, list):
            self._take(reply)
        elif str(reply).startswith("RESET"):
            self._ledger.counts["feeds reset"] += 1
            if self._losses == self._ledger.losses and time.monotonic() - self._ledger.lost_s > MADE_AGAIN_S:
                self._ledger.broken("feed reset without a loss", f"reader {self._number} at {self.cursor}: {reply}")
            self.cursor = "$"
        if self.cursor != before:
            self._losses = losses

    def _take(self, reply: list[Any]) -> None:
        at = self.cursor
        for flat in reply[1]:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            key = _key(fields[b"cursor"].decode())
            if at != "$":
                epoch, number, _ = _key(at)
                if epoch == key[0] and key[1] != number + 1:
                    self._ledger.broken("feed not contiguous", f"reader {self._number}: {key} came after {at}")
            self._feeds.take(self._number, key, fields)
            at = fields[b"cursor"].decode()
        self.cursor = reply[0].decode()
        if at != "$" and reply[1] and _key(self.cursor) != _key(at):
            self._ledger.broken("feed not contiguous", f"reader {self._number}: the cursor is {self.cursor} after {at}")


def _key(cursor: str) -> Key:
    epoch, number, moment = cursor.split("-")
    return epoch, int(number), moment
