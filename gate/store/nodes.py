"""Nodes: the lease by which a replicator says that it lives, and the announcements of what it has applied.

A lease ends on the server's clock, so nodes need not agree on the time. A node takes its lease before it reads the heads it
starts from; `writing` depends on that order.

An id is one node's. Where a data directory was copied, two would announce under it, and a write that one of them applied would
count as applied by both. So a lease names the run that holds it, and the place where that runs; who starts in another place and
sees the lease renewed has a rival, and goes no further. Of two that start at once, the newest run takes the lease; the other
one, which can't renew, is cut off (its facts show as stale) and says why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

import msgspec

from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.scripts import Call

LEASE_TTL_MS = 3_000
"""How long a node that died without a word is waited for; several renewals, so that one lost one costs nothing."""


RIVAL_LOOK_EVERY_S = 0.1


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What one node has applied, as published (msgpack array): Partition -> (epoch, seq).

    `server_id` is the run of the server whose history these are Positions of: one that came back with older data gives the
    same numbers to other writes, and an announcement from before must not pass for theirs.
    """

    node: str
    applied: dict[int, tuple[str, int]]
    server_id: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Announcement)


class NodeAnnouncer:
    """One node's voice; the replicator's. Every method raises `StoreUnavailable`.

    `place` is a word without "-" for the data directory that it runs in: the same after a `kill -9`, another one of a copy.
    """

    def __init__(self, client: Client, node: str, place: str = "", lease_ttl_ms: int = LEASE_TTL_MS) -> None:
        self._client = client
        self._node = node
        self._place = place
        self._lease_ttl_ms = lease_ttl_ms
        self._run = f"{place}-{secrets.token_hex(8)}"
        self._has_begun = False

    @property
    def server_id(self) -> str:
        """Which run of the server is connected now."""
        return self._client.server_id

    async def has_rival(self) -> bool:
        """Whether a node in another place lives under this id; ask before the first `renew`.

        Told as soon as that node renews. One that died there is waited out, at most for its lease; its run before in the same
        place is nobody to wait for.
        """
        seen = await self._leases_elsewhere()
        while seen:
            await asyncio.sleep(RIVAL_LOOK_EVERY_S)
            now = await self._leases_elsewhere()
            if any(ends_ms > seen.get(run, 0) for run, ends_ms in now.items()):
                return True
            seen = now
        return False

    async def renew(self, applied: Mapping[int, Position]) -> None:
        """Take or renew the lease, and say all Positions, for writers that missed an announcement."""
        packed = pack_announcement(self._node, applied, self.server_id)
        if not await self._lease(self._lease_ttl_ms):
            raise StoreUnavailable(
                f"another node runs under this one's id, {self._node}: the data directory of one is a copy of the other's; "
                "delete the file node-id in it and start that node again"
            )
        self._has_begun = True
        await self._publish(packed)

    async def announce(self, applied: Mapping[int, Position]) -> None:
        """Say the Positions that moved."""
        await self._publish(pack_announcement(self._node, applied, self.server_id))

    async def leave(self) -> None:
        """Give the lease up."""
        await self._lease(0)

    async def _lease(self, ttl_ms: int) -> bool:
        """False if another run has it."""
        call = Call(scripts.LEASE, [keys.NODES], [self._node, ttl_ms, self._run, "" if self._has_begun else "1"])
        (ends_ms,) = await self._client.write([call])
        return bool(ends_ms)

    async def _leases_elsewhere(self) -> dict[bytes, int]:
        """Runs of this id in other places -> when their leases end, ms on the server's clock; of those that hold."""
        (seconds, micros), flat = await self._client.read(("TIME",), ("ZRANGE", keys.NODES, 0, -1, "WITHSCORES"))
        now_ms = int(seconds) * 1_000 + int(micros) // 1_000
        found: dict[bytes, int] = {}
        for member, ends_ms in zip(flat[::2], flat[1::2], strict=True):
            node, _, run = member.rpartition(b"/")
            place = run.partition(b"-")[0]
            if node == self._node.encode() and place != self._place.encode() and int(ends_ms) > now_ms:
                found[run] = int(ends_ms)
        return found

    async def _publish(self, packed: bytes) -> None:
        await self._client.read(("PUBLISH", keys.APPLIED_CHANNEL, packed))


def pack_announcement(node: str, applied: Mapping[int, Position], server_id: str) -> bytes:
    """What `unpack_announcement` reads."""
    places = {partition: (position.epoch, position.seq) for partition, position in applied.items()}
    return _encoder.encode(Announcement(node, places, server_id))


def unpack_announcement(packed: bytes) -> Announcement | None:
    """The announcement; None for anything else that somebody may publish there."""
    try:
        return _decoder.decode(packed)
    except msgspec.DecodeError:
        return None
