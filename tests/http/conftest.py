"""The node that tests of endpoints call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.servers import RedisServer
from tests.http.world import World, running_world


@pytest.fixture
async def world(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(redis_server.url, tmp_path) as running:
        yield running
