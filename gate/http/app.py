"""The application: one table of endpoints, and the steps that every request takes.

Find the endpoint by its path (doubled slashes count as one, since an official SDK sends them), check the method, learn
who calls, run it, and word whatever it raises as its family does. Nothing else catches errors. `access_log` says which
requests are logged. A check may be answered before it gets here, in `fast_path`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import NamedTuple

import structlog
from aiohttp import web

from gate.core.limits import EACH_CLIENT, limit_names
from gate.core.operators import OperatorRole
from gate.errors import GateError
from gate.http import auth, client, rongcloud, v1
from gate.http.access_log import is_check_logged, log_request
from gate.http.bodies import expect_continue, refuse_encoded, release_body
from gate.http.client import cors, page, websocket
from gate.http.client import endpoint as client_endpoint
from gate.http.client.problems import client_problem
from gate.http.context import AppRequest
from gate.http.dependencies import Deps
from gate.http.errors import (
    FeatureUnsupported,
    Internal,
    MethodWrong,
    PathUnknown,
    Problem,
    rongcloud_problem,
    v1_problem,
)
from gate.http.health import ASIDE, PROBES, Probe
from gate.http.openapi import DOCUMENTS
from gate.http.operators import OperatorAuth, operator_request
from gate.http.paths import template_of
from gate.http.responses import REQUEST_ID, json_response, request_id_of
from gate.http.rongcloud import endpoint as rongcloud_endpoint
from gate.http.rongcloud.unsupported import UNSUPPORTED, unsupported_feature
from gate.http.sites import Site, site_of
from gate.http.v1 import apps, check
from gate.http.v1 import endpoint as v1_endpoint

_SLASHES = re.compile(r"/{2,}")
_RONGCLOUD_PREFIX = "/user/"
_GROUPS = {check.PATH: check.GROUP, "/v1/explain": check.GROUP, "/v1/events": "events", websocket.PATH: "websocket"}
"""What is counted apart: the one is quick, the other lasts for hours."""
_REQUEST_ID = web.RequestKey("request_id", str)

log = structlog.get_logger("gate.http")

Answer = Callable[[web.Request, Deps], Awaitable[web.StreamResponse]]
Wording = Callable[[GateError, str], Problem]
Refusal = Callable[[GateError], web.StreamResponse]


class Route(NamedTuple):
    """What one path answers: by method, for which group of endpoints it is counted."""

    group: str
    methods: dict[str, Answer]


def make_app(deps: Deps, door: OperatorAuth | None = None, sites: Sequence[Site] = ()) -> web.Application:
    """The whole HTTP surface on these dependencies. A site that lets operators in shares the `door`, and so its throttle."""
    app = web.Application()
    # A dot would leave out paths with a line break in an id, and aiohttp would answer those in its own words.
    dispatch = Dispatch(deps, door or OperatorAuth(), sites)
    app.router.add_route("*", r"/{path:[\s\S]*}", dispatch.serve, expect_handler=expect_continue)
    app.on_response_prepare.append(_label)
    app.on_shutdown.append(partial(_end_streams, deps))
    return app


class Dispatch:
    """From a request to its answer."""

    def __init__(self, deps: Deps, door: OperatorAuth, sites: Sequence[Site]) -> None:
        """Build the table once."""
        self._deps = deps
        self._routes = make_routes(door) | {path: Route("docs", {"GET": answer}) for path, answer in page.FILES.items()}
        self._sites = tuple(sites)
        if self._sites:
            # A browser that opens the bare address is an operator's.
            self._routes["/"] = Route("docs", {"GET": _leading_to(self._sites[0].prefix)})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Never raises but for a cancelled request."""
        started = perf_counter()
        path = _SLASHES.sub("/", request.path)
        request_id = request_id_of(request.headers)
        request[_REQUEST_ID] = request_id
        site = site_of(self._sites, path)
        if site is not None:
            group = site.group
            response = await _caught(self._visited(request, site), partial(site.refusal, request), request, request_id)
        else:
            route = self._route(request, path)
            group = route.group if route else "unknown"
            response = await _caught(
                self._answer(request, path, route), _refusal(request, path, route), request, request_id
            )
        seconds = perf_counter() - started
        self._deps.count_request(group, response.status, seconds)
        is_verdict = response.status == 200 and path == check.PATH
        if is_check_logged(self._deps) if is_verdict else self._deps.options.access_log:
            log_request(self._deps, group, request.method, request.path, response.status, seconds, request, request_id)
        return response

    def _route(self, request: web.Request, path: str) -> Route | None:
        # A brace could make a path out of what is a template of paths; what fits the template is found by it.
        route = self._routes.get(path) if "{" not in path else None
        route = route or self._routes.get(template_of(request.raw_path) or "")
        if route is None and (feature := unsupported_feature(path)) is not None:
            refusing = _absent(feature, ())
            return Route("user", {"GET": refusing, "POST": refusing})
        return route

    async def _visited(self, request: web.Request, site: Site) -> web.StreamResponse:
        refuse_encoded(request)
        return await site.answer(request, self._deps)

    async def _answer(self, request: web.Request, path: str, route: Route | None) -> web.StreamResponse:
        refuse_encoded(request)
        return await _chosen(request, path, route)(request, self._deps)


async def _caught(
    answering: Awaitable[web.StreamResponse], refusal: Refusal, request: web.Request, request_id: str
) -> web.StreamResponse:
    """The answer, or what is said instead where it failed."""
    try:
        return await answering
    except GateError as fault:
        return refusal(fault)
    except Exception as fault:
        log.exception("a request failed on a bug", path=request.path[:200], request_id=request_id)
        return refusal(Internal(f"an internal error, {type(fault).__name__}; the log has it"))
    finally:
        release_body(request)


def _refusal(request: web.Request, path: str, route: Route | None) -> Refusal:
    """How a fault is answered on this path."""
    wording = _wording(path, is_served=route is not None and route.group != "user")

    def answer(fault: GateError) -> web.StreamResponse:
        problem = wording(fault, request.path)
        return json_response(problem.body, problem.status, problem.headers)

    return answer


async def _end_streams(deps: Deps, _: web.Application) -> None:
    """When the service drains; else they would be in flight until the time for it is over."""
    deps.streams.end_all()
    if deps.gateway is not None:
        deps.gateway.drain()


async def _label(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer; here, since those of a stream are sent long before it has been served."""
    response.headers[REQUEST_ID] = request.get(_REQUEST_ID) or request_id_of(request.headers)
    if _SLASHES.sub("/", request.path).startswith(cors.PREFIX):
        cors.open_to_pages(response)
    response.headers["Server"] = "gate"  # aiohttp would name its own version and Python's


def _chosen(request: web.Request, path: str, route: Route | None) -> Answer:
    if route is None:
        raise PathUnknown(f"there is no endpoint {path[:200]}")
    method = "GET" if request.method == "HEAD" else request.method
    if method == "OPTIONS" and path.startswith(cors.PREFIX):
        return _preflight(route)
    answer = route.methods.get(method)
    if answer is None:
        raise MethodWrong(request.method, ", ".join(sorted(route.methods)))
    return answer


def make_routes(door: OperatorAuth | None = None) -> dict[str, Route]:
    """Every path that is served, but those of sites and of the client's page: what programs call."""
    door = door or OperatorAuth()
    routes: dict[str, Route] = {}
    for path, endpoint in rongcloud.ENDPOINTS.items():
        routes[path] = Route("user", {"POST": _signed(endpoint, limit_names(path))})
    for (path, method), v1_one in v1.ENDPOINTS.items():
        group = _GROUPS.get(path, "v1")
        routes.setdefault(path, Route(group, {})).methods[method] = _known(v1_one, limit_names(path))
    routes[check.PATH].methods["GET"] = _promptly(routes[check.PATH].methods["GET"])
    for path, feature in UNSUPPORTED.items():
        routes[path] = Route("user", {"POST": _absent(feature, limit_names(path))})
    for (path, method), (role, apps_one) in apps.ENDPOINTS.items():
        routes.setdefault(path, Route("apps", {})).methods[method] = _administered(apps_one, role, door)
    for (path, method), client_one in client.ENDPOINTS.items():
        routes.setdefault(path, Route("client", {})).methods[method] = _borne(client_one, limit_names(path))
    routes[websocket.PATH] = Route(_GROUPS[websocket.PATH], {"GET": websocket.connect})
    for path, probe in PROBES.items():
        routes[path] = Route("probe", {"GET": _aside(probe) if path in ASIDE else _open(probe)})
    for path, document in DOCUMENTS.items():
        routes[path] = Route("docs", {"GET": document})
    return routes


def _wording(path: str, is_served: bool) -> Wording:
    # An SDK of RongCloud's must be able to read the refusal of whatever it calls.
    if path.startswith(_RONGCLOUD_PREFIX) or (path.endswith(".json") and not is_served):
        return rongcloud_problem
    return client_problem if path.startswith(cors.PREFIX) else v1_problem


def _preflight(route: Route) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        return cors.preflight(route.methods)

    return answer


def _signed(endpoint: rongcloud.Endpoint, limits: tuple[str, ...]) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        now_ms = deps.now_ms()
        view = await auth.signed_caller(request.headers, deps, now_ms)
        deps.limiter.spend(view.facts, limits)
        return await rongcloud_endpoint.answer(endpoint, AppRequest(request, deps, view, now_ms))

    return answer


def _absent(feature: str, limits: tuple[str, ...]) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        view = await auth.signed_caller(request.headers, deps, deps.now_ms())
        deps.limiter.spend(view.facts, limits)
        raise FeatureUnsupported(feature)

    return answer


def _administered(endpoint: apps.Endpoint, role: OperatorRole, door: OperatorAuth) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        call = await operator_request(request, deps, door, role)
        return await v1_endpoint.replied(call, await endpoint(call))

    return answer


def _known(endpoint: v1.Endpoint, limits: tuple[str, ...]) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        now_ms = deps.now_ms()
        view = await auth.caller(request.headers, deps, now_ms)
        deps.limiter.spend(view.facts, limits)
        return await v1_endpoint.answer(endpoint, AppRequest(request, deps, view, now_ms))

    return answer


def _promptly(general: Answer) -> Answer:
    """A check from one transaction, where it needs no more; else what is general."""

    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        with suppress(GateError):
            prompt = check.fast_check(deps, request.headers, request.raw_path)
            if prompt is not None:
                return json_response(prompt)
        return await general(request, deps)

    return answer


def _borne(endpoint: client.Endpoint, limits: tuple[str, ...]) -> Answer:
    limits = (*limits, EACH_CLIENT)

    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        call = client_endpoint.client_request(request, deps, deps.now_ms())
        deps.limiter.spend(call.facts, limits, call.user)
        return await client_endpoint.answer(endpoint, call)

    return answer


def _leading_to(path: str) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": deps.options.public_path + path})

    return answer


def _aside(probe: Probe) -> Answer:
    one_at_a_time = asyncio.Lock()

    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        async with one_at_a_time:
            return await asyncio.to_thread(probe, deps)

    return answer


def _open(probe: Probe) -> Answer:
    async def answer(request: web.Request, deps: Deps) -> web.StreamResponse:
        return probe(deps)

    return answer
