"""Whether the ports of this service answer, as its supervisor looks while it starts."""

from __future__ import annotations

import asyncio

from gate.listening import near
from gate.option_values import Endpoint

READYZ_EVERY_S = 0.02
READYZ_TIMEOUT_S = 2.0


async def until_accepted(endpoint: Endpoint) -> None:
    """Returns when a connection is accepted there."""
    while not await _accepts(endpoint):  # noqa: ASYNC110 - what is waited for lives in another process
        await asyncio.sleep(READYZ_EVERY_S)


async def until_ready(endpoint: Endpoint) -> None:
    """Returns when /readyz there is 200."""
    while not await _readyz_is_200(endpoint):  # noqa: ASYNC110 - as above
        await asyncio.sleep(READYZ_EVERY_S)


async def _accepts(endpoint: Endpoint) -> bool:
    try:
        async with asyncio.timeout(READYZ_TIMEOUT_S):
            _, writer = await asyncio.open_connection(near(endpoint.host), endpoint.port)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False


async def _readyz_is_200(endpoint: Endpoint) -> bool:
    try:
        async with asyncio.timeout(READYZ_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(near(endpoint.host), endpoint.port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
