"""Connection to the server: deadlines, failing fast while it is away, and the meaning of its errors.

Every call has a deadline. After a missed deadline or a refused connection, calls fail at once with `StoreUnavailable` while a
background probe tries a fresh connection every `PROBE_EVERY_MS`. Only its success permits commands again. So a hanging Redis
costs one caller one deadline, not every caller.

If the server merely closed a connection, the next call opens a new one. A write without an answer has the outcome "unknown".
One that was never sent, or that the server refused, has "not-written".

All connections of a Client lead to one run of one server. The address may lead to another server while connections stay open (a
virtual IP, a Kubernetes Service, a demoted server), so a fresh connection is made every `CHECK_ADDRESS_EVERY_MS`. If the newest
connection reaches another run than older ones, those are closed. A replica counts as away.

With Sentinels, each connection first asks them for the primary (`sentinel`), and a failover that they publish triggers a fresh
connection at once. If they name another primary than before, or are replacing it, every connection to the old one is closed.
Commands in flight to it have the outcome "unknown": a reply of a demoted primary is no acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import weakref
from collections.abc import Callable, Sequence
from functools import partial

from gate.clock import monotonic_ms
from gate.errors import Outcome, StoreUnavailable
from gate.store.address import Address
from gate.store.link import (
    Command,
    Link,
    LinkLost,
    NotPrimary,
    OnMessage,
    Reply,
    ReplyError,
    is_noscript,
    may_have_run,
    open_link,
    raise_first_error,
)
from gate.store.scripts import Call
from gate.store.sentinel import Sentinels

# A connection and three commands. Freshness depends on it: three may miss their deadline before facts are called stale.
CHECK_ADDRESS_EVERY_MS = 700
# Between two checks of the address, regardless of how long connecting takes.
LEAST_PAUSE_MS = 50
# Short enough for service within half a second of Redis's return. Each probe is one connection and one PING.
PROBE_EVERY_MS = 250


class Client:
    """Shared by all callers of a process on one loop. Call `aclose` when done."""

    def __init__(
        self,
        address: Address,
        deadline_ms: int | None = None,
        connect_ms: int | None = None,
        on_open: Callable[[Link], object] = bool,
        on_away: Callable[[], object] = bool,
    ) -> None:
        """Deadlines default to the address's. `on_open` is called with each new connection, `on_away` at each loss."""
        self.address = address
        self.deadline_ms = deadline_ms or address.timeout_ms
        self._connect_ms = connect_ms or address.connect_timeout_ms
        self.link: Link | None = None
        self._connecting = asyncio.Lock()
        self._away: str = ""
        self._probe: asyncio.Task[None] | None = None
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._checking: asyncio.Task[None] | None = None
        self.sentinels = Sentinels(address, self._connect_ms, self._moved, self._look) if address.sentinels else None
        self._following: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._on_open, self._on_away = on_open, on_away
        self._reached_at_ms = 0
        self._reached = ""
        self._address_problem = ""

    def another(self) -> Client:
        """Return another Client to the same server, for another event loop. Call this in that loop."""
        return Client(self.address, self.deadline_ms, self._connect_ms)

    @property
    def reached_at_ms(self) -> int:
        """When the newest connection that reached the server was begun; on the monotonic clock."""
        return self._reached_at_ms

    @property
    def address_problem(self) -> str:
        """Why the last check of the address failed; "" if it succeeded."""
        return self._address_problem

    @property
    def reached(self) -> str:
        """The run of the server that the newest connection reached, even if it is closed by now."""
        return self._reached

    @property
    def problem(self) -> str:
        """Why calls fail at once; "" while they do not."""
        return self._away

    @property
    def is_partly_away(self) -> bool:
        """Whether some of several servers are away while the others answer."""
        return False

    @property
    def server_id(self) -> str:
        """The run of the server that commands reach now; "" without a connection."""
        return self.link.server_id if self.link is not None and self.link.is_open else ""

    async def masters(self) -> Sequence[Client]:
        """Return a Client for each server with facts: this one, or each master of a Cluster. Raises `StoreUnavailable`."""
        return (self,)

    def master_of(self, key: bytes) -> Client:
        """Return the one of `masters` that has this key. Raises `StoreUnavailable`."""
        return self

    async def steady_owners(self, keys: Sequence[bytes]) -> Sequence[Address | None]:
        """Return the server of each key. Raises `StoreUnavailable` while a key is being moved to another server."""
        return [self.address] * len(keys)

    def server_ids(self, keys: Sequence[bytes]) -> list[str]:
        """Return the run of the server of each key, from the newest connections."""
        return [self.server_id] * len(keys)

    async def publish(self, channel: bytes, message: bytes) -> None:
        """Send a message to the subscribers of a channel (`Subscription`). Raises `StoreUnavailable`."""
        _, replies = await self._exchange([("PUBLISH", channel, message)], "not-written")
        if isinstance(replies[0], ReplyError):
            raise_first_error(replies)

    async def read(self, *commands: Command, at: bytes = b"") -> list[Reply]:
        """Run read-only commands in one pipeline. A command without a key is sent to the server of the key `at`.

        Raises `StoreUnavailable`.
        """
        _, replies = await self._exchange(commands, "not-written")
        if any(isinstance(reply, ReplyError) for reply in replies):
            raise_first_error(replies)
        return replies

    async def query(self, call: Call) -> Reply:
        """Run a read-only script. Raises `StoreUnavailable`."""
        return (await self.query_each([call]))[0]

    async def query_each(self, calls: Sequence[Call]) -> list[Reply]:
        """Run read-only scripts in one pipeline. Raises `StoreUnavailable`."""
        link, replies = await self._exchange(partial(_commands, calls), "not-written")
        if any(isinstance(reply, ReplyError) for reply in replies):
            await self._repeat_unknown(link, calls, replies, "not-written")
        return replies

    async def write(self, calls: Sequence[Call], behind: Sequence[Call] = ()) -> list[Reply]:
        """Run scripts in one pipeline. Those of `behind` run after all others, on the same connection, and reply last.

        Raises `StoreUnavailable`, with the outcome "unknown" even if only some of several scripts ran.
        """
        asked = [*calls, *behind]
        link, replies = await self._exchange(partial(_commands, asked), "unknown")
        if any(isinstance(reply, ReplyError) for reply in replies):
            await self._repeat_unknown(link, asked, replies, "unknown", len(behind))
        return replies

    async def write_each(self, calls: Sequence[Call]) -> list[Reply]:
        """Run scripts in one pipeline, in order. The reply of one that the server refused is a `ReplyError`.

        Each must be safe to repeat. Raises `StoreUnavailable` if nothing was answered.
        """
        _, replies = await self._exchange(partial(_commands, calls), "unknown")
        errors = [at for at, reply in enumerate(replies) if isinstance(reply, ReplyError)]
        unknown = next((at for at in errors if is_noscript(replies[at])), len(calls))
        if unknown < len(calls):
            # All from there on, to keep their order: of an open and a close of one Session, the close must not run first.
            # Resending costs nothing unless scripts are flushed; 14 kB of source in each pipeline would.
            _, replies[unknown:] = await self._exchange([call.by_source for call in calls[unknown:]], "unknown")
        return replies

    async def open_dedicated(self, on_message: OnMessage | None = None, key: bytes = b"") -> Link:
        """Open a Link for the caller alone to the server of a key, for commands that block or have long answers.

        Raises `StoreUnavailable`.
        """
        try:
            return await self._open(on_message)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None

    def reconnect(self, problem: str) -> None:
        """Close every connection. Each caller that needs one opens a new one."""
        self._drop(list(self._links), problem)

    async def aclose(self) -> None:
        """Close the connection and end the probe."""
        # Set first, so that no caller reconnects while connections are closed.
        self._away = "the store was closed"
        tasks = [task for task in (self._probe, self._checking, self._following) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.link is not None:
            await self.link.aclose()
        if self.sentinels is not None:
            await self.sentinels.aclose()

    async def connect(self) -> Link:
        """Return the shared connection, opened if necessary. Raises `StoreUnavailable`."""
        try:
            return await self._shared()
        except LinkLost as loss:
            self._note_loss(str(loss))
            raise StoreUnavailable(str(loss)) from None

    async def exchange(
        self, commands: Sequence[Command] | Callable[[Link], Sequence[Command]], deadline_ms: int
    ) -> tuple[Link, list[Reply]]:
        """Send commands over the shared connection. Returns the connection and the replies, errors among them.

        Raises `StoreUnavailable`, with the outcome "unknown" if the commands were sent.
        """
        return await self._exchange(commands, "unknown", deadline_ms=deadline_ms)

    async def _repeat_unknown(
        self, link: Link, calls: Sequence[Call], replies: list[Reply], outcome_if_sent: Outcome, behind: int = 0
    ) -> None:
        """Run the scripts again that the server did not know, and put their replies in place. Any other error is raised."""
        missing = {at for at, reply in enumerate(replies) if is_noscript(reply)}
        if missing:
            # What runs behind the others must come after the last of them.
            again = sorted(missing | set(range(len(calls) - behind, len(calls))))
            # Over the same connection: a read behind writes must be answered by the server that took them.
            _, late = await self._exchange([calls[at].by_source for at in again], outcome_if_sent, link)
            for at, reply in zip(again, late, strict=True):
                replies[at] = reply
        # What runs behind the writes writes nothing, so its success does not imply theirs.
        writes = replies[: len(calls) - behind]
        # If all were refused, the outcome is certain.
        some_ran = any(map(may_have_run, writes))
        raise_first_error(replies, outcome_if_sent if some_ran else "not-written")

    async def _exchange(
        self,
        commands: Sequence[Command] | Callable[[Link], Sequence[Command]],
        outcome_if_sent: Outcome,
        link: Link | None = None,
        deadline_ms: float | None = None,
    ) -> tuple[Link, list[Reply]]:
        """Send commands over `link`, or over the shared connection. `deadline_ms` overrides the default."""
        try:
            if link is None:
                # The fast path, without a lock.
                link = self.link if self.link is not None and self.link.is_open else await self._shared()
            sent = commands(link) if callable(commands) else commands
            return link, await link.exchange(sent, deadline_ms or self.deadline_ms)
        except LinkLost as loss:
            self._note_loss(str(loss))
            raise StoreUnavailable(str(loss), outcome_if_sent if loss.was_sent else "not-written") from None

    async def _shared(self) -> Link:
        if self._away:
            raise LinkLost(self._away, was_sent=False)
        async with self._connecting:
            if self._away:  # the previous holder of the lock failed to connect
                raise LinkLost(self._away, was_sent=False)
            if self.link is None or not self.link.is_open:
                self.link = await self._open()
            return self.link

    async def _open(self, on_message: OnMessage | None = None) -> Link:
        """Connect. The newest connection determines the right server. Raises `LinkLost`."""
        began_ms = monotonic_ms()
        if self.sentinels is not None:
            link = await self._open_primary(self.sentinels, on_message)
        else:
            link = await open_link(self.address, self._connect_ms, on_message)
        # A slower connect must not replace the finding of a later one.
        if link.server_id != self._reached and began_ms < self._reached_at_ms:
            await link.aclose()
            raise LinkLost(f"{self.address.shown} led to another server a moment later", was_sent=False)
        self._reached_at_ms, self._reached, self._address_problem = began_ms, link.server_id, ""
        self._drop(
            [other for other in self._links if other.server_id != link.server_id],
            f"{self.address.shown} leads to another server now, or to another run of it",
        )
        self._links.add(link)
        self._on_open(link)
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check_address())
        if self.sentinels is not None and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self.sentinels.follow())
        return link

    async def _open_primary(self, sentinels: Sentinels, on_message: OnMessage | None) -> Link:
        server = await sentinels.primary()
        # Until the connection has proved that the named server is the primary.
        sentinels.is_doubted = True
        link = await open_link(server, self._connect_ms, on_message)
        if sentinels.named != server:
            await link.aclose()
            raise LinkLost(f"{server.shown} is not the primary any more", was_sent=False)
        sentinels.is_doubted = False
        return link

    def _moved(self, problem: str) -> None:
        """The Sentinels name another primary: replies of the old one no longer count."""
        for link in list(self._links):
            link.drop(problem)

    def _look(self) -> None:
        """Make a fresh connection now instead of at the end of the wait."""
        # A new event for the next wait, before the present waiters wake.
        hint, self._hint = self._hint, asyncio.Event()
        hint.set()

    async def _wait(self, wait_ms: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                await self._hint.wait()

    def _drop(self, links: Sequence[Link], problem: str) -> None:
        for link in links:
            if link is self.link:
                link.give_up(problem)  # shared: replies in flight may confirm writes
            else:
                link.drop(problem)

    async def _check_address(self) -> None:
        began_ms = monotonic_ms()
        while True:
            # From start to start: over a slow link connecting takes as long as the wait, and freshness depends on both.
            wait_ms = began_ms + CHECK_ADDRESS_EVERY_MS * random.uniform(0.9, 1.1) - monotonic_ms()
            await self._wait(max(wait_ms, LEAST_PAUSE_MS))
            began_ms = monotonic_ms()
            if self._away:
                continue  # the probe opens connections
            try:
                link = await self._open()
            except LinkLost as loss:
                self._address_problem = str(loss)
                # The address leads to a replica: replies of older connections do not count either.
                if isinstance(loss, NotPrimary):
                    self._drop(list(self._links), str(loss))
                    self._note_loss(str(loss))
            else:
                link.drop("the address was checked")

    def _note_loss(self, problem: str) -> None:
        """Fail fast from now on, until the probe succeeds."""
        if self._away:
            return
        self._away = problem
        self._on_away()
        self._probe = asyncio.get_running_loop().create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        while True:
            try:
                link = await self._open()
            except LinkLost as loss:
                self._away = str(loss)
                await self._wait(PROBE_EVERY_MS)
                continue
            if self.link is not None and self.link.is_open:  # a caller connected just when another call failed
                await link.aclose()
            else:
                self.link = link
            self._away = ""
            return


def _commands(calls: Sequence[Call], link: Link) -> list[Command]:
    """Send each script by its SHA-1, but by its source the first time on a connection.

    A restarted server knows no script. If it refused only some of a pipeline, those would have to run again after the ones
    that it knew, or all of them twice.
    """
    commands: list[Command] = []
    for call in calls:
        script = call.script
        form = ("EVALSHA", script.sha) if script.sha in link.scripts else ("EVAL", script.source)
        commands.append((*form, len(call.keys), *call.keys, *call.args))
        link.scripts.add(script.sha)
    return commands
