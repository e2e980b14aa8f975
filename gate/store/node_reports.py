"""What nodes say of themselves when they are asked: a command asks on one channel, and each node answers on another.

Nothing is stored, so nothing is written while no one asks, and nothing is left of a node that is gone. Who should answer is
known from the registry; a node of 0.2, one that hangs, or one whose Redis user may not use the channels gives no answer.
Asked by `gate status` and `gate nodes`; answered by the replicator, which every node with a Replica runs once.
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

ANSWERS_WITHIN_S = 1.0
"""A node answers in milliseconds; what has not by then does not answer."""
ALLOWED_AGAIN_S = 60.0
"""How soon a node whose Redis user may not use the channels tries again."""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as it sees itself. A later version may add fields; each has a default, so that old and new read each other."""

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
    """Changes known of and not applied."""
    checks_per_s: float | None = None
    """None until it was counted for some seconds."""
    resp_connections: int = 0
    websockets: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NodeReport)


async def answer_asked(client: Client, report: Callable[[], NodeReport]) -> None:
    """Until cancelled, answer each question."""
    asked = asyncio.Event()
    while True:
        with suppress(ReplyError):  # the channels are not this user's: the node does its work all the same
            async with Subscription(client, keys.REPORT_ASK_CHANNEL, lambda message: asked.set()) as subscription:
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
                asked.clear()
                with suppress(StoreUnavailable):
                    await client.publish(keys.REPORT_CHANNEL, _encoder.encode(report()))
        listening.result()
    finally:
        listening.cancel()


async def ask_reports(store: Store, within_s: float = ANSWERS_WITHIN_S) -> list[tuple[ListedNode, NodeReport | None]]:
    """Every node that holds a lease, with its answer; None for one that gave none. Raises `StoreUnavailable`."""
    heard: dict[str, NodeReport] = {}
    moved = asyncio.Event()

    def hear(packed: bytes) -> None:
        with suppress(msgspec.DecodeError):  # anybody may publish there
            report = _decoder.decode(packed)
            heard[report.node] = report
            moved.set()

    async with Subscription(store.client, keys.REPORT_CHANNEL, hear) as subscription:
        await subscription.begin()
        await store.client.publish(keys.REPORT_ASK_CHANNEL, b"")
        registry = await store.writer.registry()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not registry.live <= heard.keys():
                    moved.clear()
                    await moved.wait()
    return [(listed, heard.get(listed.node)) for listed in registry.nodes]
