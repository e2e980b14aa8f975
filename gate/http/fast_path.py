"""The short way: `GET /v1/check` answered as soon as its head is parsed, without a task, a `web.Request` or the router.

It gives what the application would give, byte for byte, or None, and then the application answers: any other request, any
answer but 200, and whatever has to wait. So every refusal is worded, counted and logged in one place. See decision 14.

Called by `connection`, for one message at a time, while nothing else of the connection is being answered.
"""

from __future__ import annotations

from time import perf_counter

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage

from gate.errors import GateError
from gate.http.auth import check_caller
from gate.http.context import Deps
from gate.http.peers import Origin
from gate.http.responses import CHECK_GROUP, JSON_TYPE, head_of, is_check_logged, log_request, request_id_of
from gate.http.v1.check import PATH, fast_check

_BEGINNING = f"{PATH}?"
_TYPE_LINE = f"Content-Type: {JSON_TYPE}\r\n"


class FastPath:
    """One a server."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def reply(self, message: RawRequestMessage, protocol: web.RequestHandler) -> bytes | None:
        """The whole answer to a request without a body, or None where the application has to answer. Never raises."""
        if not message.path.startswith(_BEGINNING) or not _is_plain(message):
            return None
        started = perf_counter()
        headers = message.headers
        try:
            answer = fast_check(self._deps, headers, message.path)
        except GateError:
            return None
        except Exception:  # noqa: BLE001 - the application meets the same bug, and logs it
            return None
        if answer is None:
            return None
        request_id = request_id_of(headers)
        body = msgspec.json.encode(answer)
        seconds = perf_counter() - started
        self._deps.count_request(CHECK_GROUP, 200, seconds)
        if is_check_logged(self._deps):
            origin = Origin(protocol.peername, headers)
            who = check_caller(headers)
            log_request(self._deps, CHECK_GROUP, "GET", PATH, 200, seconds, origin, request_id, who)
        return head_of("200 OK", _TYPE_LINE, len(body), request_id) + body


def _is_plain(message: RawRequestMessage) -> bool:
    """Whether it is a GET of HTTP/1.1, on a connection that goes on as it is."""
    headers = message.headers
    return (
        message.method == "GET"
        and message.version == HttpVersion11
        and not (message.should_close or message.upgrade or message.chunked)
        and hdrs.EXPECT not in headers  # with these two the application has more to do
        and hdrs.CONTENT_ENCODING not in headers
    )
