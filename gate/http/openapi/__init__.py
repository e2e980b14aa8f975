"""What HTTP says of itself: `/openapi.json`, and the same as a page at `/docs`, which asks no other host for anything.

Both are made from the tables that the application is made of, once, when they are first asked for. No credentials.
"""

from __future__ import annotations

from functools import cache

import orjson
from aiohttp import web

from gate.http.health import Probe
from gate.http.openapi.document import openapi_document
from gate.http.openapi.page import page_html, policy
from gate.http.ports import Deps
from gate.http.replies import JSON_TYPE

PAGE_TYPE = "text/html; charset=utf-8"
_ANYONE = {"Access-Control-Allow-Origin": "*"}


def openapi_json(deps: Deps) -> web.Response:
    """The document. Any page may read it: it holds no secret, and other tools' pages want it."""
    return web.Response(body=_document_bytes(), headers={"Content-Type": JSON_TYPE, **_ANYONE})


def docs(deps: Deps) -> web.Response:
    """The document as a page."""
    return web.Response(body=page_html(), headers={"Content-Type": PAGE_TYPE, **policy()})


@cache
def _document_bytes() -> bytes:
    return orjson.dumps(openapi_document())


DOCUMENTS: dict[str, Probe] = {"/openapi.json": openapi_json, "/docs": docs}

__all__ = ["DOCUMENTS", "openapi_document"]
