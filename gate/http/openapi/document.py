"""The OpenAPI document, put together from the tables of endpoints that the application itself is made of.

What a schema says of a request or an answer comes from the types of the endpoint's handler, by which the request is read; the
text below the heading is the handler's docstring. So none can be served and left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from gate import __version__
from gate.core.closing import ENDINGS
from gate.http import client, rongcloud, v1
from gate.http.app import healthz, metrics, readyz
from gate.http.auth import APP_HEADER
from gate.http.client import websocket
from gate.http.context import APPLIED, PENDING_REASON, REVISION
from gate.http.endpoint import Effective, EffectiveIfAny, Endpoint, plain_function
from gate.http.fields import APP_KEY
from gate.http.forms import FORM_TYPE, FormBody, Query
from gate.http.openapi.components import (
    RAW_ID,
    Family,
    Fault,
    Field,
    Problem,
    RongCloudProblem,
    TokenProblem,
    fault_schema,
    faults_of,
    fields_of,
    schemas_of,
)
from gate.http.responses import JSON_TYPE, REQUEST_ID
from gate.http.routing import UNSUPPORTED
from gate.http.v1 import apps
from gate.http.v1.app_keys import KEY_NAME

Schema = dict[str, Any]


# The probes and the two documents, which take no credentials and are no typed endpoints


class Alive(Struct, kw_only=True):
    """The process answers."""

    status: Literal["ok"]


class Ready(Struct, kw_only=True):
    """This node may get traffic."""

    ready: Literal[True]
    stale_ms: int | None
    warnings: list[str] | UnsetType = UNSET


class NotReady(Struct, kw_only=True):
    """What this node waits for."""

    ready: Literal[False]
    missing: list[str]


class Probe(NamedTuple):
    """One path: what it is, what it answers (a type, or the content type of a text), and the text below."""

    summary: str
    answers: Any
    text: str


# By path; the method is GET.
PROBES: Mapping[str, Probe] = {
    "/healthz": Probe("Is the process alive?", Alive, healthz.__doc__ or ""),
    "/readyz": Probe("Should this node get traffic?", Ready, readyz.__doc__ or ""),
    "/metrics": Probe("What Prometheus scrapes", "text/plain", metrics.__doc__ or ""),
    "/openapi.json": Probe("This document", dict[str, Any], "OpenAPI 3.1, the same on every node of a version."),
    "/docs": Probe("This document as a page", "text/html", "Needs no other host."),
}


ABOUT = """\
May A message B? This is all of Gate's HTTP: RongCloud's user API under `/user/`, Gate's own under `/v1/`, what end users'
apps call under `/client/`, and the probes. Every answer carries `X-Request-Id`. A write is answered once it is effective.\
"""
_SIGNED: Schema = {"appKey": [], "nonce": [], "timestamp": [], "signature": []}
# In OpenAPI a list of these is a choice, and the members of one are needed together.
_SECURITY: dict[Family, list[Schema]] = {
    "user": [_SIGNED],
    "v1": [{"app": []}, {"operator": [], "gateApp": []}],
    "apps": [{"operator": []}],
    "client": [{"token": []}],
    "open": [],
}
_SECURITY_OF_PATH: dict[str, list[Schema]] = {websocket.PATH: [{"token": []}, {"tokenInQuery": []}]}
_TAGS: dict[str, str] = {
    "User API": "RongCloud's Server API for users, compatible to the field. Forms in, JSON out.",
    "Checks": "Answered from this node's Replica; Redis is never asked.",
    "Users": "Registration, Tokens, profiles, and what is known of one User.",
    "Bans and Mutes": "With any end or none, a reason, and who did it.",
    "Lists": "Blacklists and Whitelists, and the switch between them.",
    "Presence": "Who is online, on what, through which Gateway; what changed since a cursor, and what changes. From Redis.",
    "Bulk and audit": "Many operations in one call; who did what to whom.",
    "Apps": "For operators.",
    "Client": "With a User's own Token.",
    "Probes": "No credentials.",
    "Not offered": "RongCloud has these and Gate does not: each is refused by name.",
}
# By the second part of the path. A family that is missing here fails every test of the document.
_TAG_OF = {
    "check": "Checks", "explain": "Checks", "users": "Users", "tokens": "Users", "bans": "Bans and Mutes",
    "mutes": "Bans and Mutes", "blacklist": "Lists", "whitelist": "Lists", "whitelist-switch": "Lists",
    "presence": "Presence", "events": "Presence", "gateways": "Presence", "bulk": "Bulk and audit", "audit": "Bulk and audit",
}  # fmt: skip


_CONNECT_TEXT = f"""\
A WebSocket handshake (RFC 6455, version 13). A client that may not connect is refused before the upgrade, by an ordinary
answer; one that reads `welcome` is online. Browsers, which can set no header here, offer the subprotocols `gate` and
`gate.token.TOKEN`; or `gate` alone, and send the Token as the first message; or give it as `token` in the query.
Messages and their answers are JSON in text frames: `docs/websocket.md` has them. Closed by Gate with one of these codes:
{", ".join(f"{ending.code} `{reason}`" for reason, ending in ENDINGS.items())}.\
"""
_PATH_PARAMETERS: dict[str, Schema] = {
    "user": {"schema": RAW_ID},
    "app": {"description": "The App's key.", "schema": {"type": "string", **APP_KEY}},
    "name": {"description": "The name of one of the App's keys.", "schema": {"type": "string", **KEY_NAME}},
}


class _Operation(NamedTuple):
    """One path and method. `answers` is a type, a tuple of types, a content type, or None for an upgrade (101)."""

    path: str
    method: str
    family: Family
    tag: str
    summary: str
    text: str
    answers: Any
    takes: Any = None
    faults: tuple[str | int, ...] = ()


@cache
def openapi_document() -> Schema:
    """The whole document, made once; not to be changed."""
    operations = list(_operations())
    # A dict as a set that keeps its order: the document is the same in each process.
    bodies = dict.fromkeys(one.takes for one in operations if one.takes is not None and not _has_fields(one.takes))
    answers = dict.fromkeys(one.answers for one in operations if not isinstance(one.answers, str | None))
    own, components = schemas_of(bodies, [*answers, RongCloudProblem, Problem, TokenProblem, NotReady])
    paths: Schema = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, own)
    # Described, since an SDK's user looks for them; the families of `FAMILIES` have no end and are not.
    paths |= {path: {"post": _not_offered(path, feature)} for path, feature in UNSUPPORTED.items()}
    faults = [
        *faults_of("user", (1009,)),
        *(fault for one in operations for fault in faults_of(one.family, one.faults)),
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gate", "version": __version__, "description": ABOUT, "license": _license()},
        # Relative, so that it holds behind any proxy that keeps the path.
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {fault.name: fault_schema(fault) for fault in faults},
            "securitySchemes": _schemes(),
            "headers": _shared_headers(),
        },
    }


def _operations() -> Iterator[_Operation]:
    for path, user_one in rongcloud.ENDPOINTS.items():
        yield _declared(path, "POST", "user", "User API", user_one)
    # Scope and role come from the tables that are enforced, so the text can't promise more.
    for (path, method), v1_one in v1.ENDPOINTS.items():
        operation = _declared(path, method, "v1", _TAG_OF[path.split("/")[2]], v1_one)
        role = v1.role_of(path, method)
        takes = f"Takes the scope `{'`, `'.join(v1_one.scopes)}`{f', or the role `{role}`' if role else ''}."
        yield operation._replace(text=f"{takes} {operation.text}")
    for (path, method), (role, apps_one) in apps.ENDPOINTS.items():
        operation = _declared(path, method, "apps", "Apps", apps_one)
        yield operation._replace(text=f"Takes the role `{role}`. {operation.text}")
    for (path, method), client_one in client.ENDPOINTS.items():
        yield _declared(path, method, "client", "Client", client_one)
    yield _Operation(
        websocket.PATH,
        "GET",
        "client",
        "Client",
        "Hold a Session over a WebSocket",
        " ".join(_CONNECT_TEXT.split()),
        None,
        websocket.ConnectQuery,
        ("upgrade-required", "too-many-sessions"),
    )
    for path, probe in PROBES.items():
        yield _Operation(path, "GET", "open", "Probes", probe.summary, probe.text, probe.answers)


def _declared(path: str, method: str, family: Family, tag: str, endpoint: Endpoint[Any]) -> _Operation:
    text = " ".join((inspect.getdoc(plain_function(endpoint.handler)) or "").split())
    answers = endpoint.answers if endpoint.content_type == JSON_TYPE else endpoint.content_type
    return _Operation(path, method, family, tag, endpoint.summary, text, answers, endpoint.takes, endpoint.faults)


def _has_fields(takes: Any) -> bool:
    """Whether it is a query string or a form, and not JSON."""
    return inspect.isclass(takes) and issubclass(takes, Query)


def _operation(one: _Operation, own: dict[Any, Schema]) -> Schema:
    is_form = _has_fields(one.takes) and issubclass(one.takes, FormBody)
    fields = fields_of(one.takes) if _has_fields(one.takes) else []
    status = "101" if one.answers is None else "200"
    operation: Schema = {
        "operationId": _operation_id(one.method, one.path),
        "tags": [one.tag],
        "summary": one.summary,
        "description": one.text,
        "security": _SECURITY_OF_PATH.get(one.path, _SECURITY[one.family]),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]}
                for name in re.findall(r"{(\w+)}", one.path)
            ),
            *([] if is_form else map(_parameter, fields)),
        ],
        "responses": {status: _good(one, own), **_faults(faults_of(one.family, one.faults))},
    }
    if is_form:
        operation["requestBody"] = _form(fields)
    elif one.takes is not None and not fields:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": own[one.takes]}}}
    # In the place of the family's 503, whose body is a `Problem`.
    if one.answers is Ready:
        not_ready = {"schema": own[NotReady]}
        operation["responses"]["503"] = {**_described("Not yet."), "content": {"application/json": not_ready}}
    return operation


def _operation_id(method: str, path: str) -> str:
    # Stable, and unique: generators of clients name functions by it.
    words = re.findall(r"[A-Za-z0-9]+", path.removesuffix(".json"))
    return method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _parameter(field: Field) -> Schema:
    described: Schema = {"description": field.text} if field.text else {}
    if not field.is_required:
        described["allowEmptyValue"] = True  # it counts as absent
    return {"name": field.name, "in": "query", "required": field.is_required, **described, "schema": field.schema}


def _form(fields: list[Field]) -> Schema:
    members = {field.name: {**field.schema, **({"description": field.text} if field.text else {})} for field in fields}
    # Absent if empty: JSON Schema allows an empty list only since draft 6, and tools differ.
    required = [field.name for field in fields if field.is_required]
    schema: Schema = {"type": "object", "properties": members}
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {FORM_TYPE: {"schema": schema}}}


def _faults(faults: Iterable[Fault]) -> Schema:
    return {str(fault.status): {"$ref": f"#/components/responses/{fault.name}"} for fault in faults}


def _good(one: _Operation, own: dict[Any, Schema]) -> Schema:
    headers: Schema = {REQUEST_ID: {"$ref": f"#/components/headers/{REQUEST_ID}"}}
    if inspect.isclass(one.answers) and issubclass(one.answers, Effective | EffectiveIfAny):
        # By the type of the answer: every write has one of these two as its base.
        headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in (REVISION, APPLIED, PENDING_REASON)}
    if one.answers is None:
        return {**_described("Good, and no longer HTTP."), "headers": headers}
    if isinstance(one.answers, str):
        return {**_described("Good."), "headers": headers, "content": {one.answers: {"schema": {"type": "string"}}}}
    return {
        **_described("Good."),
        "headers": headers,
        "content": {"application/json": {"schema": own[one.answers]}},
    }


def _described(text: str) -> Schema:
    return {"description": text}


def _not_offered(path: str, feature: str) -> Schema:
    return {
        "operationId": _operation_id("POST", path),
        "tags": ["Not offered"],
        "summary": f"Gate does not offer {feature}",
        "security": _SECURITY["user"],
        "responses": _faults(faults_of("user", (1009,))),
    }


def _schemes() -> Schema:
    def header(name: str, text: str) -> Schema:
        return {"type": "apiKey", "in": "header", "name": name, "description": text}

    return {
        "appKey": header("App-Key", "The App's key; `RC-App-Key` is another name."),
        "nonce": header("Nonce", "A random string; `RC-Nonce` is another name."),
        "timestamp": header("Timestamp", "Unix time in milliseconds or seconds; `RC-Timestamp` is another name."),
        "signature": header(
            "Signature", "The hex SHA-1 of secret + nonce + timestamp, in either case; `RC-Signature` is another name."
        ),
        "app": {
            "type": "http",
            "scheme": "basic",
            "description": "The App's key, and its secret or that of one of its keys.",
        },
        "operator": {"type": "http", "scheme": "basic", "description": "An operator's name and password."},
        "gateApp": header(APP_HEADER, "The key of the App that an operator's call is about."),
        "token": {"type": "http", "scheme": "bearer", "description": "A User's Token."},
        "tokenInQuery": {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "A User's Token, from browsers that open a WebSocket. It is never logged here.",
        },
    }


def _shared_headers() -> Schema:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 1}
    return {
        REQUEST_ID: {"schema": text, "description": "The request's own, or one that was made up."},
        REVISION: {"schema": text, "description": "With a write: where it stands."},
        APPLIED: {
            "schema": {"type": "string", "enum": ["all", "node", "pending"]},
            "description": "With a write: how far it got before this was answered.",
        },
        PENDING_REASON: {"schema": text, "description": "Where a write is pending for its durability: which, and why."},
        "Retry-After": {"schema": whole, "description": "Seconds."},
    }


def _license() -> Schema:
    return {"name": "Apache-2.0", "identifier": "Apache-2.0"}
