"""Closes Sessions for what the Changelog says: a Ban is one act; so are deactivation and, if the App says so, revocation.

    ban-imposed       every Session of the User, `banned`, if the Ban is still in force
    user-deactivated  every Session, `deactivated`
    tokens-revoked    those whose Token was minted before the moment, `token-revoked`; Apps with close_sessions_on_expire
    user-erased       what is kept of the User's last moments is dropped
    app-removed       all of the App's Presence is dropped; and dropped again where a node lets a Gateway in meanwhile

How far this got is noted in Redis behind the work, so a restart repeats at most a little, and closing twice does no harm; every
node does all of it. Where the Changelog can't be read on from there (entries that are gone, another epoch), and where nobody
followed it before, all who are online are held against their facts instead, and it goes on from heads that were read before.

Called by the background role, `run` until cancelled.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import Change, ChangeUnreadable
from gate.core.history import check_follows, check_heads
from gate.core.model import AppFacts
from gate.core.revision import Position
from gate.errors import AppUnknown, ChangelogBroken, StoreUnavailable
from gate.store.apps import Apps
from gate.store.changelog import Changelog
from gate.store.presence import LogPosition, PresenceStore
from gate.store.users import Users

BLOCK_MS = 500
RETRY_S = 0.25
DROP_REMOVED_EVERY_MS = 10_000
ONLINE_A_PAGE = 500
EPOCH_OVER = (1 << 53) - 1
"""The floor of a Changelog's epoch that is no more: no Replica that is still at it lets anybody connect."""

Counted = Callable[[str, int], None]
"""Counts Sessions that were closed, by why."""
Timed = Callable[[int], None]
"""Is told how many ms after a Change its Sessions were closed, by the clocks of whoever wrote it and of this node."""

_log = structlog.get_logger()


class _Cause(NamedTuple):
    app: str
    why: str
    minted_before_ms: int | None


class SessionRevoker:
    """One a process."""

    def __init__(
        self,
        changelog: Changelog,
        apps: Apps,
        users: Users,
        presence: PresenceStore,
        count: Counted = lambda why, many: None,
        timed: Timed = lambda ms: None,
    ) -> None:
        self._changelog = changelog
        self._apps = apps
        self._users = users
        self._presence = presence
        self._count = count
        self._timed = timed
        self._places: list[Position] = []
        self._server_id: str | None = None
        """The run of Presence's server that keeps what was noted; None where that has to be read anew."""
        self._drop_removed_at_ms = 0

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                # Another run may have lost what was closed, and how far that got with it.
                if self._presence.client.server_id != self._server_id:
                    await self.follow_from_noted()
                await self.follow_once(BLOCK_MS)
                if monotonic_ms() >= self._drop_removed_at_ms:
                    await self.drop_removed()
                    self._drop_removed_at_ms = monotonic_ms() + DROP_REMOVED_EVERY_MS
            except StoreUnavailable as away:
                _log.debug("kicks are put off", problem=str(away))
                self._server_id = None
                await asyncio.sleep(RETRY_S)

    async def follow_once(self, block_ms: int) -> None:
        """Do what the next Changes ask for, waiting up to `block_ms` for the first."""
        try:
            news = await self._changelog.read(self._places, block_ms)
            behind = {partition: check_follows(self._places[partition], some) for partition, some in news.items()}
        except (ChangeUnreadable, ChangelogBroken) as fault:
            await self._reconcile(str(fault))
            return
        for partition, some in news.items():
            await self._act(self._places[partition].epoch, some)
            self._places[partition] = behind[partition]
        if news:
            await self._note(list(news))
        else:
            await self._look_at_heads()

    async def drop_removed(self) -> None:
        """Drop all Presence of what is no App. A node that has yet to see one removed lets its Gateways in for as long."""
        for app_key in await self._apps.missing(await self._presence.apps()):
            await self._presence.remove_app(app_key)

    async def follow_from_noted(self) -> None:
        """Take up where this or another node stopped; where none ever began, from now on. Raises `StoreUnavailable`."""
        await self._changelog.prepare()  # a bar without the Changelog's epoch would hold nobody back
        heads, noted = await self._changelog.heads(), await self._presence.kicked_up_to()
        self._server_id = self._presence.client.server_id
        is_first = not self._places and len(noted) < len(heads)
        begin = self._places or heads
        places = [noted.get(at, begin[at]) for at in range(len(heads))]
        self._places = places
        try:
            check_heads(places, heads)
        except ChangelogBroken as broken:
            await self._reconcile(str(broken))
        else:
            if is_first:  # a node's ports answer sooner than this role is at work: who was banned meanwhile?
                await self._look_at_everybody()
            # Where nothing was noted yet, the next process would begin with its own now, and miss what came in between.
            await self._note(range(len(places)))

    async def _look_at_heads(self) -> None:
        """A Redis that lost writes stays silent for a while and then reuses sequence numbers, so compare the heads."""
        heads = await self._changelog.heads()
        try:
            check_heads(self._places, heads)
        except ChangelogBroken as broken:
            await self._reconcile(str(broken))

    async def _act(self, epoch: str, changes: Sequence[Change]) -> None:
        causes: dict[_Cause, dict[bytes, int]] = defaultdict(dict)
        erased = defaultdict[str, list[bytes]](list)
        revoked = {change.app for change in changes if change.kind == "tokens-revoked"}
        closing = {app_key for app_key in revoked if await self._closes_on_expire(app_key)}
        for change in changes:
            if change.kind == "app-removed":
                await self._presence.remove_app(change.app)
            elif change.kind == "user-erased":
                erased[change.app].append(change.user)
            elif (cause := _cause(change, closing)) is not None:
                causes[cause].setdefault(change.user, change.at_ms)
        up_to = LogPosition(epoch, changes[-1].seq)
        for cause, users in causes.items():
            for before_ms, some in (await self._by_token(cause, list(users))).items():
                closed = await self._presence.kick(cause.app, some, cause.why, minted_before_ms=before_ms, up_to=up_to)
                self._count(cause.why, closed)
                if closed:  # by this node: another one that was faster has told it
                    self._timed(max(0, wall_ms() - min(users[user] for user in some)))
        for app_key, gone in erased.items():
            await self._presence.forget_users(app_key, gone)

    async def _by_token(self, cause: _Cause, users: Sequence[bytes]) -> dict[int | None, list[bytes]]:
        """Whom to close for it, by the moment before which their Tokens have to be minted; None for any.

        What was done by another node or before a restart is repeated: that must close nobody whose Ban was lifted since, and
        of one that was reactivated only what came with the Tokens from before.
        """
        if cause.why == "token-revoked":
            return {cause.minted_before_ms: list(users)}
        now_ms, found = wall_ms(), defaultdict[int | None, list[bytes]](list)
        for user, facts in zip(users, await self._users.facts(cause.app, users), strict=True):
            if facts.deactivated or facts.banned_until_ms > now_ms:
                found[None].append(user)
            elif cause.why == "deactivated":
                found[facts.tokens_valid_from_ms].append(user)
        return found

    async def _closes_on_expire(self, app_key: str) -> bool:
        try:
            return (await self._apps.get(app_key)).close_sessions_on_expire
        except AppUnknown:
            return False

    async def _reconcile(self, problem: str) -> None:
        """Hold everybody who is online against the facts."""
        _log.warning("kicks can't follow the Changelog; looking at everybody who is online", problem=problem)
        await self._look_at_everybody()

    async def _look_at_everybody(self) -> None:
        heads = await self._changelog.heads()
        # Whoever connects meanwhile is not found, so it has to be verified on facts that are as new as these.
        floors = {place.epoch: EPOCH_OVER for place in self._places} | {head.epoch: head.seq for head in heads}
        await self.drop_removed()
        for app_key in await self._presence.apps():
            try:
                app = await self._apps.get(app_key)
            except AppUnknown:  # removed just now: the Changelog tells of it
                continue
            await self._presence.set_floors(app_key, floors)
            cursor = -1
            while cursor:
                found, cursor = await self._presence.page(app_key, max(0, cursor), ONLINE_A_PAGE)
                await self._hold_against_facts(app, [user for user, _ in found])
        self._places = heads
        await self._note(range(len(heads)))

    async def _hold_against_facts(self, app: AppFacts, users: Sequence[bytes]) -> None:
        now_ms = wall_ms()
        for user, facts in zip(users, await self._users.facts(app.key, users) if users else (), strict=True):
            closed = 0
            if facts.deactivated:
                closed = await self._presence.kick(app.key, [user], "deactivated")
            elif facts.banned_until_ms > now_ms:
                closed = await self._presence.kick(app.key, [user], "banned")
            elif app.close_sessions_on_expire and facts.tokens_valid_from_ms:
                before_ms = facts.tokens_valid_from_ms
                closed = await self._presence.kick(app.key, [user], "token-revoked", minted_before_ms=before_ms)
            if closed:
                self._count("found-by-looking", closed)

    async def _note(self, partitions: Sequence[int]) -> None:
        await self._presence.note_kicked({at: self._places[at] for at in partitions})


def _cause(change: Change, closing_on_expire: Container[str]) -> _Cause | None:
    if change.kind == "ban-imposed":
        return _Cause(change.app, "banned", None)
    if change.kind == "user-deactivated":
        return _Cause(change.app, "deactivated", None)
    if change.kind == "tokens-revoked" and change.app in closing_on_expire:
        return _Cause(change.app, "token-revoked", int(change.value))
    return None
