"""The state of every server of a deployment: role, lag, persistence, eviction, version. Shown by `gate doctor`.

The Sentinels or a Cluster's own table list the servers. Each is asked over a separate connection, regardless of the others'
answers; replicas answer too. A running service uses none of this.
"""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

from gate.store.address import Address
from gate.store.link import Command, Link, LinkLost, Reply, ReplyError, credentials_of, open_link, refuse_errors
from gate.store.sentinel import greet_sentinel

SLOTS = 16_384
_SETTINGS = ("appendfsync", "maxmemory-policy", "min-replicas-to-write")
_REPLICA = re.compile(rb"^slave\d+:ip=([^,]+),port=(\d+)", re.MULTILINE)


class Listed(NamedTuple):
    """A server as listed by others."""

    host: str
    port: int
    slots: int = 0
    is_failing: bool = False

    @property
    def shown(self) -> str:
        """As `host:port`."""
        return f"{self.host}:{self.port}"


class ServerLook(NamedTuple):
    """One server's state. Settings are "" if it may not be asked for them."""

    shown: str
    problem: str = ""
    """Why it did not answer; "" if it did."""
    name: str = ""
    version: str = ""
    is_primary: bool = False
    primary: str = ""
    """The server that it follows, as `host:port`."""
    is_linked: bool = True
    offset: int = 0
    online_replicas: int = 0
    slots: int = 0
    is_append_only: bool = False
    append_fsync: str = ""
    eviction_policy: str = ""
    min_replicas_to_write: str = ""
    used_memory_bytes: int = 0
    max_memory_bytes: int = 0
    evicted_keys: int = 0


class Servers(NamedTuple):
    """All servers of a deployment. `covered` is the number of slots with a working master; None without a Cluster."""

    looks: list[ServerLook]
    covered: int | None = None

    def lag_bytes(self, replica: ServerLook) -> int:
        """Return how far a replica is behind its primary, from their answers at about the same moment."""
        offsets = [look.offset for look in self.looks if look.shown == replica.primary]
        return max(0, offsets[0] - replica.offset) if offsets else 0


async def look_at_servers(address: Address) -> Servers:
    """Ask every server of an address with Sentinels or of a Cluster. Raises `LinkLost` if none of those lists them."""
    listed = await (_listed_by_cluster(address) if address.seeds else _listed_by_sentinels(address))
    looks = await asyncio.gather(*(_looked_at(address, each) for each in listed))
    covered = sum(each.slots for each in listed if not each.is_failing) if address.seeds else None
    return Servers(list(looks), covered)


async def _listed_by_sentinels(address: Address) -> list[Listed]:
    commands: list[Command] = [
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master_name),
        ("SENTINEL", "REPLICAS", address.master_name),
    ]
    problem = LinkLost("no Sentinel answers", was_sent=False)
    for sentinel in address.each_sentinel:
        try:
            link = await open_link(sentinel, address.connect_timeout_ms, greet=greet_sentinel)
            try:
                where, replicas = await link.exchange(commands, address.timeout_ms)
            finally:
                await link.aclose()
            refuse_errors(sentinel, commands[:1], [where])
        except LinkLost as loss:
            problem = loss
            continue
        if where is not None:
            primary = Listed(where[0].decode(), int(where[1]))
            if isinstance(replicas, ReplyError):  # a user with minimal rights may not ask for them
                return [primary, *await _connected_to(address.at(primary.host, primary.port))]
            fields = [dict(zip(flat[::2], flat[1::2], strict=False)) for flat in replicas]
            return [primary, *sorted({Listed(one[b"ip"].decode(), int(one[b"port"])) for one in fields} - {primary})]
    raise problem


async def _connected_to(primary: Address) -> list[Listed]:
    """Return the connected replicas, which the primary itself knows. Raises `LinkLost`."""
    (text,) = await _asked(primary, [("INFO", "replication")])
    return sorted(Listed(host.decode(), int(port)) for host, port in _REPLICA.findall(text))


async def _listed_by_cluster(address: Address) -> list[Listed]:
    problem = LinkLost("no server of the Cluster answers", was_sent=False)
    for seed in address.each_seed:
        try:
            (text,) = await _asked(seed, [("CLUSTER", "NODES")])
        except LinkLost as loss:
            problem = loss
            continue
        lines = [line.split(" ") for line in text.decode().splitlines()]
        return sorted(
            (_listed(line, seed) for line in lines if not {"noaddr", "handshake"} & {*line[2].split(",")}),
            # Masters with slots first.
            key=lambda one: (not one.slots, one),
        )
    raise problem


def _listed(line: list[str], seed: Address) -> Listed:
    """Parse a line of `CLUSTER NODES`: id, address, flags, master, ping, pong, epoch, link, slots."""
    host, _, port = line[1].partition("@")[0].rpartition(":")
    # "[" begins a slot that is being moved; it is listed with its present owner anyway.
    ranges = [part.partition("-") for part in line[8:] if not part.startswith("[")]
    slots = sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
    return Listed(host or seed.host, int(port), slots, "fail" in line[2].split(","))


async def _looked_at(address: Address, listed: Listed) -> ServerLook:
    commands: list[Command] = [("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS)]
    try:
        text, *settings = await _asked(address.at(listed.host, listed.port), commands)
    except LinkLost as loss:
        return ServerLook(listed.shown, str(loss), slots=listed.slots)
    info = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    fsync, eviction, least = map(_setting, settings)
    is_primary = info.get("role") == "master"
    return ServerLook(
        shown=listed.shown,
        name="Valkey" if "valkey_version" in info else "Redis",
        version=info.get("valkey_version") or info.get("redis_version", "unknown"),
        is_primary=is_primary,
        primary="" if is_primary else f"{info.get('master_host')}:{info.get('master_port')}",
        is_linked=is_primary or info.get("master_link_status") == "up",
        # A replica reports its own position under another name.
        offset=int(info.get("master_repl_offset" if is_primary else "slave_repl_offset", "0")),
        online_replicas=sum(name.startswith("slave") and "state=online" in value for name, value in info.items()),
        slots=listed.slots,
        is_append_only=info.get("aof_enabled") == "1",
        append_fsync=fsync,
        eviction_policy=eviction or info.get("maxmemory_policy", ""),
        min_replicas_to_write=least,
        used_memory_bytes=int(info.get("used_memory", "0")),
        max_memory_bytes=int(info.get("maxmemory", "0")),
        evicted_keys=int(info.get("evicted_keys", "0")),
    )


async def _asked(server: Address, commands: list[Command]) -> list[Reply]:
    """Return the replies of one server of any role; only `CONFIG` may have an error. Raises `LinkLost`."""
    link = await open_link(server, server.connect_timeout_ms, greet=_greet)
    try:
        replies = await link.exchange(commands, server.timeout_ms)
    finally:
        await link.aclose()
    refuse_errors(server, commands[:1], replies[:1])
    return replies


async def _greet(link: Link, address: Address, deadline_ms: float) -> None:
    commands = [*credentials_of(address), ("PING",)]
    refuse_errors(address, commands, await link.exchange(commands, deadline_ms))


def _setting(reply: Reply) -> str:
    return "" if isinstance(reply, ReplyError) or not reply else str(reply[1].decode())
