"""A subscription to one channel over a separate connection, which is renewed as soon as that connection is lost.

The loss itself triggers the renewal; a PING detects a connection that is silently dead. Used by `acks` and `nodes`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

from gate.errors import StoreUnavailable
from gate.store.client import Client
from gate.store.link import Link, LinkLost, OnMessage, ReplyError, raise_if_error

LISTEN_AGAIN_MS = 250
# Together with the store's deadline, the time to detect a silently dead subscription.
PING_EVERY_MS = 1_000


class Subscription:
    """Calls `on_message` with channel and text of each message, and `on_again` whenever some may have been missed."""

    def __init__(
        self,
        client: Client,
        channel: bytes,
        on_message: OnMessage,
        on_again: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._channel = channel
        self._on_message = on_message
        self._on_again = on_again
        self.link: Link | None = None

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def begin(self) -> None:
        """Subscribe. Raises `StoreUnavailable`."""
        link = await self._client.open_dedicated(self._on_message, self._channel)
        # A sharded channel belongs to one server, which ends the subscription when its slot is moved.
        command = ("SSUBSCRIBE", self._channel) if link.is_sharded else ("SUBSCRIBE", self._channel)
        try:
            (reply,) = await link.exchange([command], self._client.deadline_ms)
            raise_if_error(reply)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        except (ReplyError, StoreUnavailable):
            await link.aclose()
            raise
        self.link = link

    async def keep(self) -> None:
        """Stay subscribed until cancelled."""
        while True:
            if self.link is not None:
                with contextlib.suppress(LinkLost):
                    await self.link.watch(PING_EVERY_MS, self._client.deadline_ms)
            try:
                await self.begin()
                # Messages sent while disconnected are lost.
                if self._on_again is not None:
                    await self._on_again()
            except StoreUnavailable:
                await asyncio.sleep(LISTEN_AGAIN_MS / 1000)

    async def aclose(self) -> None:
        """Close the connection."""
        if self.link is not None:
            await self.link.aclose()
