"""The masters of a Redis Cluster: a `Client` for each, and the owner of each slot.

Every connection to a master begins with its answer to CLUSTER NODES (`topology`), and each Client makes a fresh one every 0.7
s. A MOVED error reveals a change at once. While a master is away or a slot has no master, other servers are asked every
`ASK_EVERY_MS`, replicas included. A server that is no longer a master loses all its connections at once: its replies are no
acknowledgement. Used by `cluster`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from gate.clock import monotonic_ms
from gate.errors import StoreUnavailable
from gate.store.address import Address
from gate.store.client import PROBE_EVERY_MS, Client
from gate.store.link import Command, Link, LinkLost, WrongKind, credentials_of, open_link, refuse_errors, refuse_kind
from gate.store.topology import SLOTS, Server, View, newest, owners, parse_nodes, slot_of

ASK_EVERY_MS = PROBE_EVERY_MS
# Servers that are asked for the slots while a master is away: any single one may be disconnected or die next.
ASKED_AT_ONCE = 3
_MODE = re.compile(rb"^(?:redis|server)_mode:(\w+)", re.MULTILINE)
_CLOSED = "the store was closed"
# A server's answer is valid this long; each master is asked every 0.7 s.
VIEW_KEPT_MS = 3_000


class Masters:
    """The masters of one Cluster, for one `ClusterClient`. Call `aclose` when done."""

    def __init__(self, address: Address, deadline_ms: int, connect_ms: int) -> None:
        self._address = address
        self._deadline_ms, self._connect_ms = deadline_ms, connect_ms
        self._views: dict[str, tuple[int, View]] = {}
        self.servers: dict[str, Server] = {}
        """All servers by id, replicas included, as described last."""
        self.owners: list[Address | None] = [None] * SLOTS
        """By slot."""
        self._clients: dict[Address, Client] = {}
        """Of every known master, with slots or without."""
        self.in_order: list[Client] = []
        """Masters with slots, in the order of their slots."""
        self._loading = asyncio.Lock()
        self._problem = ""
        self._asking: asyncio.Task[None] | None = None
        self._ask_now = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def problem(self) -> str:
        """Why some or all slots are unreachable; "" if all are reachable."""
        return self._problem or next((one.problem for one in self.in_order if one.problem), "")

    async def ready(self) -> None:
        """Ensure that the owners of slots are known. Raises `StoreUnavailable`."""
        if self._problem:
            raise StoreUnavailable(self._problem)
        if self._clients:
            return
        async with self._loading:
            if not self._clients and not self._problem:
                await self._load()
        if self._problem:
            raise StoreUnavailable(self._problem)

    def of_slot(self, slot: int) -> Client:
        """Return the master of a slot. Raises `StoreUnavailable`."""
        address = self.owners[slot]
        if address is None:
            raise StoreUnavailable(self._problem or no_master(self._address, slot))
        return self.at(address)

    def at(self, address: Address) -> Client:
        """Return the Client of a master, made if necessary."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = Client(
                address,
                self._deadline_ms,
                self._connect_ms,
                lambda link: self._opened(address, link),
                self._ask_now.set,
            )
            # In the background: its CLUSTER NODES answer improves the view.
            self._begin(_connected(client))
        return client

    def named(self, endpoint: str, asked: Address) -> Address:
        """Return the server that another one's error names as `host:port`, with the address by which it is known."""
        host, _, port = endpoint.rpartition(":")
        host = host.strip("[]") or asked.host
        for server in self.servers.values():
            if server.port == int(port) and (host in server.hosts or host == server.host):
                return self._address.at(server.host, server.port)
        return self._address.at(host, int(port))

    def is_moving(self, keys: Iterable[bytes]) -> bool:
        """Return whether a slot of one of these keys is being moved between masters."""
        since_ms = monotonic_ms() - VIEW_KEPT_MS
        views = [view.own for at_ms, view in self._views.values() if at_ms >= since_ms]
        moving = {slot for own in views if own is not None for slot in own.moving}
        return any(slot_of(key) in moving for key in keys)

    async def look(self) -> None:
        """Ask every master with slots for the slots now. Raises `StoreUnavailable`."""
        await self.ready()
        try:
            await asyncio.gather(*(self.ask(one.address) for one in self.in_order))
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None

    def reconnect(self, problem: str) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.reconnect(problem)

    async def aclose(self) -> None:
        """Close every connection permanently."""
        self._problem = _CLOSED
        tasks = [*self._background, *([self._asking] if self._asking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))

    async def _load(self) -> None:
        await self._ask_seeds()
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_while_away())

    async def _ask_seeds(self) -> None:
        """Find the Cluster through all seeds. If they belong to several Clusters, none is chosen."""
        seeds = self._address.each_seed
        answers = await asyncio.gather(*map(self._answer_of, seeds), return_exceptions=True)
        problems = [answer for answer in answers if isinstance(answer, LinkLost)]
        found: list[tuple[Address, View]] = []
        for seed, answer in zip(seeds, answers, strict=True):
            if isinstance(answer, View):
                found.append((seed, answer))
            elif not isinstance(answer, LinkLost):
                raise answer
        whole = [(seed, view) for seed, view in found if view.has_slots]
        # Two Clusters share no server.
        strangers = [seed for seed, view in whole if not view.shares_a_server_with(whole[0][1])]
        if strangers:
            problems = [WrongKind(_of_two(whole[0][0], strangers[0]), was_sent=False)]
        else:
            for _, view in found:
                self._learn(view)
        if not self._clients and self._problem != _CLOSED:
            self._problem = _worst(self._address, problems)

    async def _answer_of(self, server: Address) -> View:
        link = await open_link(server, self._connect_ms, greet=_greet)
        await link.aclose()
        return parse_nodes(link.nodes, server.host, server.tls)

    async def ask(self, server: Address) -> None:
        """Ask one server, possibly a replica, for the slots. Raises `LinkLost`."""
        view = await self._answer_of(server)
        self._refuse_stranger(server, view)
        self._learn(view)

    def _opened(self, address: Address, link: Link) -> None:
        link.on_moved = lambda text: self._note_moved(text, address)
        view = parse_nodes(link.nodes, address.host, address.tls)
        try:
            self._refuse_stranger(address, view)
        except LinkLost as loss:
            link.drop(str(loss))
            raise
        self._learn(view)

    def _refuse_stranger(self, asked: Address, view: View) -> None:
        """Raise `LinkLost` for a server of another Cluster than those that answered recently."""
        since_ms = monotonic_ms() - VIEW_KEPT_MS
        recent = [one for at_ms, one in self._views.values() if at_ms >= since_ms]
        if recent and not any(map(view.shares_a_server_with, recent)):
            raise LinkLost(f"{asked.shown} is a server of another Redis Cluster now", was_sent=False)

    def _learn(self, view: View) -> None:
        now_ms = monotonic_ms()
        known = self._views.get(view.own_id)
        self._views[view.own_id] = now_ms, view
        # Unchanged and recent: nothing to recompute.
        if known is not None and known[1] == view and now_ms - known[0] < VIEW_KEPT_MS:
            return
        self._views = {own_id: one for own_id, one in self._views.items() if now_ms - one[0] < VIEW_KEPT_MS}
        self.servers = dict(newest(one for _, one in self._views.values()))
        found = owners(self.servers.values())
        if not any(found):
            return
        masters = {one.id: self._address.at(one.host, one.port) for one in self.servers.values() if one.is_master}
        # A slot that no server claims is moving to one that was not asked since: its old master answers MOVED.
        kept = set(masters.values())
        self.owners = [
            masters[server.id] if server is not None else before if before in kept else None
            for server, before in zip(found, self.owners, strict=True)
        ]
        # Demoted or removed servers.
        for address in self._clients.keys() - masters.values():
            self._begin(_ended(self._clients.pop(address)))
        self._problem = ""
        self._put_in_order()

    def _note_moved(self, text: str, asked: Address) -> None:
        _, slot, endpoint = text.split(" ")[:3]
        address = self.named(endpoint, asked)
        if self.owners[int(slot)] != address:
            self.owners[int(slot)] = address
            self._put_in_order()
            # One moved slot often means that more have moved.
            self._ask_now.set()

    def _put_in_order(self) -> None:
        self.in_order = [self.at(address) for address in dict.fromkeys(self.owners) if address is not None]

    async def _ask_while_away(self) -> None:
        """Ask other servers which one replaces a master that is away or answered MOVED."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._is_whole else ASK_EVERY_MS / 1_000):
                    await self._ask_now.wait()
            self._ask_now.clear()
            if not self._clients:
                await self._ask_seeds()
                continue
            # The seeds too: after a change of all addresses none of the known servers may answer.
            known = [self._address.at(one.host, one.port) for one in self.servers.values() if one.is_up]
            some = list(dict.fromkeys([*known, *self._address.each_seed]))
            await asyncio.gather(*map(self._attempt, random.sample(some, min(ASKED_AT_ONCE, len(some)))))

    async def _attempt(self, server: Address) -> None:
        with contextlib.suppress(LinkLost):  # another server may know
            await self.ask(server)

    @property
    def _is_whole(self) -> bool:
        return not self.problem and None not in self.owners

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _connected(client: Client) -> None:
    with contextlib.suppress(StoreUnavailable):  # its probe continues
        await client.connect()


async def _ended(client: Client) -> None:
    client.reconnect(f"{client.address.shown} is no longer a master")
    await client.aclose()


async def _greet(link: Link, address: Address, deadline_ms: float) -> None:
    """Handshake with a server that is only asked for the slots: a replica is accepted too."""
    commands: list[Command] = [*credentials_of(address), ("INFO", "server"), ("CLUSTER", "NODES")]
    replies = await link.exchange(commands, deadline_ms)
    facts, nodes = replies[-2:]
    mode = _MODE.search(facts) if isinstance(facts, bytes) else None
    refuse_kind(address, mode[1].decode() if mode else "")
    refuse_errors(address, commands, replies)
    link.nodes = nodes.decode()


def no_master(address: Address, slot: int) -> str:
    """Return the reason why a slot without a server is unreachable."""
    return f"no master of {address.shown} has slot {slot}: give it one with redis-cli --cluster fix HOST:PORT"


def _of_two(one: Address, other: Address) -> str:
    return f"{one.shown} and {other.shown} are servers of two Redis Clusters: name servers of one in the URL"


def _worst(address: Address, problems: Sequence[LinkLost]) -> str:
    """Return the one line to show if no server returned the slots: a correctable problem comes first."""
    wrong = [str(problem) for problem in problems if isinstance(problem, WrongKind)]
    if wrong:
        return wrong[0]
    each = "; ".join(dict.fromkeys(map(str, problems))) or "it has no master with slots"
    return f"no server of {address.shown} returned the slots: {each}"
