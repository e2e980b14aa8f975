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
from gate.store.store import Store
from gate.store.subscription import Subscription

# A node answers in milliseconds; one that has not answered by then will not.
ANSWERS_WITHIN_S = 1.0
# Retry interval of a node whose Redis user may not use the channels.
ALLOWED_AGAIN_S = 60.0


# What a request asks for in addition: the node's samples of the last hour.
WITH_SAMPLES = b"samples"
SAMPLE_EVERY_MS = 15_000
MAX_SAMPLES = 240


class NodeSample(msgspec.Struct, frozen=True, array_like=True):
    """A node's figures over the time since the sample before. `at_ms` is a multiple of `SAMPLE_EVERY_MS`, so nodes compare."""

    at_ms: int
    verdicts_per_s: dict[str, float]
    lag: int
    stale_ms: int
    check_us: float | None
    """Mean time to answer checks that came together; None without any."""


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
    verdicts_per_s: dict[str, float] = {}
    """By word; empty until it was measured, as for the rates below."""
    check_us: float | None = None
    """Mean time to answer checks that came together, on either port; None without any."""
    writes_per_s: float | None = None
    write_ack_ms: float | None = None
    """Mean wait until a write was effective; None without any."""
    http_per_s: float | None = None
    """Without event streams, WebSockets and the console."""
    http_ms: float | None = None
    disk_free_bytes: int = 0
    """Of the file system that has the data directory; 0 for a node that does not report it."""
    disk_bytes: int = 0
    samples: tuple[NodeSample, ...] = ()
    """Only if the request asks for them."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NodeReport)


class _Asked(asyncio.Event):
    """Set by a request."""

    with_samples = False

    def hear(self, _: bytes, message: bytes) -> None:
        self.with_samples = self.with_samples or message == WITH_SAMPLES
        self.set()

    def clear(self) -> None:
        self.with_samples = False
        super().clear()


async def answer_asked(client: Client, report: Callable[[bool], NodeReport]) -> None:
    """Answer each request until cancelled. `report` is called with whether to add the samples."""
    asked = _Asked()
    while True:
        with suppress(ReplyError):  # this user may not use the channels; the node works nevertheless
            async with Subscription(client, keys.REPORT_ASK_CHANNEL, asked.hear) as subscription:
                await _answer_each(client, report, asked, subscription)
        await asyncio.sleep(ALLOWED_AGAIN_S)


async def _answer_each(
    client: Client, report: Callable[[bool], NodeReport], asked: _Asked, subscription: Subscription
) -> None:
    listening = asyncio.ensure_future(subscription.keep())
    try:
        while not listening.done():
            waiting = asyncio.ensure_future(asked.wait())
            await asyncio.wait([listening, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if asked.is_set():
                # Cleared before the answer: a request during it gets an answer of its own.
                with_samples = asked.with_samples
                asked.clear()
                with suppress(StoreUnavailable):
                    await client.publish(keys.REPORT_CHANNEL, _encoder.encode(report(with_samples)))
        listening.result()
    finally:
        listening.cancel()


async def ask_reports(
    store: Store, within_s: float = ANSWERS_WITHIN_S, *, with_samples: bool = False
) -> dict[str, NodeReport | None]:
    """Return the report of every node with a lease, in the order of their names; None for a node that did not answer.

    Raises `StoreUnavailable`.
    """
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
        await store.client.publish(keys.REPORT_ASK_CHANNEL, WITH_SAMPLES if with_samples else b"")
        registry = await store.writer.registry()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not registry.live <= heard.keys():
                    moved.clear()
                    await moved.wait()
    found = {listed.node: heard.get(listed.node) for listed in registry.nodes}
    return dict(sorted(found.items(), key=lambda one: (one[1].name if one[1] else "", one[0])))
