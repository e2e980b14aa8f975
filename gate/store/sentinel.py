"""Where the primary is, by the word of Sentinels: asked before each connection, and listened to for a switch.

A Sentinel that was cut off from the others names an old primary. So each answer carries the number of the failover that it
knows of (`config-epoch`), and one that is older than what was heard before is used only if most Sentinels say so. The
Sentinel that answered last is asked first; the next one is asked as well when it fails, or when it takes longer than
`NEXT_AFTER_MS`: one that hangs costs a connection that long, once.

`+switch-master` is heard over a connection to one Sentinel at a time. It makes the Client ask again, and is no answer by
itself: a message that is lost or late costs nothing, since each look at the address asks too. Used by `client`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

from gate.store.address import Address
from gate.store.link import (
    Command,
    Link,
    LinkLost,
    Reply,
    ReplyError,
    WrongKind,
    credentials_of,
    open_link,
    refuse_errors,
)

NEXT_AFTER_MS = 50
"""A Sentinel nearby answers in a millisecond."""
LISTEN_AGAIN_MS = 250
PING_EVERY_MS = 1_000
SWITCHED = b"+switch-master"
MAX_NAMES_SHOWN = 8


class MasterUnknown(LinkLost):
    """The Sentinel that answered monitors nothing of that name."""


class _Answer(NamedTuple):
    """What one Sentinel knows: the failover's number, and the primary since."""

    epoch: int
    primary: Address


class Sentinels:
    """Those of one Address, for one Client. `aclose` when done.

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
        self._epoch = -1
        self.named: Address | None = None
        """The primary by the newest answer; None before the first one."""

    async def primary(self) -> Address:
        """Ask; the first answer that is not older than what was known counts. Raises `LinkLost`."""
        next_ones, problems, older = list(self._order), list[LinkLost](), list[_Answer]()
        asking: set[asyncio.Task[_Answer]] = set()
        try:
            while next_ones or asking:
                if next_ones:
                    asking.add(asyncio.get_running_loop().create_task(self._ask(next_ones.pop(0))))
                wait_s = NEXT_AFTER_MS / 1000 if next_ones else None
                done, asking = await asyncio.wait(asking, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if isinstance(fault := task.exception(), LinkLost):
                        problems.append(fault)
                    elif (answer := task.result()).epoch >= self._epoch:
                        return self._take(answer)
                    else:
                        older.append(answer)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if 2 * len(older) > len(
            self._order
        ):  # most of them agree: they were set up again, and count from the beginning
            return self._take(max(older, key=lambda answer: answer.epoch))
        raise _worst(self._address, problems)

    async def follow(self) -> None:
        """Listen for switches until cancelled."""
        is_first = True
        while True:
            for sentinel in tuple(self._order):
                with contextlib.suppress(LinkLost):
                    await self._listen(sentinel, is_first)
                is_first = False
            await asyncio.sleep(LISTEN_AGAIN_MS / 1000)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        for link in self._links.values():
            await link.aclose()

    async def _ask(self, sentinel: Address) -> _Answer:
        name = self._address.master_name
        commands: list[Command] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name)]
        link = await self._link_to(sentinel)
        where, facts = await link.exchange(commands, self._connect_ms)
        if where is None:
            raise MasterUnknown(await _shown_names(link, self._connect_ms), was_sent=False)
        refuse_errors(sentinel, commands, [where, facts])
        fields = dict(zip(facts[::2], facts[1::2], strict=False))
        self._order.remove(sentinel)
        self._order.insert(0, sentinel)
        return _Answer(int(fields.get(b"config-epoch", 0)), self._address.at(where[0].decode(), int(where[1])))

    async def _link_to(self, sentinel: Address) -> Link:
        kept = self._links.get(sentinel)
        if kept is not None and kept.is_open:
            return kept
        link = await open_link(sentinel, self._connect_ms, greet=_greet)
        other = self._links.get(sentinel)
        if other is not None and other.is_open:  # another caller was faster
            await link.aclose()
            return other
        self._links[sentinel] = link
        return link

    def _take(self, answer: _Answer) -> Address:
        before, self.named, self._epoch = self.named, answer.primary, answer.epoch
        if before is not None and before != answer.primary:
            self._on_move(f"{before.shown} is not the primary any more: {answer.primary.shown} is")
        return answer.primary

    async def _listen(self, sentinel: Address, is_first: bool) -> None:
        def hear(message: list[Reply]) -> None:
            if message[2].split(b" ", 1)[0].decode() == self._address.master_name:
                self._order.remove(sentinel)  # it knows already
                self._order.insert(0, sentinel)
                self._on_hint()

        link = await open_link(sentinel, self._connect_ms, hear, _greet)
        try:
            commands: list[Command] = [("SUBSCRIBE", SWITCHED)]
            refuse_errors(sentinel, commands, await link.exchange(commands, self._connect_ms))
            if not is_first:
                self._on_hint()  # a switch may have been missed
            await link.watch(PING_EVERY_MS, self._address.timeout_ms)
        finally:
            await link.aclose()


async def _greet(link: Link, address: Address, deadline_ms: float) -> None:
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
        return "may not say which they know"
    names = [master[1].decode() for master in masters]
    shown = ", ".join(names[:MAX_NAMES_SHOWN]) + (", …" if len(names) > MAX_NAMES_SHOWN else "")
    return f"know {shown}" if names else "know none"


def _worst(address: Address, problems: list[LinkLost]) -> LinkLost:
    """The one line to show where no Sentinel gave an answer: what can be corrected comes first."""
    for problem in problems:
        if isinstance(problem, MasterUnknown):
            return MasterUnknown(f"the Sentinels of {address.shown} know no master of that name: they {problem}", False)
    wrong = [problem for problem in problems if isinstance(problem, WrongKind)]
    if wrong:
        return wrong[0]
    each = "; ".join(dict.fromkeys(map(str, problems))) or "those that answer know less than others did before"
    return LinkLost(f"no Sentinel of {address.shown} gave the primary's address: {each}", was_sent=False)
