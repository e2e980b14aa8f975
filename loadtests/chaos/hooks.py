"""The App's presence webhook: a receiver that sometimes refuses, and the changes that it must get.

Every change comes at least once, those of a User in the order of the feed. A change that came before may come again.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from loadtests.chaos.ledger import Ledger
from loadtests.chaos.presence import Feeds, Key

SHARE_REFUSED = 0.1


class Hooks:
    """The changes that arrived."""

    def __init__(self, feeds: Feeds, ledger: Ledger, seed: int) -> None:
        self._feeds = feeds
        self._ledger = ledger
        self._chance = random.Random(seed)
        self.received: set[tuple[str, str]] = set()
        self._at: dict[str, Key] = {}
        self.status: dict[tuple[str, str], str] = {}
        """By User and platform: the last status."""
        self.url = ""

    async def take(self, request: web.BaseRequest) -> web.Response:
        """Refuses now and then, before it looks: the whole batch must come again."""
        body = await request.read()
        if self._chance.random() < SHARE_REFUSED:
            return web.Response(status=500)
        for change in json.loads(body):
            self._note(
                str(change["userid"]), change["os"], change["sessionId"], "0" if change["status"] == "0" else "1"
            )
        return web.Response()

    def _note(self, user: str, platform: str, session: str, status: str) -> None:
        change = (session, status)
        self._ledger.counts["webhook changes"] += 1
        if change in self.received:
            self._ledger.counts["webhook changes again"] += 1
            return
        self.received.add(change)
        self.status[user, platform] = status
        if change not in self._feeds.demanded:
            self._at.pop(user, None)
            return  # no reader of the feed is there yet; or Redis lost something, and the feed is delivered from its beginning
        place = self._feeds.of_session[change]
        before = self._at.get(user)
        if before is not None and before[0] == place[0] and place[1] < before[1]:
            self._ledger.broken("webhook out of order", f"{user}: {change} is {place}, after {before}")
        self._at[user] = place


@asynccontextmanager
async def receiving(hooks: Hooks) -> AsyncIterator[Hooks]:
    """Listens on a free port for as long as the block runs."""
    runner = web.ServerRunner(web.Server(hooks.take), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hooks.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield hooks
    finally:
        await runner.cleanup()
