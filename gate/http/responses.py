"""Answers as bytes: JSON by msgspec, labelled as RongCloud labels it, with the request's id."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec
from aiohttp import web

JSON_TYPE = "application/json;charset=UTF-8"
REQUEST_ID = "X-Request-Id"

_REQUEST_ID = re.compile(r"[!-~]{1,64}")
"""What is echoed: RongCloud's SDKs send 32 or 36 characters; anything unprintable or longer gets an id of our own."""


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """One JSON answer."""
    labels = {"Content-Type": JSON_TYPE}
    if headers:
        labels.update(headers)
    return web.Response(body=msgspec.json.encode(body), status=status, headers=labels)


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's own id where it is fit to echo, else 32 hex digits."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
