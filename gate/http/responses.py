"""Responses as bytes, labelled with the request's id; and which requests have a line in the log, and what it says.

A line has no query string, which may carry a Token, and neither body nor headers, which carry secrets. The path is that of the
route, with `{user}` for an id; any other path is `unknown`. `client` is the address that the proxies name, `peer` that of the
connection. Checks that were
answered with a Verdict have no line each, unless the deployment asks for a share of them: a router asks once a send, and
a line costs as much as several checks. The histogram in `/metrics` has all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import getrandbits, random

import msgspec
import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11

from gate.http.context import Deps
from gate.http.peers import Origin

JSON_TYPE = "application/json;charset=UTF-8"
REQUEST_ID = "X-Request-Id"
CALL_ID = web.RequestKey("request_id", str)
"""The id that the answer and the log give for the request."""

CORS_ROOT = "/client"
"""Below it, all answers have headers that let web pages read them."""

_encoder = msgspec.json.Encoder()
_JSON_ALONE = {"Content-Type": JSON_TYPE}
_REQUEST_ID = re.compile(r"[!-~]{1,64}")
"""What is echoed: RongCloud's SDKs send 32 or 36 characters; anything unprintable or longer gets an id of our own."""


class JsonResponse(web.Response):
    """Written in one piece, past the steps of aiohttp for what it does not have: cookies, chunks, a `Connection` header.

    The bytes are those that aiohttp would send after `app._label`. Where it has more to do, it does all of it.
    """

    _is_written = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer, if it is the usual one."""
        request_id = request.get(CALL_ID)
        if (
            request_id is None
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or not request.keep_alive
            or super().keep_alive is False
            or self._cookies is not None
            or request.path.startswith(CORS_ROOT)
        ):
            return await super().prepare(request)
        body = self.body
        assert isinstance(body, bytes), "json_response encoded it"
        writer = request.writer
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        if lines.count("\n") != len(self.headers) or lines.count("\r") != len(self.headers):
            raise ValueError("a header has a line break, which would begin another header")
        await writer.write(head_of(f"{self.status} {self.reason}", lines, len(body), request_id) + body)
        self._is_written = True
        await writer.drain()
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """As the base, unless all of it was sent."""
        if not self._is_written:
            await super().write_eof(data)

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on after this answer."""
        return self._is_written or super().keep_alive


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """One JSON answer."""
    labels = {"Content-Type": JSON_TYPE, **headers} if headers else _JSON_ALONE
    return JsonResponse(body=_encoder.encode(body), status=status, headers=labels)


def head_of(status: str, lines: str, body_bytes: int, request_id: str) -> bytes:
    """The head of an answer. `lines` are its own headers, as sent."""
    return (
        f"HTTP/1.1 {status}\r\n{lines}Content-Length: {body_bytes}\r\nDate: {rfc822_formatted_time()}\r\n"
        f"Server: gate\r\n{REQUEST_ID}: {request_id}\r\n\r\n"
    ).encode()


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's own id where it is fit to echo, else 32 hex digits."""
    given = headers.get(REQUEST_ID, "")
    # Unique, and no secret: a number of the kernel's for each would take a call into it.
    return given if given and _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"


log = structlog.get_logger("gate.http")


def is_check_logged(deps: Deps) -> bool:
    """Whether this one of the checks that got a Verdict has a line."""
    options = deps.options
    return options.access_log and options.log_checks > 0 and random() < options.log_checks


def log_request(
    deps: Deps,
    group: str,
    method: str,
    path: str,
    status: int,
    seconds: float,
    origin: web.Request | Origin,
    request_id: str,
    who: Mapping[str, str],
) -> None:
    """One line; `path` is the template of the route, `who` was authenticated."""
    # Probes come every second or so for ever, and all the same.
    write = log.debug if group == "probe" else log.info
    peer = origin.remote or ""
    write(
        "request",
        method=method[:16],
        path=path,
        status=status,
        **who,
        client=deps.address_of(origin) if deps.options.trusted_proxies else peer,
        peer=peer,
        ms=round(seconds * 1_000, 2),
        request_id=request_id,
    )
