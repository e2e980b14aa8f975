"""What one WebSocket is shown of the Users that it watches: their state when it begins, then each change, at most every 200 ms.

Where the App has `hide_presence` on, a User whose lists refuse the viewer is shown as one that was never online, and is not
shown again when it comes or goes. Lists and settings change too, and entries of lists end: `look_again` compares who is hidden
now with what was shown, every other second. If the viewer's Token is not accepted any more, it watches nothing, and gets
`watch-ended`.

Nothing here waits for a client: one that takes nothing keeps its changes, the newest state of each User, until it is cut off.
Called by `websocket` and `messages`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice

import msgspec

from gate.clock import monotonic_ms
from gate.core import token
from gate.core.decide import lists_refuse
from gate.errors import InvalidInput, ReplicaError, Stale, TokenRefused
from gate.http.client.notices import WatchEnded, presence_changed
from gate.http.context import Deps
from gate.http.errors import client_problem
from gate.http.v1.presence import NEVER_SEEN, presence_json
from gate.presence.local_gateway import LocalSession
from gate.presence.watching import Watch, WatchedUser
from gate.replica.app_reading import AppReading
from gate.replica.reader import app_of

# Of one connection, as of one question about Presence.
MAX_WATCHED_USERS = 1_000
# Users of one message: some 30 kB, which fit in a socket's buffer. The others follow.
PUSHED_AT_ONCE = 200
# Changes of so long go out together, so a client that watches busy Users gets five messages a second at most.
PUSH_EVERY_S = 0.2
# How often it is compared who is hidden; less often where the looks of all connections take more than their share.
LOOK_EVERY_S = 2.0

# Sends a message without waiting; False if the client has not taken what it was sent before.
Push = Callable[[bytes], Awaitable[bool]]


class Watcher:
    """Of one connection; `close` it with that."""

    def __init__(self, deps: Deps, session: LocalSession, push: Push) -> None:
        self._deps = deps
        self._session = session
        self._app_key = session.app.key
        self._push = push
        self._watch: Watch | None = None
        self._hidden = set[bytes]()
        self._is_due = False
        self._is_looked_at = False
        self._pushed_at_ms = 0

    async def watch(self, users: Sequence[bytes]) -> list[msgspec.Raw]:
        """Watch these Users too; their Presence, as the viewer may see it. Raises `InvalidInput` and `StoreUnavailable`."""
        watch = self._watch
        if watch is None:
            watch = self._watch = self._deps.watches.new(self._app_key, self._on_change)
        # Counted before Redis is asked: a client over its bound costs no read.
        new = set(users) - watch.users.keys()
        if len(watch.users) + len(new) > MAX_WATCHED_USERS:
            raise InvalidInput(
                "users",
                f"a connection may watch at most {MAX_WATCHED_USERS} Users: it watches {len(watch.users)}, "
                f"and {len(new)} would be new; unwatch some first",
            )
        await watch.add(users)
        if not self._is_looked_at:
            self._is_looked_at = True
            self._deps.looking.add(self.look_again, LOOK_EVERY_S)
        # From here to the send nothing else has a turn, so no change can overtake this state.
        for user in users:
            watch.changed.pop(user, None)
            watch.users[user].watches[watch] = None  # all of them, also those that were pushed during the read
        try:
            return self._newly_shown(watch, users)
        except BaseException:
            watch.remove(new)
            raise

    def unwatch(self, users: Sequence[bytes] | None) -> int:
        """Watch these no more, None: any; how many are watched still."""
        if self._watch is None:
            return 0
        gone = list(self._watch.users) if users is None else users
        self._watch.remove(gone)
        self._hidden.difference_update(gone)
        return len(self._watch.users)

    def close(self) -> None:
        """The connection ended."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def push_changes(self) -> float | None:
        """A turn: send what changed. Seconds to the next turn; None if nothing is left."""
        self._is_due = False
        watch = self._watch
        if watch is None or not watch.changed:
            return None
        # The oldest changes first, so that none waits for ever behind busy Users.
        users = list(islice(watch.changed, PUSHED_AT_ONCE))
        before = [(watch.users[user], watch.users[user].watches[watch]) for user in users]
        try:
            shown = self._newly_shown(watch, users)
        except (ReplicaError, Stale):
            return self._again()
        except TokenRefused as refused:
            return await self._end(refused)
        for user in users:  # before the send: what changes during it counts for the next turn
            watch.changed.pop(user, None)
        if shown and not await self._push(presence_changed(shown)):
            self._take_back(watch, before)
            return self._again()
        if shown:  # else the delay of the next change would tell that a hidden User came or went
            self._pushed_at_ms = monotonic_ms()
        return self._again() if watch.changed else None

    async def look_again(self) -> float | None:
        """A turn: mark Users that became hidden, or visible. Seconds to the next turn; None if nothing is watched."""
        watch = self._watch
        if watch is None or not watch.users:
            self._is_looked_at = False
            return None
        try:
            hidden = self._hidden_of(watch.users)
        except (ReplicaError, Stale):
            return LOOK_EVERY_S
        except TokenRefused as refused:
            self._is_looked_at = False
            return await self._end(refused)
        # Those whose state changed: they are shown again by the next push, and compared there.
        for user in hidden ^ self._hidden:
            watch.mark(user)
        return LOOK_EVERY_S

    def _take_back(self, watch: Watch, before: Iterable[tuple[WatchedUser, bytes | None]]) -> None:
        """A message was not sent: its Users were last shown what they were before."""
        for watched, shown in before:
            if watched.id in watch.users:
                watched.watches[watch] = shown
                watch.changed[watched.id] = None

    def _newly_shown(self, watch: Watch, users: Sequence[bytes]) -> list[msgspec.Raw]:
        """The JSON of those whose state is another than the one that was shown."""
        hidden, found = self._hidden_of(users), list[msgspec.Raw]()
        # Of these Users only: what is known of the others stays.
        self._hidden.difference_update(users)
        self._hidden |= hidden
        for user in dict.fromkeys(users):
            watched = watch.users.get(user)
            if watched is None:
                continue
            if user in hidden:
                shown = msgspec.json.encode(presence_json(user, NEVER_SEEN))
            else:
                # Made once for all who watch the User.
                shown = watched.shown = watched.shown or msgspec.json.encode(presence_json(user, watched.presence))
            if watched.watches[watch] != shown:
                watched.watches[watch] = shown
                found.append(msgspec.Raw(shown))
        return found

    def _hidden_of(self, users: Collection[bytes]) -> set[bytes]:
        """Those that the viewer sees as never online. Raises `TokenRefused`, `Stale` and `ReplicaError`."""
        # The age before the facts, as everywhere.
        viewer, now_ms, stale_ms = self._session.user, self._deps.now_ms(), self._deps.replica.stale_ms()
        with self._deps.replica as snapshot:
            app = app_of(snapshot, self._app_key)
            self._check_token(app, now_ms)
            # The Token was checked: no list need be read.
            if not app.app.hide_presence:
                return set()
            self._deps.refuse_stale_ms(stale_ms, app.app)
            return {user for user in users if lists_refuse(app, viewer, user, now_ms)}

    def _check_token(self, app: AppReading, now_ms: int) -> None:
        session = self._session
        token.check_standing(app.app, session.generation, session.expires_at_ms, now_ms)
        token.check_user(session.minted_at_ms, app.user(session.user), now_ms)

    async def _end(self, refused: TokenRefused) -> float | None:
        # First: nothing is pushed any more, whether or not the client takes the message.
        self.unwatch(None)
        problem = client_problem(refused, "")
        ended = WatchEnded(error=str(problem.body["error"]), message=str(refused))
        await self._push(msgspec.json.encode(ended))
        return None

    def _on_change(self) -> None:
        if not self._is_due:
            self._is_due = True
            since_s = (monotonic_ms() - self._pushed_at_ms) / 1_000
            # At once if the last message is long past, so that a lone change is not delayed.
            self._deps.pushing.add(self.push_changes, max(0.0, PUSH_EVERY_S - since_s))

    def _again(self) -> float:
        self._is_due = True
        return PUSH_EVERY_S
