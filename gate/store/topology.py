"""Determines which server of a Redis Cluster has which slot, from the servers' descriptions of each other. Pure.

Each answers CLUSTER NODES with a number for each master (`config-epoch`), which rises when the master takes slots over. So of
two differing answers, the one with the higher number is newer; of equal ones, a server's description of itself counts. A
server that was disconnected can't lead a client back. Used by `cluster`.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SLOTS = 16_384

_ENDPOINT = re.compile(r"(?P<host>.*):(?P<port>\d+)(?:@\d+)?(?:,(?P<name>[^,]*))?(?:,.*)?")


def slot_of(key: bytes) -> int:
    """Return the slot of a key: that of its hash tag, if it has one that is not empty."""
    # As the server does: only the first pair of braces counts, and only if it is not empty.
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class Server(NamedTuple):
    """One server of the Cluster, as described by one of them."""

    id: str
    host: str
    """The host for clients: its name if TLS checks one; "" if it does not know its own address."""
    port: int
    hosts: frozenset[str]
    """All of its names."""
    is_master: bool
    is_up: bool
    master_id: str
    """Of a replica: its master's id."""
    epoch: int
    ranges: tuple[tuple[int, int], ...]
    moving: frozenset[int]
    """Slots that are being moved from it or to it; only a server's own answer has them."""


class View(NamedTuple):
    """One server's description of all; `own_id` is its own."""

    own_id: str
    servers: tuple[Server, ...]

    @property
    def own(self) -> Server | None:
        """Its description of itself."""
        return next((server for server in self.servers if server.id == self.own_id), None)

    @property
    def has_slots(self) -> bool:
        """Whether any master that it knows has slots; a server outside of a Cluster knows none."""
        return any(server.ranges for server in self.servers)

    def shares_a_server_with(self, other: View) -> bool:
        """Return whether both belong to the same Cluster."""
        return not {server.id for server in self.servers}.isdisjoint(server.id for server in other.servers)


def parse_nodes(text: str, asked_host: str, is_tls: bool) -> View:
    """Parse the answer to CLUSTER NODES of a server that was reached at `asked_host`."""
    own_id, servers = "", []
    for line in text.splitlines():
        words = line.split(" ")
        endpoint = _ENDPOINT.fullmatch(words[1]) if len(words) >= 8 else None
        flags = words[2].split(",") if endpoint else []
        if endpoint is None or "handshake" in flags or "noaddr" in flags:
            continue
        if "myself" in flags:
            own_id = words[0]
        # A server that does not know its address leaves it empty.
        host, name = endpoint["host"].strip("[]") or asked_host, endpoint["name"] or ""
        servers.append(
            Server(
                id=words[0],
                host=name if is_tls and name else host,
                port=int(endpoint["port"]),
                hosts=frozenset(filter(None, (host, name))),
                is_master="master" in flags,
                is_up="fail" not in flags,
                master_id=words[3] if words[3] != "-" else "",
                epoch=int(words[6]),
                # Words in brackets are slots that are being moved: "[93-<-ID]" or "[93->-ID]".
                ranges=tuple(_range(word) for word in words[8:] if not word.startswith("[")),
                moving=frozenset(int(word[1:].partition("-")[0]) for word in words[8:] if word.startswith("[")),
            )
        )
    return View(own_id, tuple(servers))


def _range(word: str) -> tuple[int, int]:
    first, _, last = word.partition("-")
    return int(first), int(last or first)


def newest(views: Iterable[View]) -> Mapping[str, Server]:
    """Return each server by id, in its newest description."""
    # An own description replaces one by another server with the same epoch.
    found: dict[str, Server] = {}
    of_itself: set[str] = set()
    for view in views:
        for server in view.servers:
            known, is_own = found.get(server.id), server.id == view.own_id
            if known is None or (server.epoch, is_own) > (known.epoch, known.id in of_itself):
                found[server.id] = server
                of_itself.discard(server.id)
                if is_own:
                    of_itself.add(server.id)
    return found


def owners(servers: Iterable[Server]) -> list[Server | None]:
    """Return the master of each slot; None if no server has it."""
    slots: list[Server | None] = [None] * SLOTS
    for server in sorted(servers, key=lambda server: server.epoch):
        for first, last in server.ranges if server.is_master else ():
            slots[first : last + 1] = [server] * (last + 1 - first)
    return slots
