"""The OpenAPI document, put together from the tables of endpoints that the application itself is made of.

An endpoint that nothing here describes is an error when the document is made, so none can be served and left out. What a
schema says of a body comes from the type that the endpoint decodes it with; the text below an endpoint's heading is its own
docstring.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from gate import __version__
from gate.http import client, rongcloud, v1
from gate.http.client import websocket
from gate.http.context import APPLIED, PENDING_REASON, REVISION
from gate.http.endpoint import Endpoint, is_declaration
from gate.http.forms import FORM_TYPE
from gate.http.openapi import probes, shapes
from gate.http.openapi.components import fields_of, schemas_of
from gate.http.openapi.described import Described, Field
from gate.http.openapi.faults import Family, Fault, fault_schema, faults_of
from gate.http.openapi.user_api import DESCRIBED as USER
from gate.http.openapi.user_shapes import RongCloudProblem
from gate.http.openapi.v1_api import CLIENT, CONNECT, CONNECT_TEXT, PATH_FIELDS
from gate.http.requests import FormBody, Query
from gate.http.responses import JSON_TYPE, REQUEST_ID
from gate.http.rongcloud.unsupported import UNSUPPORTED
from gate.http.v1 import apps

Schema = dict[str, Any]

ABOUT = """\
May A message B? This is all of Gate's HTTP: RongCloud's user API under `/user/`, Gate's own under `/v1/`, what end users'
apps call under `/client/`, and the probes. Every answer carries `X-Request-Id`. A write is answered once it is effective.\
"""
_SIGNED: Schema = {"appKey": [], "nonce": [], "timestamp": [], "signature": []}
_SECURITY: dict[Family, list[Schema]] = {
    "user": [_SIGNED],
    "v1": [{"app": []}, _SIGNED],
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
_TAG_OF = {
    "check": "Checks", "explain": "Checks", "users": "Users", "tokens": "Users", "bans": "Bans and Mutes",
    "mutes": "Bans and Mutes", "blacklist": "Lists", "whitelist": "Lists", "whitelist-switch": "Lists",
    "presence": "Presence", "events": "Presence", "gateways": "Presence", "bulk": "Bulk and audit", "audit": "Bulk and audit",
}  # fmt: skip


class _Endpoint(NamedTuple):
    path: str
    method: str
    family: Family
    tag: str
    said: Described
    text: str


@cache
def openapi_document() -> Schema:
    """The whole document, made once; not to be changed."""
    endpoints = list(_endpoints())
    bodies = dict.fromkeys(one.said.body for one in endpoints if one.said.body is not None)
    answers = dict.fromkeys(one.said.answer for one in endpoints if not isinstance(one.said.answer, str | None))
    problems = (RongCloudProblem, shapes.Problem, shapes.TokenProblem, shapes.NotReady)
    own, components = schemas_of(bodies, [*answers, *problems])
    paths: Schema = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, own)
    paths |= {path: {"post": _not_offered(path, feature)} for path, feature in UNSUPPORTED.items()}
    faults = [
        *faults_of("user", (1009,)),
        *(fault for one in endpoints for fault in faults_of(one.family, one.said.faults)),
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gate", "version": __version__, "description": ABOUT, "license": _license()},
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


def _endpoints() -> Iterator[_Endpoint]:
    for path, endpoint in rongcloud.ENDPOINTS.items():
        yield _Endpoint(path, "POST", "user", "User API", USER[path], _said_by(endpoint))
    for (path, method), v1_one in v1.ENDPOINTS.items():
        tag = _TAG_OF[path.split("/")[2]]
        yield _Endpoint(path, method, "v1", tag, _declared(v1_one), _said_by(v1_one))
    for (path, method), (role, apps_one) in apps.ENDPOINTS.items():
        text = f"Takes the role `{role}`. {_said_by(apps_one)}"
        yield _Endpoint(path, method, "apps", "Apps", _declared(apps_one), text)
    for (path, method), client_one in client.ENDPOINTS.items():
        yield _Endpoint(path, method, "client", "Client", CLIENT[path, method], _said_by(client_one))
    yield _Endpoint(websocket.PATH, "GET", "client", "Client", CONNECT, " ".join(CONNECT_TEXT.split()))
    for path, (said, text) in probes.DESCRIBED.items():
        yield _Endpoint(path, "GET", "open", "Probes", said, text)


def _declared(endpoint: Endpoint[Any]) -> Described:
    takes, is_query = endpoint.takes, is_declaration(endpoint.takes) and issubclass(endpoint.takes, Query)
    is_form = is_query and issubclass(takes, FormBody)
    return Described(
        endpoint.summary,
        endpoint.answers if endpoint.content_type == JSON_TYPE else endpoint.content_type,
        None if is_query else takes,
        tuple(fields_of(takes)) if is_query and not is_form else (),
        tuple(fields_of(takes)) if is_form else None,
        endpoint.faults,
    )


def _said_by(endpoint: Callable[..., Any]) -> str:
    """The endpoint's docstring as one paragraph."""
    endpoint = endpoint.handler if isinstance(endpoint, Endpoint) else endpoint
    while isinstance(endpoint, partial):
        endpoint = endpoint.func
    return " ".join((inspect.getdoc(endpoint) or "").split())


def _operation(one: _Endpoint, own: dict[Any, Schema]) -> Schema:
    said = one.said
    path_fields = [PATH_FIELDS[name] for name in re.findall(r"{(\w+)}", one.path)]
    operation: Schema = {
        "operationId": _operation_id(one.method, one.path),
        "tags": [one.tag],
        "summary": said.summary,
        "description": one.text,
        "security": _SECURITY_OF_PATH.get(one.path, _SECURITY[one.family]),
        "parameters": [
            *(_parameter(field, "path") for field in path_fields),
            *(_parameter(field, "query") for field in said.query),
        ],
        "responses": {str(said.status): _good(one, own), **_faults(faults_of(one.family, said.faults))},
    }
    if said.form is not None:
        operation["requestBody"] = _form(said.form)
    elif said.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": own[said.body]}}}
    if one.path == "/readyz":
        not_ready = {"schema": own[shapes.NotReady]}
        operation["responses"]["503"] = {**_described("Not yet."), "content": {"application/json": not_ready}}
    return operation


def _operation_id(method: str, path: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path.removesuffix(".json"))
    return method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _parameter(field: Field, place: str) -> Schema:
    described: Schema = {"description": field.text} if field.text else {}
    if place == "query" and not field.is_required:
        described["allowEmptyValue"] = True  # it counts as absent
    return {"name": field.name, "in": place, "required": field.is_required, **described, "schema": field.schema}


def _form(fields: tuple[Field, ...]) -> Schema:
    members = {field.name: {**field.schema, **({"description": field.text} if field.text else {})} for field in fields}
    required = [field.name for field in fields if field.is_required]
    schema: Schema = {"type": "object", "properties": members}
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {FORM_TYPE: {"schema": schema}}}


def _faults(faults: Iterable[Fault]) -> Schema:
    return {str(fault.status): {"$ref": f"#/components/responses/{fault.name}"} for fault in faults}


def _good(one: _Endpoint, own: dict[Any, Schema]) -> Schema:
    headers: Schema = {REQUEST_ID: {"$ref": f"#/components/headers/{REQUEST_ID}"}}
    if "applied" in getattr(one.said.answer, "__struct_fields__", ()):
        headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in (REVISION, APPLIED, PENDING_REASON)}
    if one.said.answer is None:
        return {**_described("Good, and no longer HTTP."), "headers": headers}
    if isinstance(one.said.answer, str):
        return {**_described("Good."), "headers": headers, "content": {one.said.answer: {"schema": {"type": "string"}}}}
    return {
        **_described("Good."),
        "headers": headers,
        "content": {"application/json": {"schema": own[one.said.answer]}},
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
        "app": {"type": "http", "scheme": "basic", "description": "The App's key and secret."},
        "operator": {"type": "http", "scheme": "basic", "description": "An operator's name and password."},
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
