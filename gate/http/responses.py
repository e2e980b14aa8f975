"""From a route to the bytes of its response: what every request meets on the way.

    ExactRoutes    finds the route of a path that is no template
    Served         the handler of each route: catches errors and words them, counts, logs
    JsonResponse   the bytes of nearly all responses, labelled with the request's id
    log_request    which requests have a line in the log, and what it says
    Tally          the counts in `/metrics`

A line has no query string, which may carry a Token, and neither body nor headers, which carry secrets. The path is that of the
route, with `{user}` for an id; any other path is `unknown`. `client` is the address that the proxies name, `peer` that of the
connection. Checks that were answered with a Verdict have no line each, unless the deployment asks for a share of them: a
router asks once a send, and a line costs as much as several checks. The histogram in `/metrics` has all of them.
"""

from __future__ import annotations

import asyncio
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits, random
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11

from gate.errors import GateError
from gate.http.auth import check_caller, signed_request
from gate.http.bodies import refuse_encoded, release_body
from gate.http.context import APPLIED, CALL_ID, PENDING_REASON, REVISION, WHO, AppRequest, Deps
from gate.http.errors import Internal
from gate.http.peers import Origin
from gate.http.routing import LOGGED_PATH, Handler
from gate.metrics import CHECK_SECONDS, CHECKS, HTTP_BUCKETS_S, HTTP_REQUESTS, HTTP_SECONDS, add_times

if TYPE_CHECKING:
    from gate.http.endpoint import Endpoint

Refusal = Callable[[web.Request, GateError], web.StreamResponse]
"""Words what the answer to a request raised."""

REPORT_EVERY_S = 0.25
"""How old the counts may be that another process of this node reads."""
CHECK_GROUP = "check"
"""What checks are counted as."""

JSON_TYPE = "application/json;charset=UTF-8"
REQUEST_ID = "X-Request-Id"
CORS_ROOT = "/client"
"""Below it, all answers have headers that let web pages read them."""
CORS_PREFIX = f"{CORS_ROOT}/"
# Headers that let the page that asked read an answer.
OPEN_TO_PAGES = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join((REVISION, APPLIED, PENDING_REASON, REQUEST_ID, "Retry-After")),
}

_encoder = msgspec.json.Encoder()
_JSON_ALONE = {"Content-Type": JSON_TYPE}
_REQUEST_ID = re.compile(r"[!-~]{1,64}")
"""What is echoed: RongCloud's SDKs send 32 or 36 characters; anything unprintable or longer gets an id of our own."""

log = structlog.get_logger("gate.http")


class ExactRoutes:
    """An application's routes whose paths are no templates, by method and path: one look-up, not a walk up the path."""

    def __init__(self, app: web.Application, general: Handler) -> None:
        """`general` is the application's own handler, with its router; the application is frozen."""
        self._general = general
        self._found: dict[str, web.UrlMappingMatchInfo] = {}
        for resource in app.router.resources():
            if isinstance(resource, web.PlainResource):
                for route in resource:
                    found = self._found[f"{route.method} {resource.canonical}"] = web.UrlMappingMatchInfo({}, route)
                    found.add_app(app)
                    found.freeze()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As the application."""
        found = self._found.get(f"{request.method} {request.raw_path.partition('?')[0]}")
        if found is None or hdrs.EXPECT in request.headers:
            return await self._general(request)
        request._match_info = found  # as aiohttp's router leaves it
        return await found.handler(request)


class Served:
    """The handler of one route."""

    __slots__ = ("_answer", "_answers_checks", "_deps", "_group", "_logged", "_refusal")

    def __init__(
        self, deps: Deps, answer: Handler, group: str, logged: str, refusal: Refusal, answers_checks: bool = False
    ) -> None:
        """`logged` stands in the log for the path, without the id of a User. `refusal` words what `answer` raises.

        `answers_checks`: a 200 is a Verdict.
        """
        self._deps = deps
        self._answer = answer
        self._group = group
        self._logged = logged
        self._refusal = refusal
        self._answers_checks = answers_checks

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Never raises but for a cancelled request."""
        started = perf_counter()
        headers = request.headers
        request[CALL_ID] = request_id = request_id_of(headers)
        try:
            if hdrs.CONTENT_ENCODING in headers:
                refuse_encoded(request)
            response = await self._answer(request)
        except GateError as fault:
            response = self._refusal(request, fault)
        except Exception as fault:
            path = request.get(LOGGED_PATH) or self._logged
            log.exception("a request failed on a bug", path=path, request_id=request_id)
            internal = Internal(f"an internal error, {type(fault).__name__}; the log has it")
            response = self._refusal(request, internal)
        finally:
            release_body(request)
        seconds = perf_counter() - started
        deps, status = self._deps, response.status
        deps.count_request(self._group, status, seconds)
        is_verdict = status == 200 and self._answers_checks
        is_logged = is_check_logged(deps) if is_verdict else deps.options.access_log
        if is_logged or deps.trace is not None:
            who = request.get(WHO) or (check_caller(headers) if is_verdict else {})
            path = request.get(LOGGED_PATH) or self._logged
            if is_logged:
                log_request(deps, self._group, request.method, path, status, seconds, request, request_id, who)
            if deps.trace is not None:
                deps.trace(request, path, status, seconds, request_id, who)
        return response


async def answer_rongcloud(
    deps: Deps, limits: Sequence[str], endpoint: Endpoint[AppRequest], request: web.Request
) -> web.StreamResponse:
    """Run an endpoint of RongCloud's API. The body is RongCloud's, so the headers say what became of a write."""
    call = await signed_request(deps, limits, request)
    body = await endpoint.run(call)
    return json_response(body, headers=call.effect.headers if call.effect else None)


class JsonResponse(web.Response):
    """Written in one piece, past the steps of aiohttp for what it does not have: cookies, chunks, a `Connection` header.

    The bytes are those that aiohttp would send after `label`. Where it has more to do, it does all of it.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer, if it is the usual one."""
        request_id = request.get(CALL_ID)
        if (
            request_id is None
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or not request.keep_alive
            or self.keep_alive is False
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
        # As aiohttp notes it: all of it was sent, and the connection goes on.
        self._eof_sent = self._keep_alive = True
        await writer.drain()
        return writer


async def label(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer; here, since those of a stream are sent long before it has been served."""
    response.headers[REQUEST_ID] = request.get(CALL_ID) or request_id_of(request.headers)
    response.headers["Server"] = "gate"  # aiohttp would name its own version and Python's
    if request.path.startswith(CORS_PREFIX) or request.path == CORS_PREFIX[:-1]:
        response.headers.update(OPEN_TO_PAGES)


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


class Tally:
    """Counts requests and Verdicts, and passes them on some times a second: straight away it would take 10 us a request.

    A scrape reads them in a thread of its own, hence the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = {}
        self._times: dict[str, _Times] = {}
        self._words: dict[str, int] = {}

    def count_request(self, group: str, status: int, seconds: float) -> None:
        """One request."""
        with self._lock:
            key = group, status
            self._requests[key] = self._requests.get(key, 0) + 1
            times = self._times.get(group)
            if times is None:
                times = self._times[group] = _Times()
            times.total_s += seconds
            times.counts[bisect_left(HTTP_BUCKETS_S, seconds)] += 1

    def count_verdicts(self, words: Mapping[str, int]) -> None:
        """The Verdicts of one request."""
        with self._lock:
            for word, many in words.items():
                self._words[word] = self._words.get(word, 0) + many

    def report(self) -> None:
        """Pass on what was counted since the last time."""
        with self._lock:
            requests, times, words = self._requests, self._times, self._words
            self._requests, self._times, self._words = {}, {}, {}
        for (group, status), many in requests.items():
            HTTP_REQUESTS.labels(group, str(status)).inc(many)
        for group, these in times.items():
            add_times(HTTP_SECONDS.labels(group), these.counts, these.total_s)
            if group == CHECK_GROUP:
                add_times(CHECK_SECONDS.labels("http"), these.counts, these.total_s)
        for word, many in words.items():
            CHECKS.labels(word).inc(many)

    async def report_for_ever(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self.report()


class _Times:
    """Of one group of endpoints."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(HTTP_BUCKETS_S) + 1)
        self.total_s = 0.0
