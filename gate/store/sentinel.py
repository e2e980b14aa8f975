"""Discovery of the primary through Sentinels: they are asked before each connection, and their messages are followed.

A Sentinel that was disconnected from the others names an old primary. So each answer carries the number of the failover that it
knows (`config-epoch`). An answer older than a previous one counts only if most Sentinels answer and none of them knows a newer
one. For the first answer, and after the named primary was unusable, most of them are asked, all at once. Otherwise the Sentinel
that answered last is asked first, and the next one too if it fails or takes longer than `NEXT_AFTER_MS`. So a hanging Sentinel
delays a connection by that time, once.

The messages of each are followed, since Sentinels learn of a failover up to a second apart (`_CHANNELS`). When a failover
reaches the replica to be promoted, the old primary is no longer used although it answers for seconds: a write that it takes
from then on is lost. The other messages only make the Client ask again. A lost message has no other effect, since each check
of the address asks too. Used by `client`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.store.address import Address
from gate.store.link import (
    Command,
    Link,
    LinkLost,
    ReplyError,
    WrongKind,
    credentials_of,
    open_link,
    refuse_errors,
)

# A nearby Sentinel answers in a millisecond.
NEXT_AFTER_MS = 50
LISTEN_AGAIN_MS = 250
PING_EVERY_MS = 1_000
# How long a primary that is being replaced is not used. The failover takes a second from there, or is given up.
LEFT_FOR_MS = 3_000
_PROMOTING = b"+failover-state-send-slaveof-noone"
_CHANNELS = (b"+switch-master", b"+promoted-slave", _PROMOTING)
MAX_NAMES_SHOWN = 8


class MasterUnknown(LinkLost):
    """The Sentinel that answered does not monitor a primary of that name."""


class _Answer(NamedTuple):
    """One Sentinel's knowledge: the failover's number, and the primary since."""

    epoch: int
    primary: Address


class Sentinels:
    """The Sentinels of one Address, for one Client. Call `aclose` when done.

    `on_move` is called with the reason when they name another primary than before, `on_hint` when they may.
    """

    def __init__(
        self, address: Address, connect_ms: float, on_move: Callable[[str], object], on_hint: Callable[[], object]
    ) -> None:
        self._address = address
        self._connect_ms = connect_ms
        self._on_move = on_move
        self._on_hint = on_hint
        self._order = list(address.each_sentinel)
        self._links: dict[Address, Link] = {}
        self.epoch = -1
        self.named: Address | None = None
        """The primary in the newest answer; None before the first one."""
        self.is_doubted = False
        """Whether the named primary was unusable since."""
        self._leaving: Address | None = None
        self._left_until_ms = 0

    async def primary(self) -> Address:
        """Return the first answer that is not older than the known one, else that of most Sentinels. Raises `LinkLost`."""
        next_ones, problems, answers = list(self._order), list[LinkLost](), list[_Answer]()
        most, is_sure = len(next_ones) // 2 + 1, self.epoch >= 0 and not self.is_doubted
        asking: set[asyncio.Task[_Answer]] = set()
        try:
            while next_ones or asking:
                # One Sentinel at a time while its knowledge is certain, else all at once.
                some, next_ones = (next_ones[:1], next_ones[1:]) if is_sure else (next_ones, [])
                asking |= {asyncio.get_running_loop().create_task(self._ask(sentinel)) for sentinel in some}
                wait_s = NEXT_AFTER_MS / 1000 if next_ones else None
                done, asking = await asyncio.wait(asking, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if isinstance(fault := task.exception(), LinkLost):
                        problems.append(fault)
                    else:
                        answers.append(task.result())
                if (is_sure or len(answers) >= most) and self._has_new(answers):
                    return self._take(answers)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        # If all answers are older, the Sentinels were set up again and count from the beginning.
        if self._has_new(answers) or len(answers) >= most:
            return self._take(answers)
        if answers:
            problems.append(LinkLost("those that answer have older knowledge than others had before", was_sent=False))
        raise _worst(self._address, problems)

    async def follow(self) -> None:
        """Follow messages about failovers until cancelled."""
        await asyncio.gather(*(self._keep_listening(sentinel) for sentinel in tuple(self._order)))

    async def aclose(self) -> None:
        """Close the kept connections."""
        for link in self._links.values():
            await link.aclose()

    async def _ask(self, sentinel: Address) -> _Answer:
        name = self._address.master_name
        commands: list[Command] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name)]
        link = await self._link_to(sentinel)
        where, facts = await link.exchange(commands, self._connect_ms)
        if where is None:
            # The names help to find a typing error.
            raise MasterUnknown(await _shown_names(link, self._connect_ms), was_sent=False)
        refuse_errors(sentinel, commands, [where, facts])
        fields = dict(zip(facts[::2], facts[1::2], strict=False))
        # The last one to answer is asked first next time.
        self._order.remove(sentinel)
        self._order.insert(0, sentinel)
        return _Answer(int(fields.get(b"config-epoch", 0)), self._address.at(where[0].decode(), int(where[1])))

    async def _link_to(self, sentinel: Address) -> Link:
        kept = self._links.get(sentinel)
        if kept is not None and kept.is_open:
            return kept
        link = await open_link(sentinel, self._connect_ms, greet=greet_sentinel)
        other = self._links.get(sentinel)
        if other is not None and other.is_open:  # another caller was faster
            await link.aclose()
            return other
        self._links[sentinel] = link
        return link

    def _has_new(self, answers: list[_Answer]) -> bool:
        return any(answer.epoch >= self.epoch for answer in answers)

    def _take(self, answers: list[_Answer]) -> Address:
        newest = max(answers, key=lambda answer: answer.epoch)
        before, self.named, self.epoch = self.named, newest.primary, newest.epoch
        # A change of the primary invalidates all connections.
        if before is not None and before != newest.primary:
            self._on_move(f"{before.shown} is no longer the primary: {newest.primary.shown} is")
        if newest.primary != self._leaving:
            self._leaving = None  # it was replaced, and may become a primary again
        elif monotonic_ms() < self._left_until_ms:
            raise LinkLost(_shown_leaving(newest.primary), was_sent=False)
        return newest.primary

    async def _keep_listening(self, sentinel: Address) -> None:
        was_lost = False
        while True:
            with contextlib.suppress(LinkLost):
                await self._listen(sentinel, was_lost)
            # The next subscription asks for what it may have missed.
            was_lost = True
            await asyncio.sleep(LISTEN_AGAIN_MS / 1000)

    async def _listen(self, sentinel: Address, was_lost: bool) -> None:
        link = await open_link(sentinel, self._connect_ms, partial(self._hear, sentinel), greet_sentinel)
        try:
            commands: list[Command] = [("SUBSCRIBE", channel) for channel in _CHANNELS]
            refuse_errors(sentinel, commands, await link.exchange(commands, self._connect_ms))
            if was_lost:
                self._on_hint()  # a message may have been missed
            await link.watch(PING_EVERY_MS, self._address.timeout_ms)
        finally:
            await link.aclose()

    def _hear(self, sentinel: Address, channel: bytes, text: bytes) -> None:
        # "NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT", or the replica, " @ ", and "NAME HOST PORT" of its primary.
        name, host, port, *_ = text.decode().rpartition(" @ ")[2].split(" ")
        if name != self._address.master_name:
            return
        self._order.remove(sentinel)  # ask it first: it knows of the failover already
        self._order.insert(0, sentinel)
        if channel == _PROMOTING:
            self._leaving, self._left_until_ms = self._address.at(host, int(port)), monotonic_ms() + LEFT_FOR_MS
            self._on_move(_shown_leaving(self._leaving))
        self._on_hint()


def _shown_leaving(primary: Address) -> str:
    return f"{primary.shown} is being replaced: a failover is in progress"


class SentinelLook(NamedTuple):
    """One Sentinel's report for `gate doctor`."""

    shown: str
    primary: str
    """As `host:port`; "" if it did not answer."""
    problem: str
    """Why it did not answer, or why no failover would happen; "" if all is well."""


async def look_at_each(address: Address, connect_ms: float) -> list[SentinelLook]:
    """Ask every Sentinel of an address, regardless of the others' answers."""
    return list(
        await asyncio.gather(*(_looked_at(each, address.master_name, connect_ms) for each in address.each_sentinel))
    )


async def _looked_at(sentinel: Address, name: str, connect_ms: float) -> SentinelLook:
    commands: list[Command] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "CKQUORUM", name)]
    try:
        link = await open_link(sentinel, connect_ms, greet=greet_sentinel)
        try:
            where, quorum = await link.exchange(commands, connect_ms)
        finally:
            await link.aclose()
        refuse_errors(sentinel, commands[:1], [where])
    except LinkLost as loss:
        return SentinelLook(sentinel.shown, "", str(loss))
    if where is None:
        return SentinelLook(sentinel.shown, "", f"{sentinel.shown} knows no master of that name")
    problem = f"{sentinel.shown}: {quorum}" if isinstance(quorum, ReplyError) else ""
    return SentinelLook(sentinel.shown, f"{where[0].decode()}:{int(where[1])}", problem)


async def greet_sentinel(link: Link, address: Address, deadline_ms: float) -> None:
    """Handshake with a Sentinel, for `open_link`; a server of facts is refused."""
    commands: list[Command] = [*credentials_of(address), ("PING",), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "")]
    *replies, asked = await link.exchange(commands, deadline_ms)
    if isinstance(asked, ReplyError) and "unknown command" in str(asked):
        scheme = "rediss" if address.tls else "redis"
        raise WrongKind(
            f"{address.shown} is a Redis server, not a Sentinel: write {scheme}://HOST:PORT", was_sent=False
        )
    try:
        refuse_errors(address, commands, [*replies, asked])
    except LinkLost as loss:
        raise LinkLost(
            f"the Sentinel {loss} (its credentials are sentinel_username and sentinel_password)", False
        ) from None


async def _shown_names(link: Link, deadline_ms: float) -> str:
    (masters,) = await link.exchange([("SENTINEL", "MASTERS")], deadline_ms)
    if isinstance(masters, ReplyError):
        return "may not list those they know"
    names = [master[1].decode() for master in masters]
    shown = ", ".join(names[:MAX_NAMES_SHOWN]) + (", …" if len(names) > MAX_NAMES_SHOWN else "")
    return f"know {shown}" if names else "know none"


def _worst(address: Address, problems: list[LinkLost]) -> LinkLost:
    """Return the one line to show if no Sentinel answered: a correctable problem comes first."""
    for problem in problems:
        if isinstance(problem, MasterUnknown):
            return MasterUnknown(f"the Sentinels of {address.shown} know no master of that name: they {problem}", False)
    wrong = [problem for problem in problems if isinstance(problem, WrongKind)]
    if wrong:
        return wrong[0]
    each = "; ".join(dict.fromkeys(map(str, problems)))
    return LinkLost(f"no Sentinel of {address.shown} gave the primary's address: {each}", was_sent=False)
