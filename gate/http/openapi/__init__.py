"""The description of all endpoints: `/openapi.json`, and the same as a page at `/docs`, which needs no other host.

The document is generated from the tables that the application is made of, once, on the first request for it: some hundred
milliseconds, so in a thread. No credentials.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import orjson
from aiohttp import web

from gate.http.context import Deps
from gate.http.openapi import viewer
from gate.http.responses import JSON_TYPE

_ANYONE = {"Access-Control-Allow-Origin": "*"}


async def openapi_json(request: web.Request, deps: Deps) -> web.Response:
    """The document. Any page may read it: it holds no secret, and other tools' pages want it."""
    body = await asyncio.to_thread(_document_bytes, deps.options.public_url)
    return web.Response(body=body, headers={"Content-Type": JSON_TYPE, **_ANYONE})


async def docs(request: web.Request, deps: Deps) -> web.StreamResponse:
    """The document as a page."""
    return await viewer.PAGE(request)


def openapi_document() -> dict[str, Any]:
    """The document, as JSON has it."""
    # Most nodes are never asked for it; its tables would take a tenth of this process's start.
    from gate.http.openapi.document import openapi_document

    return openapi_document()


@cache
def _document_bytes(public_url: str) -> bytes:
    return orjson.dumps(openapi_document() | ({"servers": [{"url": public_url}]} if public_url else {}))


DOCUMENTS = {"/openapi.json": openapi_json, "/docs": docs}
"""By path: what answers it."""

__all__ = ["DOCUMENTS", "openapi_document"]
