"""What HTTP says of itself: `/openapi.json`, and the same as a page at `/docs`, which asks no other host for anything.

Both are made from the tables that the application is made of, once, when they are first asked for: some hundred milliseconds,
so in a thread. No credentials.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import orjson
from aiohttp import web

from gate.http.dependencies import Deps
from gate.http.responses import JSON_TYPE

PAGE_TYPE = "text/html; charset=utf-8"
_ANYONE = {"Access-Control-Allow-Origin": "*"}


async def openapi_json(request: web.Request, deps: Deps) -> web.Response:
    """The document. Any page may read it: it holds no secret, and other tools' pages want it."""
    body = await asyncio.to_thread(_document_bytes, deps.options.public_url)
    return web.Response(body=body, headers={"Content-Type": JSON_TYPE, **_ANYONE})


async def docs(request: web.Request, deps: Deps) -> web.Response:
    """The document as a page."""
    body, policy = await asyncio.to_thread(_page)
    return web.Response(body=body, headers={"Content-Type": PAGE_TYPE, **policy})


def openapi_document() -> dict[str, Any]:
    """The document, as JSON has it."""
    # Most nodes are never asked for it; its tables would take a tenth of this process's start.
    from gate.http.openapi.document import openapi_document

    return openapi_document()


@cache
def _document_bytes(public_url: str) -> bytes:
    return orjson.dumps(openapi_document() | ({"servers": [{"url": public_url}]} if public_url else {}))


def _page() -> tuple[bytes, dict[str, str]]:
    # As above; and templates take a megabyte.
    from gate.http.openapi.page import page_html, policy

    return page_html(), policy()


DOCUMENTS = {"/openapi.json": openapi_json, "/docs": docs}
"""By path: what answers it."""

__all__ = ["DOCUMENTS", "openapi_document"]
