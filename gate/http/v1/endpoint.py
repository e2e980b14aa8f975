"""What an endpoint of `/v1` is, how its body is read and how its answer is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec
from aiohttp import web

from gate.http.context import APP_REQUEST, AppRequest, RequestContext
from gate.http.endpoint import responded
from gate.http.requests import decoded, named_mistake, refuse_if_any
from gate.http.responses import json_response
from gate.store.writer import WriteReceipt

Body = TypeVar("Body")


class Done(NamedTuple):
    """What an answer holds beside how far its write got; no write where nothing had to change."""

    fields: dict[str, object]
    written: WriteReceipt | None


Outcome = dict[str, object] | WriteReceipt | Done | web.StreamResponse | msgspec.Struct
"""A stream is the whole answer already: it was sent when the endpoint returned."""
Endpoint = Callable[[AppRequest], Awaitable[Outcome]]


async def answer(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    """Run the endpoint; a write is answered once it is effective, with its Revision in the body and the header."""
    call = request[APP_REQUEST]
    return await replied(call, await endpoint(call))


async def replied(call: RequestContext, outcome: Outcome) -> web.StreamResponse:
    """What an endpoint returned, as an answer."""
    if isinstance(outcome, web.StreamResponse | msgspec.Struct):
        return responded(outcome)
    if isinstance(outcome, dict):
        return json_response(outcome)
    fields, written = outcome if isinstance(outcome, Done) else ({}, outcome)
    if written is None:
        return json_response({**fields, "revision": None, "applied": None})
    effect = await call.effective(written)
    return json_response({**fields, **effect.fields}, headers=effect.headers)


async def read_as(call: RequestContext, shape: type[Body], is_batch: bool = False) -> Body:
    """The body as a `msgspec.Struct`; `InvalidInput` names the member that is wrong."""
    return decoded(await call.json_bytes(is_batch), shape)


__all__ = ["Done", "Endpoint", "Outcome", "answer", "named_mistake", "read_as", "refuse_if_any", "replied"]
