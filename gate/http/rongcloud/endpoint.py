"""What an endpoint of this API is, how its answer is made, and how RongCloud writes times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
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


LAST_PRINTABLE = "9999-12-31 23:59:59"
"""Printed for what never ends, and for anything past the year that four digits hold."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(at_ms: int, utc_offset_minutes: int) -> str:
    """The moment's wall-clock text, whole seconds, cut off."""
    try:
        moment = _EPOCH + timedelta(seconds=at_ms // 1_000, minutes=utc_offset_minutes)
    except OverflowError:
        return LAST_PRINTABLE
    return moment.strftime("%Y-%m-%d %H:%M:%S")
