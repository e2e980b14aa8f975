"""The app server of a webhook: takes POSTs on a socket, answers the configured status, verifies as RongCloud documents it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web


class Callback(NamedTuple):
    """What was received."""

    query: dict[str, str]
    form: dict[bytes, bytes]
    content_type: str
    body: bytes

    def is_signed_by(self, secret: str) -> bool:
        nonce, moment = self.query["nonce"], self.query["signTimestamp"]
        return self.query["signature"] == sha1(f"{secret}{nonce}{moment}".encode()).hexdigest()


class Receiver:
    """`statuses` are answered in turn, the last one for ever; 0 never answers."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.callbacks: list[Callback] = []
        self.url = ""
        self.text = "whatever"

    async def take(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        fields = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")  # each byte as it is
        form = {name.encode(): value.encode("latin-1") for name, value in fields}
        self.callbacks.append(Callback(dict(request.query), form, request.content_type, body))
        status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        if not status:
            await asyncio.Event().wait()
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers, text=self.text)


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver, on a free port unless one is given."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.take), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
