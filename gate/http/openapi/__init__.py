"""The description of all endpoints: `/openapi.json`, and the same as a page at `/docs`, which needs no other host.

The document is generated from the tables that the application is made of, once, on the first request for it: some hundred
milliseconds, so in a thread. The page is Swagger UI, vendored by `scripts/vendor-viewer` (decision 20). Its policy lets it load
its own files and the document, nothing else; no script or style stands inside the page. No credentials.
"""

from __future__ import annotations

import asyncio
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from gate.http.context import Deps
from gate.http.responses import JSON_TYPE
from gate.http.routing import Handler

_ANYONE = {"Access-Control-Allow-Origin": "*"}
_VIEWER = Path(__file__).parent / "viewer"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = {
    # `data:` is for the arrows and locks that Swagger UI's style sheet holds.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def openapi_json(request: web.Request, deps: Deps) -> web.Response:
    """The document. Any page may read it: it holds no secret, and other tools' pages want it."""
    body = await asyncio.to_thread(_document_bytes, deps.options.public_url)
    return web.Response(body=body, headers={"Content-Type": JSON_TYPE, **_ANYONE})


async def docs(request: web.Request, deps: Deps) -> web.StreamResponse:
    """The document as a page."""
    return await _file("index.html", request)


def openapi_document() -> dict[str, Any]:
    """The document, as JSON has it."""
    # Most nodes are never asked for it; its tables would take a tenth of this process's start.
    from gate.http.openapi.document import openapi_document

    return openapi_document()


@cache
def _document_bytes(public_url: str) -> bytes:
    return orjson.dumps(openapi_document() | ({"servers": [{"url": public_url}]} if public_url else {}))


async def _file(name: str, request: web.Request) -> web.StreamResponse:
    kind = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
    # With an ETag, so that two megabytes are sent once.
    return web.FileResponse(_VIEWER / name, headers={"Content-Type": kind, **_POLICY})


# By path: what answers it.
DOCUMENTS = {"/openapi.json": openapi_json, "/docs": docs}
# By path. They are no endpoints, so the document describes only the page itself.
VIEWER_FILES: dict[str, Handler] = {
    f"/docs/{name}": partial(_file, name) for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js")
}

__all__ = ["DOCUMENTS", "VIEWER_FILES", "openapi_document"]
