"""Checks that writes are as durable as `--durability` requires: on the server's disk, or on replicas.

A server answers WAIT and WAITAOF for the last write of the same connection, and blocks that connection until it answers. After
each write on the shared connection they would delay every other caller. So they are sent on a separate Link, after a mark that
is written there (`lua/mark.lua`). A history is linear: the mark follows every write that was answered before the mark was sent,
if server and history are still those that answered, which the mark's own answer shows.

One request is in flight at a time, for all callers that waited when it was sent. Callers that arrive meanwhile wait for the
next one. This costs them nothing: their writes are later in the history, and no replica has a later write before an earlier
one (docs/decisions/0015). In a Redis Cluster, every master that took part of a write is asked. Used by `acks`. `require` is
called at the start; `gate doctor` checks by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.core.revision import APPS_PARTITION
from gate.errors import CannotStart, StoreUnavailable
from gate.option_values import DurabilityLevel
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, Reply, ReplyError, is_noscript
from gate.store.scripts import Call
from gate.store.writer import WriteReceipt

# Runs of servers whose connection is kept for the next request; a Cluster may have this many masters.
MAX_RUNS_KEPT = 64
# After a failed request: far below the wait of a write, so that a reconnect costs no outcome.
RETRY_MS = 100
WAITAOF_WAITS_SINCE = 8
_VERSION = re.compile(rb"^redis_version:(\d+)", re.MULTILINE)
# With these settings a server answers a write once it is on its disk.
_ALWAYS: tuple[tuple[str, str], ...] = (
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),  # else nothing is synced while the file is rewritten
)


class Durability(NamedTuple):
    """What an acknowledged write survives: a crash of the server's process, of its machine, or the loss of both."""

    level: DurabilityLevel = "local"
    replicas: int = 1

    @property
    def shown(self) -> str:
        """Text for people."""
        return f"replica ({self.replicas})" if self.level == "replica" else self.level


LOCAL = Durability()


class Confirmation:
    """One waiting write; made by `Durable.ask`, awaited by `Durable.outcome`."""

    __slots__ = ("arrival", "server_id", "timeout_ms", "until_ms")

    def __init__(self, server_id: str, timeout_ms: int) -> None:
        self.server_id = server_id
        self.timeout_ms = timeout_ms
        self.until_ms = monotonic_ms() + timeout_ms
        self.arrival: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Durable:
    """Asks one server for all writers of a process. Call `aclose` when done. The mark is written in `partition`."""

    def __init__(self, client: Client, durability: Durability, partition: int) -> None:
        self._client = client
        self._meta = keys.meta(partition)
        self._durability = durability
        self._waiting: set[Confirmation] = set()
        self._asking: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._trusts_waitaof = False
        self._marks = 0
        self._problem = ""

    def ask(self, server_id: str, timeout_ms: int) -> Confirmation:
        """Start a request for a write that this run of the server has answered."""
        confirmation = Confirmation(server_id, timeout_ms)
        self._waiting.add(confirmation)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return confirmation

    async def outcome(self, asked: Confirmation) -> str:
        """Return "" once the write is as durable as required; else, when its time is over, the reason. Never raises."""
        try:
            async with asyncio.timeout(max(0, asked.until_ms - monotonic_ms()) / 1_000):
                return await asked.arrival
        except TimeoutError:
            return self._late(asked)

    def forget(self, asked: Confirmation) -> None:
        """Stop waiting: the caller has its outcome."""
        self._waiting.discard(asked)

    @property
    def is_idle(self) -> bool:
        """Whether no caller waits."""
        return self._asking is None

    async def aclose(self) -> None:
        """Stop all requests."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._link is not None:
            await self._link.aclose()

    def _late(self, asked: Confirmation) -> str:
        level, replicas = self._durability
        if level == "replica":
            late = f"fewer than {replicas} replica{'s' * (replicas > 1)} acknowledged the write"
        else:
            late = "the server did not confirm that the write is on its disk"
        why = f" ({self._problem})" if self._problem else ""
        return f"durability {level} was not reached: {late} within {asked.timeout_ms:,} ms{why}"

    async def _ask(self) -> None:
        try:
            while self._waiting:
                # The set of this request; callers that arrive later wait for the next one.
                asked = [each for each in self._waiting if not each.arrival.done()]
                left_ms = max((each.until_ms for each in asked), default=0) - monotonic_ms()
                if left_ms < 1:
                    return  # the time of all callers is over
                try:
                    server_id, is_reached = await self._round(left_ms)
                except (LinkLost, StoreUnavailable, ReplyError) as fault:
                    self._problem = str(fault)
                    if self._link is not None:
                        self._link.drop(self._problem)
                    await asyncio.sleep(min(RETRY_MS, left_ms) / 1_000)
                    continue
                self._problem = ""
                for each in asked:
                    self._settle(each, server_id, is_reached)
        finally:
            self._asking = None

    def _settle(self, asked: Confirmation, server_id: str, is_reached: bool) -> None:
        if asked.arrival.done():
            return  # its time is over
        if asked.server_id != server_id:
            asked.arrival.set_result(
                f"durability {self._durability.level} is unknown: the server that took the write was restarted or replaced"
            )
        elif is_reached:
            asked.arrival.set_result("")

    async def _round(self, left_ms: int) -> tuple[str, bool]:
        """Ask once. Returns the run of the server that answers, and whether all of its writes until now are durable."""
        if self._link is None or not self._link.is_open:
            self._link = await self._client.open_dedicated(key=self._meta)
            self._trusts_waitaof = self._durability.level == "fsync" and await _trusts_waitaof(self._link, self._client)
        link, level = self._link, self._durability.level
        if level == "replica":
            question: Command = ("WAIT", self._durability.replicas, left_ms)  # 0 ms would mean forever
        else:
            answers = await link.exchange([("CONFIG", "GET", name) for name, _ in _ALWAYS], self._client.deadline_ms)
            if (problem := _not_always(answers)) is None:
                return link.server_id, True  # it answered each write only once it was on its disk
            if not self._trusts_waitaof:
                raise ReplyError(problem)
            question = ("WAITAOF", 1, 0, left_ms)
        mark, answer = await link.exchange([self._mark(link), question], left_ms + self._client.deadline_ms)
        # Scripts were flushed: the mark was not written, so the answer after it proves nothing.
        if is_noscript(mark):
            link.scripts.discard(scripts.MARK.sha)
            return await self._round(left_ms)
        for reply in (mark, answer):
            if isinstance(reply, ReplyError):
                raise reply
        # WAITAOF returns local and replica counts; only the local one is asked for.
        many, wanted = (answer, self._durability.replicas) if level == "replica" else (answer[0], 1)
        return mark.decode(), bool(many >= wanted)

    def _mark(self, link: Link) -> Command:
        # A new value each time: a write of an equal value might count as no change.
        self._marks += 1
        call = Call(scripts.MARK, [self._meta], [self._marks])
        if scripts.MARK.sha in link.scripts:
            return call.by_sha
        link.scripts.add(scripts.MARK.sha)
        return call.by_source


class EachDurable:
    """Asks every server that took part of a write. Call `aclose` when done."""

    def __init__(self, client: Client, durability: Durability) -> None:
        self._client = client
        self._durability = durability
        self._by_server: dict[str, Durable] = {}

    def ask(self, written: WriteReceipt, timeout_ms: int) -> list[tuple[Durable, Confirmation]]:
        """Start requests for a write that these runs of servers have answered."""
        partitions = {written.server_of(number): one.partition for number, one in enumerate(written.revisions)}
        if not written.servers:
            partitions = {"": APPS_PARTITION}  # a single server, regardless of its run
        asked: list[tuple[Durable, Confirmation]] = []
        for server_id, partition in partitions.items():
            durable = self._by_server.get(server_id)
            if durable is None:
                durable = self._by_server[server_id] = Durable(self._client, self._durability, partition)
            asked.append((durable, durable.ask(server_id or written.server_id, timeout_ms)))
        return asked

    async def outcome(self, asked: Sequence[tuple[Durable, Confirmation]]) -> str:
        """Return "" once the write is as durable as required; else, when its time is over, the reason. Never raises."""
        # One after the other is enough: all wait until the same moment.
        lates = [await durable.outcome(confirmation) for durable, confirmation in asked]
        return next(filter(None, lates), "")

    async def forget(self, asked: Sequence[tuple[Durable, Confirmation]]) -> None:
        """Stop waiting: the caller has its outcome."""
        for durable, confirmation in asked:
            durable.forget(confirmation)
        if len(self._by_server) > MAX_RUNS_KEPT:  # runs that ended long ago
            idle = [server_id for server_id, durable in self._by_server.items() if durable.is_idle]
            for server_id in idle:
                await self._by_server.pop(server_id).aclose()

    async def aclose(self) -> None:
        """Stop all requests."""
        for durable in self._by_server.values():
            await durable.aclose()


async def require(client: Client, durability: Durability) -> None:
    """Check that every server can confirm such writes. Raises `CannotStart` with one line of advice, `StoreUnavailable`."""
    if durability.level == "local":
        return
    for server in await client.masters():
        await _require_of(server, durability)


async def _require_of(client: Client, durability: Durability) -> None:
    flag = f"--durability {durability.level}"
    link = await client.open_dedicated()
    try:
        if durability.level == "replica":
            (answer,) = await link.exchange([("WAIT", 0, 1)], client.deadline_ms)
            _refuse(answer, flag, client, "+wait")
            return
        answers = await link.exchange([("CONFIG", "GET", name) for name, _ in _ALWAYS], client.deadline_ms)
        problem = _not_always(answers)
        if problem is None:
            return
        if not await _trusts_waitaof(link, client):
            raise CannotStart(f"{flag}: on {client.address.shown}, {problem}")
        (answer,) = await link.exchange([("WAITAOF", 1, 0, 1)], client.deadline_ms)
        _refuse(answer, flag, client, "+waitaof")
    except LinkLost as loss:
        raise StoreUnavailable(str(loss)) from None
    finally:
        await link.aclose()


async def _trusts_waitaof(link: Link, client: Client) -> bool:
    """Return whether WAITAOF of this server waits for the disk: Redis since 8.0.

    Redis 7.2 and 7.4, and Valkey up to the tested 9.1.2, answer at once if less than a second has passed since the last fsync
    (redis/redis#13793).
    """
    (text,) = await link.exchange([("INFO", "server")], client.deadline_ms)
    if isinstance(text, ReplyError) or b"valkey_version:" in text:
        return False
    version = _VERSION.search(text)
    return version is not None and int(version[1]) >= WAITAOF_WAITS_SINCE


def _refuse(answer: Reply, flag: str, client: Client, right: str) -> None:
    if not isinstance(answer, ReplyError):
        return
    user = client.address.username or "default"
    advice = {
        "NOPERM": f"grant it with ACL SETUSER {user} {right}",
        "appendonly is disabled": "set appendonly yes there",
    }
    does = next((words for word, words in advice.items() if word in str(answer)), "it can't confirm writes")
    raise CannotStart(f"{flag}: {client.address.shown} answered: {answer}; {does}")


def _not_always(answers: list[Reply]) -> str | None:
    """Return why the server may answer before a write is on its disk, in one line; None if it never does."""
    for (name, wanted), answer in zip(_ALWAYS, answers, strict=True):
        if isinstance(answer, ReplyError):
            return f"{name} can't be read ({answer}): allow CONFIG GET (ACL +config|get), or use Redis 8"
        value = answer[1].decode() if answer else "unknown"
        if value != wanted:
            return f"{name} is {value}: set it to {wanted}"
    return None
