"""Waits until a stream has new entries, over separate Links, so that no other call is delayed.

A single server is asked for all streams in one read. A Redis Cluster refuses a read of several slots, so each slice of a feed
has a read and a Link of its own there. Reads in progress continue when another one ends: their entries have not come yet.

Called by `feed`.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Mapping, Sequence

from gate.errors import StoreUnavailable
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, raise_if_error

# Streams of one slot, each with its last known id.
Streams = Mapping[bytes, bytes]


class _Read:
    """The blocking read of one server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.link: Link | None = None
        self.under_way: asyncio.Task[bool] | None = None

    async def once(self, streams: Streams, block_ms: int) -> bool:
        """Return whether one of them gets an entry within `block_ms`. Raises `StoreUnavailable`."""
        command: Command = ("XREAD", "COUNT", 1, "BLOCK", max(1, block_ms), "STREAMS", *streams, *streams.values())
        try:
            if self.link is None or not self.link.is_open:
                self.link = await self._client.open_dedicated(key=next(iter(streams)))
            (reply,) = await self.link.exchange([command], block_ms + self._client.deadline_ms)
            raise_if_error(reply)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        except StoreUnavailable as away:
            if self.link is not None:
                self.link.drop(str(away))  # its slot may have moved to another server
            raise
        return bool(reply)

    def begin(self, streams: Streams, block_ms: int) -> asyncio.Task[bool]:
        """Return the read in progress, or start one."""
        if self.under_way is None or self.under_way.done():
            self.under_way = asyncio.get_running_loop().create_task(self.once(streams, block_ms))
            # Retrieves the exception, so that asyncio does not log a read whose result no caller wants.
            self.under_way.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.under_way

    async def aclose(self) -> None:
        if self.under_way is not None:
            self.under_way.cancel()
            await asyncio.wait([self.under_way])
        if self.link is not None:
            await self.link.aclose()


class News:
    """The blocking reads of one reader. Call `aclose` when done."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reads: list[_Read] = []

    async def wait(self, slices: Sequence[Streams], block_ms: int) -> bool:
        """Return whether a stream may have new entries, within `block_ms`. Raises `StoreUnavailable`."""
        if not self._client.address.seeds:
            # One read for all streams of a single server.
            slices = [ChainMap(*map(dict, slices))]
        self._reads += [_Read(self._client) for _ in range(len(slices) - len(self._reads))]
        if len(slices) == 1:
            return await self._reads[0].once(slices[0], block_ms)
        reads = zip(self._reads, slices, strict=False)
        done, _ = await asyncio.wait(
            [read.begin(streams, block_ms) for read, streams in reads], return_when=asyncio.FIRST_COMPLETED
        )
        return any(task.result() for task in done)

    async def aclose(self) -> None:
        """Close every Link."""
        for read in self._reads:
            await read.aclose()
