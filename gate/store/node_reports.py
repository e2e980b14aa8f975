"""Reports of nodes on request: a command publishes a request on one channel, and each node answers on another.

Nothing is stored, so there are no writes without a request, and nothing remains of a dead node. The registry lists the nodes
that should answer. A node of version 0.2, one that hangs, or one whose Redis user may not use the channels does not answer.
Requested by `gate status` and `gate nodes`; answered by the replicator, which every node with a Replica runs once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.link import ReplyError
from gate.store.registry import ListedNode
from gate.store.store import Store
from gate.store.subscription import Subscription

# A node answers in milliseconds; one that has not answered by then will not.
ANSWERS_WITHIN_S = 1.0
# Retry interval of a node whose Redis user may not use the channels.
ALLOWED_AGAIN_S = 60.0


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One node's own report. A later version may add fields; each has a default, so that versions can read each other."""

    node: str
    name: str = ""
    host: str = ""
    version: str = ""
    redis: str = ""
    roles: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    """Processes that do not answer."""
    started_at_ms: int = 0
    state: str = ""
    ready: bool = False
    stale_ms: int = 0
    lag: int = 0
    """Changes that are known but not applied."""
    checks_per_s: float | None = None
    """None until it was measured for some seconds."""
    resp_connections: int = 0
    websockets: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NodeReport)


async def answer_asked(client: Client, report: Callable[[], NodeReport]) -> None:
    """Answer each request until cancelled."""
    asked = asyncio.Event()
    while True:
        with suppress(ReplyError):  # this user may not use the channels; the node works nevertheless
            async with Subscription(client, keys.REPORT_ASK_CHANNEL, lambda *_: asked.set()) as subscription:
                await _answer_each(client, report, asked, subscription)
        await asyncio.sleep(ALLOWED_AGAIN_S)


async def _answer_each(
    client: Client, report: Callable[[], NodeReport], asked: asyncio.Event, subscription: Subscription
) -> None:
    listening = asyncio.ensure_future(subscription.keep())
    try:
        while not listening.done():
            waiting = asyncio.ensure_future(asked.wait())
            await asyncio.wait([listening, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if asked.is_set():
                # Cleared before the answer: a request during it gets an answer of its own.
                asked.clear()
                with suppress(StoreUnavailable):
                    await client.publish(keys.REPORT_CHANNEL, _encoder.encode(report()))
        listening.result()
    finally:
        listening.cancel()


async def ask_reports(store: Store, within_s: float = ANSWERS_WITHIN_S) -> list[tuple[ListedNode, NodeReport | None]]:
    """Return every node with a lease and its report; None if it did not answer. Raises `StoreUnavailable`."""
    heard: dict[str, NodeReport] = {}
    moved = asyncio.Event()

    def hear(_: bytes, packed: bytes) -> None:
        with suppress(msgspec.DecodeError):  # any client may publish there
            report = _decoder.decode(packed)
            # A node that answers twice replaces its report.
            heard[report.node] = report
            moved.set()

    async with Subscription(store.client, keys.REPORT_CHANNEL, hear) as subscription:
        # Subscribed before the request, so that no answer is missed.
        await subscription.begin()
        await store.client.publish(keys.REPORT_ASK_CHANNEL, b"")
        registry = await store.writer.registry()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not registry.live <= heard.keys():
                    moved.clear()
                    await moved.wait()
    return [(listed, heard.get(listed.node)) for listed in registry.nodes]
