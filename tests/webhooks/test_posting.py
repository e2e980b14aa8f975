"""A webhook's address is called as the App wrote it: what is percent-encoded stays so, nothing is encoded twice."""

from __future__ import annotations

import pytest
from aiohttp import web

from gate.core.model import AppFacts
from gate.webhooks.posting import Poster

APP = AppFacts(key="k", name="n", secrets=("s" * 16,), environment="development", created_at_ms=1)


@pytest.mark.parametrize("path", ["/a%2Fb%20c%41/%7e?x=%2B%7E&y=a+b&z=%e4%bd%a0", "/caf%C3%A9%25", "/plain?"])
async def test_the_address_is_called_as_it_is_written(path: str) -> None:
    called: list[str] = []

    async def take(request: web.BaseRequest) -> web.Response:
        called.append(request.raw_path)
        return web.Response()

    runner = web.ServerRunner(web.Server(take), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Poster() as poster:
            address = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
            assert await poster.post(APP, address, b"", "text/plain") == ""
    finally:
        await runner.cleanup()
    assert called[0].startswith(path.rstrip("?"))
    assert "signature=" in called[0][len(path) - 1 :]
