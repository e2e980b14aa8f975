"""What an endpoint of this API is, and how its answer is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from gate.http.context import APP_REQUEST, AppRequest
from gate.http.forms import Form
from gate.http.responses import json_response
from gate.store.writer import WriteReceipt

MAX_IDS = 20
"""Ids that one call may name."""


class Success(NamedTuple):
    """A good answer: its fields beside the code, and the write that it stands for, if any."""

    fields: dict[str, object] = {}  # noqa: RUF012  # never written to
    written: WriteReceipt | None = None


Endpoint = Callable[[AppRequest, Form], Awaitable[Success]]


async def answer(endpoint: Endpoint, request: web.Request) -> web.Response:
    """Run the endpoint; a write is answered once it is effective."""
    call = request[APP_REQUEST]
    success = await endpoint(call, await call.form())
    headers = None
    if success.written is not None:
        headers = (await call.effective(success.written)).headers
    return json_response({"code": 200, **success.fields}, headers=headers)
