"""Follows the Changelog and closes the Sessions of Users that a Change no longer allows to be online.

    ban-imposed       every Session of the User, `banned`, if the Ban is still in force
    user-deactivated  every Session, `deactivated`
    tokens-revoked    those whose Token was minted before the moment, `token-revoked`; Apps with close_sessions_on_expire
    user-erased       the User's last-seen and last-active times are deleted
    app-removed       all of the App's Presence is deleted, and again if a node still accepted a Gateway meanwhile

The position is stored in Redis after the work, so a restart repeats only a little, and closing twice does no harm. Every node
does all of the work. If the Changelog can't be read on from that position (entries were trimmed, another epoch), or if no node
followed it before, all online Users are compared with their facts instead, and following starts at heads read before that.

Called by the background role, `run` until cancelled.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import Change, ChangeUnreadable, check_follows, check_heads
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
# The floor for a Changelog epoch that has ended: a Replica that is still in it may admit no connect.
EPOCH_OVER = (1 << 53) - 1

# Counts closed Sessions by reason.
Counted = Callable[[str, int], None]
# Gets the ms from a Change to the close of its Sessions, by the clocks of the node that wrote it and of this node.
Timed = Callable[[int], None]

_log = structlog.get_logger()


class _Cause(NamedTuple):
    app: str
    why: str
    minted_before_ms: int | None


class SessionRevoker:
    """Revokes Sessions of all Apps. One per process."""

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
        """The run of Presence's server in which the position was read; None if it must be read again."""
        self._drop_removed_at_ms = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                # Another run may have lost closes, and the stored position with them.
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
        """Apply the next Changes; wait up to `block_ms` for the first."""
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
            # A Redis that lost writes stays silent for a while and then reuses sequence numbers, so compare the heads.
            await self._goes_on(await self._changelog.heads())

    async def drop_removed(self) -> None:
        """Delete all Presence of removed Apps. A node that has not seen the removal yet still accepts their Gateways."""
        for app_key in await self._apps.missing(await self._presence.apps()):
            await self._presence.remove_app(app_key)

    async def follow_from_noted(self) -> None:
        """Continue where this or another node stopped, or start now if none ever followed. Raises `StoreUnavailable`."""
        await self._changelog.prepare()  # a connect fence without the Changelog's epoch would stop no connect
        heads, noted = await self._changelog.heads(), await self._presence.kicked_up_to()
        self._server_id = self._presence.client.server_id
        is_first = not self._places and len(noted) < len(heads)
        # Heads are read before the noted places: a Change between the two is applied again rather than missed.
        begin = self._places or heads
        places = [noted.get(at, begin[at]) for at in range(len(heads))]
        self._places = places
        if await self._goes_on(heads):
            if is_first:  # the node's ports were open before this role ran: find Users banned since
                await self._check_all_online()
            # Without a stored position, the next process would start at its own now, and miss the Changes in between.
            await self._note(range(len(places)))

    async def _goes_on(self, heads: Sequence[Position]) -> bool:
        """Whether the Changelog with these heads can be read on from the present position. If not, reconcile."""
        try:
            check_heads(self._places, heads)
        except ChangelogBroken as broken:
            await self._reconcile(str(broken))
            return False
        return True

    async def _act(self, epoch: str, changes: Sequence[Change]) -> None:
        causes: dict[_Cause, dict[bytes, int]] = defaultdict(dict)
        erased = defaultdict[str, list[bytes]](list)
        # The setting is read once for each App, not for each Change.
        revoked = {change.app for change in changes if change.kind == "tokens-revoked"}
        closing = {app_key for app_key in revoked if await self._closes_on_expire(app_key)}
        for change in changes:
            if change.kind == "app-removed":
                await self._presence.remove_app(change.app)
            elif change.kind == "user-erased":
                erased[change.app].append(change.user)
            elif (cause := _cause(change, closing)) is not None:
                # The first Change of a User counts for the measured time.
                causes[cause].setdefault(change.user, change.at_ms)
        up_to = LogPosition(epoch, changes[-1].seq)
        for cause, users in causes.items():
            for before_ms, some in (await self._by_token(cause, list(users))).items():
                closed = await self._presence.kick(cause.app, some, cause.why, minted_before_ms=before_ms, up_to=up_to)
                self._count(cause.why, closed)
                if closed:  # by this node: a faster node has reported its own closes
                    self._timed(max(0, wall_ms() - min(users[user] for user in some)))
        for app_key, gone in erased.items():
            await self._presence.forget_users(app_key, gone)

    async def _by_token(self, cause: _Cause, users: Sequence[bytes]) -> dict[int | None, list[bytes]]:
        """Return the Users to disconnect, by the moment before which their Tokens were minted; None for any Token.

        Changes are applied again on every node and after a restart. So a User whose Ban was lifted since is left out, and of
        a reactivated User only the Sessions with Tokens from before are closed.
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
        """Compare all online Users with the facts."""
        _log.warning("kicks can't follow the Changelog; looking at everybody who is online", problem=problem)
        await self._check_all_online()

    async def _check_all_online(self) -> None:
        heads = await self._changelog.heads()
        # Users who connect meanwhile are not found, so their connects must be verified on facts at least as new as these.
        floors = {place.epoch: EPOCH_OVER for place in self._places} | {head.epoch: head.seq for head in heads}
        await self.drop_removed()
        for app_key in await self._presence.apps():
            try:
                app = await self._apps.get(app_key)
            except AppUnknown:  # removed just now: the Changelog has that Change
                continue
            await self._presence.set_floors(app_key, floors)
            # 0 is both the first page's cursor and the end's, so the loop begins with neither.
            cursor = -1
            while cursor:
                found, cursor = await self._presence.page(app_key, max(0, cursor), ONLINE_A_PAGE)
                await self._hold_against_facts(app, [user for user, _ in found])
        # Of before the look: Changes made during it are applied next.
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
