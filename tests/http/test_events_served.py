"""Event streams and Presence on a real `gate serve`: wired to its Redis, and ended in order when it is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
import requests

from gate.core.model import AppFacts
from harness.servers import RedisServer
from harness.service import Services
from tests.http.event_stream import streaming
from tests.presence.played import Gateway, presence_on

DRAINED_S = 5.0
"""Far less than the time that a drain gives to what is in flight."""


async def test_a_stream_follows_and_ends_with_the_service(redis_server: RedisServer, start_service: Services) -> None:
    service = await asyncio.to_thread(start_service.start, redis_url=redis_server.url)
    known = service.credentials
    app = AppFacts(key=known.app_key, secrets=(known.app_secret,))
    store = presence_on(redis_server.url)
    gateway = await Gateway(store, app).lease()
    async with streaming(service.http, app) as stream:
        await gateway.open(b"alice")
        assert await stream.received(1) == [("online", "alice")]
        answer = await asyncio.to_thread(
            requests.post,
            f"{service.http}/v1/presence",
            json={"users": ["alice", "bob"]},
            auth=(known.app_key, known.app_secret),
            timeout=5,
        )
        assert [one["online"] for one in answer.json()["presence"]] == [True, False]
        stopped_at = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        assert (await stream.frame()).retry
        with pytest.raises(EOFError):
            await stream.frame()
        await asyncio.to_thread(service.wait_exit)
        assert time.monotonic() - stopped_at < DRAINED_S
    await store.client.aclose()
