"""The application: one table of routes.

    /user                 RongCloud's API: signed by an App
    /v1                   an App, by HTTP Basic, with the scopes of its credential
    /v1/apps, /v1/deployment-audit     an operator with a role
    /client               the Token of an end user; web pages of any site may call
    everything else       open: probes, documents; and what is mounted, such as the console

With `--admin-http` the paths for operators and monitoring are served on a port of their own, and there alone: `Part`.

The handler of a route is a `Served` (`responses`): it alone catches errors, which it words as the caller's family of clients
expects, and it counts and logs. Below it one function for each family authenticates the caller and runs the endpoint. A check
may be answered before it gets here, in `fast_path`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import structlog
from aiohttp import web

from gate.core.limits import EACH_CLIENT, limit_names
from gate.core.operators import OperatorRole
from gate.errors import GateError
from gate.http import auth, client, rongcloud, v1
from gate.http.auth import called_by, report_failure
from gate.http.client import page, websocket
from gate.http.client.endpoint import ClientRequest, client_request, preflight
from gate.http.context import AppRequest, Deps
from gate.http.endpoint import Endpoint, responded
from gate.http.errors import (
    FeatureUnsupported,
    client_problem,
    rongcloud_problem,
    v1_problem,
)
from gate.http.openapi import DOCUMENTS, VIEWER_FILES
from gate.http.operators import OperatorAuth, OperatorRequest, Reach, operator_app_request, operator_request
from gate.http.responses import (
    CHECK_GROUP,
    CORS_PREFIX,
    Served,
    answer_rongcloud,
    json_response,
    label,
)
from gate.http.routing import (
    FAMILY_PATH,
    UNKNOWN,
    UNSUPPORTED,
    Handler,
    Routes,
    refuse_path,
    sent_path,
    unsupported_feature,
)
from gate.http.v1 import apps, check
from gate.readiness import METRICS_TYPE, RETRY_AFTER_S, readiness

METRICS_PATH = "/metrics"
Probe = Callable[[Deps], web.Response]
Part = Literal["all", "public", "admin"]
"""What a port serves. `admin`: documents, metrics, console, what operators call; `public`: the rest; both: the other probes."""

_GROUPS = {check.PATH: CHECK_GROUP, "/v1/explain": CHECK_GROUP, "/v1/events": "events", websocket.PATH: "websocket"}
"""What is counted apart: the one is quick, the other lasts for hours."""

log = structlog.get_logger("gate.http")


class Mounted(Protocol):
    """Pages below a prefix, such as the console, which this layer may not import. Their requests are counted and logged too."""

    @property
    def prefix(self) -> str:
        """It begins and ends with a slash; without the last one it belongs to the pages too."""
        ...

    @property
    def group(self) -> str:
        """What its requests are counted as."""
        ...

    async def answer(self, request: web.Request, deps: Deps) -> web.StreamResponse:
        """Serve one request of any method. May raise `GateError`, and what is a bug."""
        ...

    def refusal(self, request: web.Request, fault: GateError) -> web.StreamResponse:
        """What to answer where `answer` raised; for a bug, the fault is `Internal`. Never raises."""
        ...


def make_app(
    deps: Deps, operator_auth: OperatorAuth | None = None, mounted: Sequence[Mounted] = (), part: Part = "all"
) -> web.Application:
    """The HTTP surface of one port. Mounted pages that let operators in share the `operator_auth`, and so its throttle."""
    if part == "public":
        mounted = ()
    app = web.Application()
    app.on_response_prepare.append(label)
    app.on_shutdown.append(partial(_end_streams, deps))
    routes = Routes(app, partial(_served, deps))
    for path, probe in PROBES.items():
        if part != "public" or path != METRICS_PATH:
            # In a thread, one at a time: adding up the counts of all processes must not hold up /healthz.
            aside = asyncio.Lock() if path == METRICS_PATH else None
            routes.add(path, "probe", {"GET": partial(_probe, probe, aside, deps)})
    operators = None if part == "public" else operator_auth or OperatorAuth()
    _add_v1(deps, routes, operators, part)
    if part != "admin":
        _add_rongcloud(deps, routes)
        _add_client(deps, routes)
    if operators is not None:
        _add_operators(deps, routes, operators)
    if part == "admin":
        # `--public-url` is where the other port is reached.
        deps = replace(deps, options=replace(deps.options, public_url=""))
    for pages in mounted:
        routes.add_others(pages.prefix.rstrip("/"), _served_pages(deps, pages))
    if mounted:
        # A browser that opens the bare address is an operator's.
        routes.add("/", "docs", {"GET": partial(_lead_to, mounted[0].prefix, deps)})
    routes.add_others()
    return app


def _served(deps: Deps, answer: Handler, group: str, logged: str) -> Handler:
    refusal = _refusal if group not in ("user", UNKNOWN) else _refusal_unserved
    return Served(deps, answer, group, logged, refusal, answers_checks=logged == check.PATH).serve


def _served_pages(deps: Deps, pages: Mounted) -> Handler:
    return Served(deps, partial(pages.answer, deps=deps), pages.group, UNKNOWN, pages.refusal).serve


def _refusal(request: web.Request, fault: GateError) -> web.StreamResponse:
    path = request.path
    problem = (client_problem if path.startswith(CORS_PREFIX) else v1_problem)(fault, path)
    return json_response(problem.body, problem.status, problem.headers)


def _refusal_unserved(request: web.Request, fault: GateError) -> web.StreamResponse:
    """Of RongCloud's API, and where there is no endpoint: an SDK of RongCloud's must be able to read whatever it calls."""
    path = request.path
    if not (path.startswith("/user/") or path.endswith(".json")):
        return _refusal(request, fault)
    problem = rongcloud_problem(fault, sent_path(request))
    return json_response(problem.body, problem.status, problem.headers)


async def _end_streams(deps: Deps, _: web.Application) -> None:
    """When the service drains; else they would be in flight until the time for it is over."""
    deps.streams.end_all()
    deps.unauthenticated.end_all()
    if deps.gateway is not None:
        deps.gateway.drain()


# The routes. An `_answer_…` authenticates the caller, and runs the endpoint for it.


def _add_rongcloud(deps: Deps, routes: Routes) -> None:
    for path, endpoint in rongcloud.ENDPOINTS.items():
        routes.add(path, "user", {"POST": partial(answer_rongcloud, deps, limit_names(path), endpoint)})
    for path, feature in UNSUPPORTED.items():
        routes.add(path, "user", {"POST": partial(_refuse_feature, deps, limit_names(path), feature)})
    refused = dict.fromkeys(("GET", "POST"), partial(_refuse_family, deps))
    routes.add(FAMILY_PATH, "user", refused, logged="unsupported")


async def _refuse_feature(deps: Deps, limits: Sequence[str], feature: str, request: web.Request) -> web.StreamResponse:
    await auth.signed_request(deps, limits, request)
    raise FeatureUnsupported(feature)


async def _refuse_family(deps: Deps, request: web.Request) -> web.StreamResponse:
    feature = unsupported_feature(request.path)
    assert feature is not None, "the route is of those paths only"
    return await _refuse_feature(deps, (), feature, request)


def _add_v1(deps: Deps, routes: Routes, operators: OperatorAuth | None, part: Part) -> None:
    by_path: dict[str, dict[str, Handler]] = {}
    for (path, method), endpoint in v1.ENDPOINTS.items():
        of_app = refuse_path if part == "admin" else partial(_answer_v1, deps, limit_names(path), endpoint)
        if part != "admin" and (path, method) == (check.PATH, "GET"):
            of_app = partial(_answer_check, deps, of_app)
        of_operator = partial(_answer_v1_operator, deps, operators, v1.role_of(path, method), endpoint)
        by_path.setdefault(path, {})[method] = partial(_answer_v1_any, of_app, of_operator)
    for path, methods in by_path.items():
        routes.add(path, _GROUPS.get(path, "v1"), methods)


async def _answer_v1_any(of_app: Handler, of_operator: Handler, request: web.Request) -> web.StreamResponse:
    # The header alone decides whose credentials are expected, so that no password is ever compared with both.
    return await (of_operator if auth.APP_HEADER in request.headers else of_app)(request)


async def _answer_v1_operator(
    deps: Deps,
    operators: OperatorAuth | None,
    needed: OperatorRole | None,
    endpoint: Endpoint[AppRequest],
    request: web.Request,
) -> web.StreamResponse:
    try:
        call = await operator_app_request(request, deps, operators, needed)
    except GateError as fault:
        report_failure(request, deps, "operator", fault)
        raise
    return responded(await endpoint.run(call))


async def _answer_v1(
    deps: Deps, limits: Sequence[str], endpoint: Endpoint[AppRequest], request: web.Request
) -> web.StreamResponse:
    now_ms = deps.now_ms()
    try:
        facts, caller = await auth.v1_caller(request.headers, deps, now_ms)
    except GateError as fault:
        report_failure(request, deps, "http", fault)
        raise
    called_by(request, deps, caller.kind, caller.name, auth.who_of(facts.key, caller))
    caller.require(endpoint.scopes)  # before the limits: what is refused for its scope spends none
    if facts.rate_limits:
        deps.limiter.spend(facts, limits)
    return responded(await endpoint.run(AppRequest(request, deps, facts, now_ms, caller)))


async def _answer_check(deps: Deps, of_app: Handler, request: web.Request) -> web.StreamResponse:
    with suppress(GateError):  # then the steps of all endpoints find it again, and it is worded
        # From one snapshot, the credentials included, where it needs no more.
        answer = check.fast_check(deps, request.headers, request.raw_path)
        if answer is not None:
            return json_response(answer)
    return await of_app(request)


def _add_client(deps: Deps, routes: Routes) -> None:
    by_path: dict[str, dict[str, Handler]] = {}
    for (path, method), endpoint in client.ENDPOINTS.items():
        limits = (*limit_names(path), EACH_CLIENT)
        by_path.setdefault(path, {})[method] = partial(_answer_client, deps, limits, endpoint)
    groups = dict.fromkeys(by_path, "client") | {websocket.PATH: _GROUPS[websocket.PATH]}
    by_path[websocket.PATH] = {"GET": partial(websocket.connect, deps=deps)}
    by_path |= {path: {"GET": file} for path, file in page.FILES.items()}
    for path, methods in by_path.items():
        options = {"OPTIONS": partial(preflight, tuple(methods))} if path.startswith(CORS_PREFIX) else None
        routes.add(path, groups.get(path, "docs"), methods, options)


async def _answer_client(
    deps: Deps, limits: Sequence[str], endpoint: Endpoint[ClientRequest], request: web.Request
) -> web.StreamResponse:
    try:
        call = client_request(request, deps, deps.now_ms())
    except GateError as fault:
        report_failure(request, deps, "client", fault)
        raise
    called_by(request, deps, "user", call.caller.name, {"app": call.app_key})
    deps.limiter.spend(call.facts, limits, call.user)
    return responded(await endpoint.run(call))


def _add_operators(deps: Deps, routes: Routes, operator_auth: OperatorAuth) -> None:
    for path, document in DOCUMENTS.items():
        routes.add(path, "docs", {"GET": partial(document, deps=deps)})
    for path, file in VIEWER_FILES.items():
        routes.add(path, "docs", {"GET": file})
    by_path: dict[str, dict[str, Handler]] = {}
    for (path, method), (role, endpoint) in apps.ENDPOINTS.items():
        needed = role, apps.reach_of(path, method)
        by_path.setdefault(path, {})[method] = partial(_answer_operator, deps, operator_auth, needed, endpoint)
    for path, methods in by_path.items():
        routes.add(path, "apps", methods)


async def _answer_operator(
    deps: Deps,
    operator_auth: OperatorAuth,
    needed: tuple[OperatorRole, Reach],
    endpoint: Endpoint[OperatorRequest],
    request: web.Request,
) -> web.StreamResponse:
    try:
        call = await operator_request(request, deps, operator_auth, *needed)
    except GateError as fault:
        report_failure(request, deps, "operator", fault)
        raise
    return responded(await endpoint.run(call))


def healthz(deps: Deps) -> web.Response:
    """The process is alive and its loop turns."""
    return json_response({"status": "ok"})


def readyz(deps: Deps) -> web.Response:
    """Whether this node should get traffic."""
    status, body = readiness(deps.roles_missing(), deps.warnings, lambda: deps.replica.view())
    return json_response(body, status, {} if status == 200 else {"Retry-After": str(RETRY_AFTER_S)})


def metrics(deps: Deps) -> web.Response:
    """The Prometheus exposition of the whole service."""
    return web.Response(body=deps.metrics_text(), headers={"Content-Type": METRICS_TYPE})


async def _lead_to(path: str, deps: Deps, request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": deps.options.public_path + path})


async def _probe(probe: Probe, aside: asyncio.Lock | None, deps: Deps, request: web.Request) -> web.StreamResponse:
    if aside is None:
        return probe(deps)
    async with aside:
        return await asyncio.to_thread(probe, deps)


PROBES: dict[str, Probe] = {"/healthz": healthz, "/readyz": readyz, METRICS_PATH: metrics}
"""For probes and scrapers: no credentials, no secrets, no Redis. Every HTTP process answers them from pages in memory, and the
supervisor on `--health` (`gate.service.health`)."""
