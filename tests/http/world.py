"""One node in one process for the tests of HTTP: a real server, a real Store and Replica, the application on a real socket.

What a test writes over HTTP goes to Redis and comes back through the Changelog before its next check reads it.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import orjson
import pytest
from aiohttp import ClientResponse, ClientSession, TCPConnector
from yarl import URL

from gate.console.site import Console
from gate.core.model import AppFacts
from gate.core.signature import signature_of
from gate.http.context import Deps
from gate.http.operators import OperatorAuth
from gate.http.options import HttpOptions
from gate.http.pushing import Pushing
from gate.http.server import HttpServer, serve_http
from gate.presence.local_gateway import LocalGateway
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds
from gate.readiness import Ready
from gate.replica.authorization import Admission
from gate.replica.reading import Reading
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.keys import PATTERNS
from gate.store.presence import PresenceStore
from gate.store.store import Store
from harness.leaks import audit_keys
from harness.registry import settle
from harness.servers import RedisServer
from tests.http.node import Node

PARTITIONS = 4
TIMEOUT_S = 15.0
LEASE_TTL_MS = 3_000

Field = tuple[str, str | bytes]


class Reply(NamedTuple):
    """What came back, parsed."""

    status: int
    headers: Mapping[str, str]
    body: Any


class World:
    """A node under test, and the ways to call it."""

    def __init__(
        self,
        store: Store,
        node: Node,
        server: HttpServer,
        session: ClientSession,
        presence: PresenceStore,
        feeds: SharedFeeds,
        gateway: LocalGateway,
        deps: Deps,
    ) -> None:
        self.deps = deps
        self.store = store
        self.presence = presence
        self.feeds = feeds
        self.gateway = gateway
        self.node = node
        self.server = server
        self.app = AppFacts(key="none", secrets=("none",))
        self.session = session
        self._apps_begun = 0

    @property
    def url(self) -> str:
        return f"http://{self.server.host}:{self.server.port}"

    async def send(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request, exactly as given: the target is not normalized."""
        url = URL(self.url + target, encoded=True)
        async with self.session.request(method, url, data=body, headers=headers or {}) as response:
            return await _read(response)

    async def user(self, path: str, fields: Sequence[Field] | bytes = (), **headers: str) -> Reply:
        """A signed call of `/user/<path>`, its form encoded by the book unless it is bytes already."""
        body = fields if isinstance(fields, bytes) else form(fields)
        sent = {**signed(self.app), "Content-Type": "application/x-www-form-urlencoded", **headers}
        return await self.send("POST", f"/user/{path}", body, sent)

    async def v1(self, method: str, target: str, body: Any = None) -> Reply:
        """A call of `/v1/<target>` with HTTP Basic; a body is JSON unless it is bytes already."""
        headers = basic(self.app)
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.send(method, f"/v1/{target}", body, headers)

    async def word(self, sender: str | bytes, recipient: str | bytes) -> str:
        """The Verdict by GET, the ids percent-encoded."""
        reply = await self.v1("GET", f"check?from={quote_plus(sender)}&to={quote_plus(recipient)}")
        assert reply.status == 200, reply
        word: str = reply.body["verdict"]
        return word

    async def begin_app(self) -> None:
        """Go on in a new App, without any facts."""
        self._apps_begun += 1
        self.app = AppFacts(key=f"app-{self._apps_begun}", secrets=("secret-1",), created_at_ms=now_ms())
        written = await self.store.apps.create(self.app, now_ms())
        assert await self.node.acks.wait(written, 5_000) == "all"

    async def set_app(self, app: AppFacts) -> None:
        """Change the App's settings, and wait until this node knows."""
        written = await self.store.apps.put(app, now_ms())
        await self.node.acks.wait(written, 5_000)
        self.app = app


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def form(fields: Sequence[Field]) -> bytes:
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()


def signed(
    app: AppFacts, *, secret: str | None = None, nonce: str = "14314", timestamp: str | None = None
) -> dict[str, str]:
    stamp = str(now_ms()) if timestamp is None else timestamp
    signature = signature_of(app.secrets[0] if secret is None else secret, nonce, stamp)
    return {"App-Key": app.key, "Nonce": nonce, "Timestamp": stamp, "Signature": signature}


def basic(app: AppFacts, secret: str | None = None) -> dict[str, str]:
    pair = f"{app.key}:{app.secrets[0] if secret is None else secret}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def on_their_modules_loop(items: Iterable[pytest.Item], fixture: str) -> None:
    """A module's node lives on the module's loop, so the tests that use it run there."""
    for item in items:
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@contextmanager
def audited_redis(directory: Path) -> Iterator[RedisServer]:
    """A Redis of a module's own, in which no key but Gate's is left when all tests have passed."""
    server = RedisServer.start("valkey-9", directory / "redis")
    try:
        yield server
        audit_keys(server.client, PATTERNS)
    finally:
        server.stop()


@asynccontextmanager
async def running_world(
    redis_url: str,
    directory: Path,
    presence_url: str | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """A node on this Redis, with a first App in place; Presence may have another. Closed again also where the test fails."""
    async with AsyncExitStack() as opened:
        store = await Store.connect(redis_url, partitions=PARTITIONS)
        opened.push_async_callback(store.aclose)
        node = await opened.enter_async_context(Node.running(store, directory))
        await settle(store)
        replica = Reading(directory)
        opened.callback(replica.close)
        client = client_of(parse_address(presence_url or redis_url))
        opened.push_async_callback(client.aclose)
        presence, feeds = PresenceStore(client), SharedFeeds(client)
        opened.push_async_callback(feeds.aclose)
        ready, pinging = Ready(lambda: replica), Pushing()
        gateway = LocalGateway(
            "node-1",
            SessionService(presence, LEASE_TTL_MS, Admission(lambda: replica)),
            feeds,
            lambda: asyncio.sleep(0),
        )
        opened.push_async_callback(gateway.aclose)
        opened.push_async_callback(pinging.aclose)
        deps = Deps(
            replica_when_ready=ready,
            store_when_ready=Ready(lambda: store),
            acks_when_ready=Ready(lambda: node.acks),
            presence=presence,
            feeds=feeds,
            pinging=pinging,
            gateway=gateway,
            options=HttpOptions(port=0, **options),
            metrics_text=lambda: b"gate_up 1\n",
        )
        door = OperatorAuth()
        server = await serve_http(deps, door, [Console(door)])
        opened.push_async_callback(server.drain, 1.0)
        session = await opened.enter_async_context(ClientSession(connector=TCPConnector(force_close=False)))
        world = World(store, node, server, session, presence, feeds, gateway, deps)
        await world.begin_app()
        yield world


async def _read(response: ClientResponse) -> Reply:
    raw = await response.read()
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    return Reply(response.status, response.headers, orjson.loads(raw) if is_json and raw else raw)
