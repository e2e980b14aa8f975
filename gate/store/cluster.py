"""Connection to a Redis Cluster: a `Client` whose calls go to the masters of their slots (`masters`).

Each master has its own `Client` with its connection, deadlines and probe. So calls to the slots of an unavailable master fail
at once, and no others do. A call is sent to all masters that it concerns at the same time.

A command answered with MOVED, ASK or TRYAGAIN has not run. It is sent to the right server within the same deadline. Commands of
one call to one slot keep their order (`routing`). A script that builds key names by itself does not follow ASK: the server that
receives a slot treats a key that has not arrived yet as missing. Such a script waits until the slot has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gate.clock import monotonic_ms
from gate.errors import Outcome, StoreUnavailable
from gate.store import routing
from gate.store.address import Address
from gate.store.client import Client
from gate.store.link import Command, Link, OnMessage, Reply, ReplyError, is_noscript, raise_if_error
from gate.store.masters import Masters, no_master
from gate.store.routing import Ask
from gate.store.scripts import Call
from gate.store.topology import Server, slot_of

# Before a command is repeated that was refused during a slot's move; it doubles each time.
FIRST_PAUSE_MS, LAST_PAUSE_MS = 4, 64
# With less time nothing is sent again: a healthy server would seem to be late.
LEAST_LEFT_MS = 50
# In a row without a pause. More means that servers refer to each other.
MAX_REDIRECTS = 5
# A command without a key is sent to the master of this key.
HOME = b"gate:{0}:meta"

_Rule = Callable[[Sequence[Ask]], list[Ask]]


def client_of(address: Address, deadline_ms: int | None = None, connect_ms: int | None = None) -> Client:
    """Return a Client for an address of either kind. Deadlines default to the address's."""
    return (ClusterClient if address.seeds else Client)(address, deadline_ms, connect_ms)


class ClusterClient(Client):
    """Shared by all callers of a process on one loop, like any `Client`. Call `aclose` when done."""

    def __init__(self, address: Address, deadline_ms: int | None = None, connect_ms: int | None = None) -> None:
        super().__init__(address, deadline_ms, connect_ms)
        self.known_masters = Masters(address, self.deadline_ms, self._connect_ms)

    def another(self) -> Client:
        return ClusterClient(self.address, self.deadline_ms, self._connect_ms)

    @property
    def problem(self) -> str:
        return self.known_masters.problem

    @property
    def is_partly_away(self) -> bool:
        away = [bool(one.problem) for one in self.known_masters.in_order]
        return any(away) and not all(away)

    @property
    def server_id(self) -> str:
        """The runs of all masters that were reached, in the order of their slots; "" before they are known."""
        return " ".join(one.reached for one in self.known_masters.in_order)

    @property
    def reached(self) -> str:
        return self.server_id

    @property
    def reached_at_ms(self) -> int:
        """Of the master that was reached longest ago."""
        return min((one.reached_at_ms for one in self.known_masters.in_order), default=0)

    @property
    def address_problem(self) -> str:
        return next(
            (text for one in self.known_masters.in_order if (text := one.address_problem)), self.known_masters.problem
        )

    async def masters(self) -> Sequence[Client]:
        """Return them in the order of their slots."""
        await self.known_masters.ready()
        return tuple(self.known_masters.in_order)

    def master_of(self, key: bytes) -> Client:
        return self.known_masters.of_slot(slot_of(key))

    @property
    def servers(self) -> Sequence[Server]:
        """All servers of the Cluster, replicas included, as described last."""
        return tuple(self.known_masters.servers.values())

    async def steady_owners(self, keys: Sequence[bytes]) -> Sequence[Address | None]:
        """Return the masters of keys, read afresh from each. Raises `StoreUnavailable` while a slot of one is being moved."""
        await self.known_masters.look()
        if self.known_masters.is_moving(keys):
            raise StoreUnavailable(f"slots of {self.address.shown} are being moved")
        return [self.known_masters.owners[slot_of(key)] for key in keys]

    def server_ids(self, keys: Sequence[bytes]) -> list[str]:
        owners = [self.known_masters.owners[slot_of(key)] for key in keys]
        return ["" if address is None else self.known_masters.at(address).reached for address in owners]

    async def publish(self, channel: bytes, message: bytes) -> None:
        await self.known_masters.ready()
        link = await self.master_of(channel).connect()
        # A sharded message reaches only the slot's shard, a plain one every node.
        command = "SPUBLISH" if link.is_sharded else "PUBLISH"
        await self._pipelined([Ask(slot_of(channel), (command, channel, message))])

    async def read(self, *commands: Command, at: bytes = b"") -> list[Reply]:
        return await self._pipelined([Ask(slot_of(routing.key_of(one) or at or HOME), one) for one in commands])

    async def query_each(self, calls: Sequence[Call]) -> list[Reply]:
        return await self._pipelined([Ask.of(call) for call in calls])

    async def write(self, calls: Sequence[Call], behind: Sequence[Call] = ()) -> list[Reply]:
        """As for any Client. Each of `behind` runs after the scripts of its own slot.

        It replies None if its slot moved meanwhile, so that it did not run on the connection of those scripts.
        """
        writes = [Ask.of(call) for call in calls]
        looks = [Ask.of(call, is_behind=True) for call in behind]
        await self._settle([*writes, *looks], routing.keep_order)
        outcome: Outcome = "unknown" if any(ask.some_ran for ask in writes) else "not-written"
        for ask in (*writes, *looks):
            if ask.fault is not None:
                raise StoreUnavailable(str(ask.fault), outcome)
            raise_if_error(ask.reply, outcome)
        # By identity: another connection may lead to another history.
        ran_on = {ask.slot: ask.link for ask in writes}
        seen = [ask.reply if ran_on.get(ask.slot, ask.link) is ask.link else None for ask in looks]
        return [*(ask.reply for ask in writes), *seen]

    async def write_each(self, calls: Sequence[Call]) -> list[Reply]:
        asks = [Ask.of(call) for call in calls]
        await self._settle(asks, routing.repeat_from_there)
        faults = [ask.fault for ask in asks if ask.fault is not None]
        if faults and len(faults) == len(asks):
            outcome: Outcome = "unknown" if any(ask.some_ran for ask in asks) else "not-written"
            raise StoreUnavailable(str(faults[0]), outcome)
        for ask in asks:
            if ask.fault is not None:
                ask.reply = ReplyError(f"MASTERDOWN {ask.fault}")
        return [ask.reply for ask in asks]

    async def open_dedicated(self, on_message: OnMessage | None = None, key: bytes = b"") -> Link:
        await self.known_masters.ready()
        return await self.master_of(key or HOME).open_dedicated(on_message)

    def reconnect(self, problem: str) -> None:
        self.known_masters.reconnect(problem)

    async def aclose(self) -> None:
        await self.known_masters.aclose()

    async def _pipelined(self, asks: Sequence[Ask]) -> list[Reply]:
        """Run commands that change nothing."""
        await self._settle(asks, routing.again)
        for ask in asks:
            if ask.fault is not None:
                raise StoreUnavailable(str(ask.fault))
            raise_if_error(ask.reply)
        return [ask.reply for ask in asks]

    async def _settle(self, asks: Sequence[Ask], rule: _Rule) -> None:
        """Send until each has a reply or a fault. `rule` selects which commands of one slot are sent again."""
        until_ms = monotonic_ms() + self.deadline_ms
        await self.known_masters.ready()
        # The first round may use the whole deadline.
        left, left_ms, pause_ms, redirects = asks, self.deadline_ms, FIRST_PAUSE_MS, 0
        while True:
            await self._send_all(left, left_ms)
            # The usual case ends here, after one round.
            if not any(ask.is_again for ask in left) or not (left := routing.by_slot(left, rule)):
                return
            redirects += 1
            if redirects > MAX_REDIRECTS or any(ask.waits for ask in left):
                await asyncio.sleep(pause_ms / 1_000)
                pause_ms, redirects = min(2 * pause_ms, LAST_PAUSE_MS), 0
            left_ms = until_ms - monotonic_ms()
            if left_ms < LEAST_LEFT_MS:
                for ask in left:
                    ask.give_up()
                return

    async def _send_all(self, asks: Sequence[Ask], deadline_ms: int) -> None:
        groups: dict[Address, list[Ask]] = {}
        for ask in asks:
            ask.is_again = ask.waits = False
            address = ask.target or self.known_masters.owners[ask.slot]
            if address is None:
                ask.fault = StoreUnavailable(no_master(self.address, ask.slot))
            else:
                groups.setdefault(address, []).append(ask)
        # No task for the usual call to one master.
        if len(groups) == 1:
            await self._send(*groups.popitem(), deadline_ms)
        elif groups:
            await asyncio.gather(*(self._send(address, some, deadline_ms) for address, some in groups.items()))

    async def _send(self, address: Address, asks: Sequence[Ask], deadline_ms: int) -> None:
        try:
            link, replies = await self.known_masters.at(address).exchange(
                lambda link: routing.commands_of(asks, link), deadline_ms
            )
        except StoreUnavailable as fault:
            for ask in asks:
                owner = self.known_masters.owners[ask.slot]
                if fault.outcome == "not-written" and owner is not None and owner != address:
                    ask.is_again, ask.target = True, None  # the master was replaced meanwhile
                else:
                    ask.fault = fault
            return
        at = 0
        for ask in asks:
            at += ask.target is not None  # the reply to ASKING
            ask.reply, ask.link, ask.target = replies[at], link, None
            at += 1
            if isinstance(ask.reply, ReplyError):
                self._judge(ask, link, address)

    def _judge(self, ask: Ask, link: Link, asked: Address) -> None:
        """Decide whether an error means that nothing ran, and where to send the command instead."""
        word, *rest = str(ask.reply).split(" ")
        if word == "MOVED":  # the Link's hook has recorded the slot's new master
            ask.is_again = True
        elif word == "TRYAGAIN" or (word == "ASK" and ask.makes_names):
            ask.is_again = ask.waits = True
        elif word == "ASK":
            ask.is_again, ask.target = True, self.known_masters.named(rest[1], asked)
        elif is_noscript(ask.reply) and ask.call is not None:
            ask.is_again = True
            link.scripts.discard(ask.call.script.sha)
