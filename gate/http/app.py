"""The application: sub-applications by prefix, each with its own credentials, and the steps that every request takes.

    /user                 RongCloud's API: signed by an App
    /v1                   an App, by HTTP Basic, with the scopes of its credential
    /v1/apps, /v1/deployment-audit     an operator with a role
    /client               the Token of an end user; web pages of any site may call
    everything else       open: probes, documents; and what is mounted, such as the console

With `--admin-http` the paths for operators and monitoring are served on a port of their own, and there alone: `Part`.

aiohttp's router finds the route. The middleware `serve` runs around all of them: it alone catches errors, which it words as
the caller's family of clients expects, and it counts and logs. `access_log` says which requests are logged. A check may be
answered before it gets here, in `fast_path`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Literal, Protocol

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from gate.core.limits import EACH_CLIENT, limit_names
from gate.core.operators import OperatorRole
from gate.errors import GateError
from gate.http import auth, client, rongcloud, v1
from gate.http.auth_watch import CALL_ID, WHO, called_by, watched
from gate.http.bodies import refuse_encoded, release_body
from gate.http.client import endpoint as client_endpoint
from gate.http.client import page, websocket
from gate.http.client.endpoint import CLIENT_REQUEST, CORS_PREFIX, client_request, open_to_pages, preflight
from gate.http.context import APP_REQUEST, AppRequest, Deps
from gate.http.errors import (
    FeatureUnsupported,
    Internal,
    Problem,
    client_problem,
    rongcloud_problem,
    v1_problem,
)
from gate.http.health import ASIDE, OF_MONITORING, PROBES, Probe
from gate.http.openapi import DOCUMENTS, viewer
from gate.http.operators import OPERATOR_REQUEST, OperatorAuth, Reach, operator_request
from gate.http.responses import REQUEST_ID, is_check_logged, json_response, log_request, request_id_of
from gate.http.rongcloud import endpoint as rongcloud_endpoint
from gate.http.routing import LOGGED_PATH, UNKNOWN, Handler, Routes, sent_path
from gate.http.unsupported import FAMILY_PATH, UNSUPPORTED, unsupported_feature
from gate.http.v1 import apps, check

Part = Literal["all", "public", "admin"]
"""What a port serves. `admin`: documents, metrics, operators' API, console; `public`: the rest; both: the other probes."""

_RONGCLOUD = "/user"
_V1 = "/v1"
_OF_OPERATORS = ("/v1/apps", "/v1/deployment-audit")
_CLIENT = "/client"
_GROUPS = {check.PATH: check.GROUP, "/v1/explain": check.GROUP, "/v1/events": "events", websocket.PATH: "websocket"}
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
    routes = Routes()
    app = web.Application(middlewares=[_serving(deps, routes, mounted)])
    app.on_response_prepare.append(_label)
    app.on_shutdown.append(partial(_end_streams, deps))
    for path, probe in PROBES.items():
        if part != "public" or path not in OF_MONITORING:
            aside = asyncio.Lock() if path in ASIDE else None
            routes.add(app, path, "probe", {"GET": partial(_probe, probe, aside, deps)})
    if part != "admin":
        _add_callers(app, deps, routes)
    if part != "public":
        _add_operators(app, deps, routes, operator_auth or OperatorAuth())
    if part == "admin":
        # `--public-url` is where the other port is reached.
        deps = replace(deps, options=replace(deps.options, public_url=""))
    for pages in mounted:
        below = web.Application()
        routes.add_others(below, partial(pages.answer, deps=deps), pages.group)
        app.add_subapp(pages.prefix.rstrip("/"), below)
    if mounted:
        # A browser that opens the bare address is an operator's.
        routes.add(app, "/", "docs", {"GET": partial(_lead_to, mounted[0].prefix, deps)})
    routes.add_others(app)
    return app


def _add_callers(app: web.Application, deps: Deps, routes: Routes) -> None:
    app.add_subapp(_RONGCLOUD, _rongcloud_app(deps, routes))
    app.add_subapp(_V1, _v1_app(deps, routes))
    app.add_subapp(_CLIENT, _client_app(deps, routes))
    routes.add(
        app, FAMILY_PATH, "user", dict.fromkeys(("GET", "POST"), partial(_refuse_family, deps)), logged="unsupported"
    )


def _add_operators(app: web.Application, deps: Deps, routes: Routes, operator_auth: OperatorAuth) -> None:
    for path, document in DOCUMENTS.items():
        routes.add(app, path, "docs", {"GET": partial(document, deps=deps)})
    for path, file in viewer.FILES.items():
        routes.add(app, path, "docs", {"GET": file})
    for prefix in _OF_OPERATORS:
        app.add_subapp(prefix, _operators_app(deps, routes, operator_auth, prefix))


# What every request meets


def _serving(deps: Deps, routes: Routes, mounted: Sequence[Mounted]) -> Middleware:
    pages_of = {pages.group: pages for pages in mounted}

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Never raises but for a cancelled request."""
        started = perf_counter()
        request[CALL_ID] = request_id = request_id_of(request.headers)
        matched = request.match_info.handler
        group = routes.groups[matched]
        pages = pages_of.get(group)
        try:
            if hdrs.CONTENT_ENCODING in request.headers:
                refuse_encoded(request)
            response = await handler(request)
        except GateError as fault:
            response = _refusal(request, fault, group, pages)
        except Exception as fault:
            log.exception("a request failed on a bug", path=_logged_path(request, routes), request_id=request_id)
            internal = Internal(f"an internal error, {type(fault).__name__}; the log has it")
            response = _refusal(request, internal, group, pages)
        finally:
            release_body(request)
        seconds = perf_counter() - started
        deps.count_request(group, response.status, seconds)
        is_verdict = response.status == 200 and request.path == check.PATH
        if is_check_logged(deps) if is_verdict else deps.options.access_log:
            who = request.get(WHO) or (auth.check_caller(request.headers) if is_verdict else {})
            path = _logged_path(request, routes)
            log_request(deps, group, request.method, path, response.status, seconds, request, request_id, who)
        return response

    return serve


def _logged_path(request: web.Request, routes: Routes) -> str:
    return request.get(LOGGED_PATH) or routes.templates[request.match_info.handler]


def _refusal(request: web.Request, fault: GateError, group: str, pages: Mounted | None) -> web.StreamResponse:
    """How a fault is answered on this path."""
    if pages is not None:
        return pages.refusal(request, fault)
    problem = _worded(request, fault, is_served=group not in ("user", UNKNOWN))
    return json_response(problem.body, problem.status, problem.headers)


def _worded(request: web.Request, fault: GateError, is_served: bool) -> Problem:
    path = request.path
    # An SDK of RongCloud's must be able to read the refusal of whatever it calls.
    if path.startswith(f"{_RONGCLOUD}/") or (path.endswith(".json") and not is_served):
        return rongcloud_problem(fault, sent_path(request))
    return (client_problem if path.startswith(f"{_CLIENT}/") else v1_problem)(fault, path)


async def _label(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer; here, since those of a stream are sent long before it has been served."""
    response.headers[REQUEST_ID] = request.get(CALL_ID) or request_id_of(request.headers)
    response.headers["Server"] = "gate"  # aiohttp would name its own version and Python's


async def _end_streams(deps: Deps, _: web.Application) -> None:
    """When the service drains; else they would be in flight until the time for it is over."""
    deps.streams.end_all()
    deps.unauthenticated.end_all()
    if deps.gateway is not None:
        deps.gateway.drain()


# Sub-applications. A middleware authenticates the endpoints; other routes are open, such as those of a wrong method.


def _rongcloud_app(deps: Deps, routes: Routes) -> web.Application:
    limits: dict[Handler, tuple[str, ...]] = {}

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        names = limits.get(request.match_info.handler)
        if names is not None:
            now_ms = deps.now_ms()
            with watched(request, deps, "rongcloud"):
                facts, caller = await auth.signed_caller(request.headers, deps, now_ms)
            request[WHO] = auth.who_of(facts.key, caller)
            called_by(request, deps, caller.kind, caller.name)
            deps.limiter.spend(facts, names)
            request[APP_REQUEST] = AppRequest(request, deps, facts, now_ms, caller)
        return await handler(request)

    app = web.Application(middlewares=[authenticate])
    answers: dict[str, Handler] = {
        **{path: partial(rongcloud_endpoint.answer, one) for path, one in rongcloud.ENDPOINTS.items()},
        **{path: partial(_refuse_feature, feature) for path, feature in UNSUPPORTED.items()},
    }
    for path, answer in answers.items():
        limits[answer] = limit_names(path)
        routes.add(app, path, "user", {"POST": answer}, _RONGCLOUD)
    routes.add_others(app)
    return app


def _v1_app(deps: Deps, routes: Routes) -> web.Application:
    limits: dict[Handler, tuple[str, ...]] = {}
    of_endpoints: dict[tuple[str, str], Handler] = {key: partial(v1.answer, one) for key, one in v1.ENDPOINTS.items()}
    scopes = {of_endpoints[key]: one.scopes for key, one in v1.ENDPOINTS.items()}
    answers = _by_path(of_endpoints)
    check_one = answers[check.PATH]["GET"]

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        matched = request.match_info.handler
        if matched is check_one:
            with suppress(GateError):  # then the steps below find it again, and it is worded
                # From one snapshot, the credentials included, where it needs no more.
                answer = check.fast_check(deps, request.headers, request.raw_path)
                if answer is not None:
                    return json_response(answer)
        names = limits.get(matched)
        if names is not None:
            now_ms = deps.now_ms()
            with watched(request, deps, "http"):
                facts, caller = await auth.v1_caller(request.headers, deps, now_ms)
            request[WHO] = auth.who_of(facts.key, caller)
            called_by(request, deps, caller.kind, caller.name)
            caller.require(scopes[matched])  # before the limits: what is refused for its scope spends none
            deps.limiter.spend(facts, names)
            request[APP_REQUEST] = AppRequest(request, deps, facts, now_ms, caller)
        return await handler(request)

    app = web.Application(middlewares=[authenticate])
    for path, methods in answers.items():
        limits |= dict.fromkeys(methods.values(), limit_names(path))
        routes.add(app, path, _GROUPS.get(path, "v1"), methods, _V1)
    routes.add_others(app)
    return app


def _operators_app(deps: Deps, routes: Routes, operator_auth: OperatorAuth, prefix: str) -> web.Application:
    needs: dict[Handler, tuple[OperatorRole, Reach]] = {}

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        needed = needs.get(request.match_info.handler)
        if needed is not None:
            with watched(request, deps, "operator"):
                request[OPERATOR_REQUEST] = await operator_request(request, deps, operator_auth, *needed)
        return await handler(request)

    app = web.Application(middlewares=[authenticate])
    of_prefix = {key: one for key, one in apps.ENDPOINTS.items() if key[0].startswith(prefix)}
    answers = {key: partial(apps.answer, endpoint) for key, (_, endpoint) in of_prefix.items()}
    needs |= {answers[key]: (role, apps.reach_of(*key)) for key, (role, _) in of_prefix.items()}
    for path, methods in _by_path(answers).items():
        routes.add(app, path, "apps", methods, prefix)
    routes.add_others(app)
    return app


def _client_app(deps: Deps, routes: Routes) -> web.Application:
    limits: dict[Handler, tuple[str, ...]] = {}

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        names = limits.get(request.match_info.handler)
        if names is not None:
            with watched(request, deps, "client"):
                call = request[CLIENT_REQUEST] = client_request(request, deps, deps.now_ms())
            request[WHO] = {"app": call.app_key}
            called_by(request, deps, "user", call.caller.name)
            deps.limiter.spend(call.facts, names, call.user)
        return await handler(request)

    app = web.Application(middlewares=[authenticate])
    app.on_response_prepare.append(open_to_pages)
    answers = _by_path({key: partial(client_endpoint.answer, one) for key, one in client.ENDPOINTS.items()})
    for path, methods in answers.items():
        limits |= dict.fromkeys(methods.values(), (*limit_names(path), EACH_CLIENT))
    groups = dict.fromkeys(answers, "client") | {websocket.PATH: _GROUPS[websocket.PATH]}
    answers[websocket.PATH] = {"GET": partial(websocket.connect, deps=deps)}
    answers |= {path: {"GET": file} for path, file in page.FILES.items()}
    for path, methods in answers.items():
        options = {"OPTIONS": partial(preflight, tuple(methods))} if path.startswith(CORS_PREFIX) else None
        routes.add(app, path, groups.get(path, "docs"), methods, _CLIENT, options)
    routes.add_others(app)
    return app


def _by_path(answers: Mapping[tuple[str, str], Handler]) -> dict[str, dict[str, Handler]]:
    by_path: dict[str, dict[str, Handler]] = {}
    for (path, method), answer in answers.items():
        by_path.setdefault(path, {})[method] = answer
    return by_path


# Handlers of single routes


async def _refuse_feature(feature: str, request: web.Request) -> web.StreamResponse:
    raise FeatureUnsupported(feature)


async def _refuse_family(deps: Deps, request: web.Request) -> web.StreamResponse:
    feature = unsupported_feature(request.path)
    assert feature is not None, "the route is of those paths only"
    with watched(request, deps, "rongcloud"):
        facts, _ = await auth.signed_caller(request.headers, deps, deps.now_ms())
    request[WHO] = {"app": facts.key}
    raise FeatureUnsupported(feature)


async def _lead_to(path: str, deps: Deps, request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": deps.options.public_path + path})


async def _probe(probe: Probe, aside: asyncio.Lock | None, deps: Deps, request: web.Request) -> web.StreamResponse:
    if aside is None:
        return probe(deps)
    async with aside:
        return await asyncio.to_thread(probe, deps)
