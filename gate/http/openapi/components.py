"""What the document refers to by name: schemas, and the answers of requests that went wrong.

Schemas are `msgspec` types as JSON Schema, with one schema for a User id wherever it stands. The answers are by family and HTTP
status, from the tables that word them (`gate.http.errors`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import FieldInfo

from gate.core.ids import MAX_ID_BYTES
from gate.core.scopes import Scope
from gate.http.errors import CODES, SESSIONS_FULL, TOKEN_FAULTS, WORDS
from gate.http.fields import TEXT_ID, Base64Id
from gate.http.forms import FormBody, Query, kinds_of

Schema = dict[str, Any]

RAW_ID: Schema = {**TEXT_ID, "description": f"1 to {MAX_ID_BYTES} bytes of any kind, percent-encoded."}
ID = "UserId"
_REFERENCE = "#/components/schemas/{name}"
_ID_REFERENCE = {"$ref": _REFERENCE.format(name=ID)}
_ID_SCHEMA: Schema = {
    "title": ID,
    "description": "A User's id: a string, or its bytes in base64 where it is not UTF-8.",
    "anyOf": [TEXT_ID, {"$ref": _REFERENCE.format(name="Base64Id")}],
    "examples": ["alice"],
}
_BARE_ID = {"anyOf": [{"type": "string"}, {"$ref": _REFERENCE.format(name="Base64Id")}]}
# The mark that `msgspec` puts on `bytes`, which are an id in every request.
_BYTES = "contentEncoding"


class Field(NamedTuple):
    """One field of a query string or of a form."""

    name: str
    schema: Schema
    text: str = ""
    is_required: bool = False


def schemas_of(bodies: Iterable[Any], answers: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """Each type's own schema, and the components that those refer to.

    A tuple of types stands for any one of them, as `msgspec` knows no unions of plain structs.
    """
    bodies = list(bodies)
    every = [*bodies, *answers]
    types = [one for some in every for one in (some if isinstance(some, tuple) else (some,))]
    # `Base64Id` is named by itself, since `_plain` takes it out of every other schema.
    found, components = msgspec.json.schema_components([*types, Base64Id], ref_template=_REFERENCE)
    named: dict[str, Schema] = {name: _plain(schema, _ID_REFERENCE) for name, schema in sorted(components.items())}
    named["Base64Id"] = components["Base64Id"]
    named[ID] = _ID_SCHEMA
    taken = [one for some in bodies for one in (some if isinstance(some, tuple) else (some,))]
    for kind in set[Any]().union(*map(_declarations_in, taken)):
        whole = named[kind.__name__]
        # What no type can say, such as that of two members only one may be given.
        whole |= getattr(kind, "SCHEMA", {})
        for member in whole["properties"].values():
            member.pop("uniqueItems", None)  # in a set that is sent, items that repeat are taken once
    own = {kind: _plain(schema, _ID_REFERENCE) for kind, schema in zip(types, found, strict=False)}
    own |= {many: {"anyOf": [own[one] for one in many]} for many in every if isinstance(many, tuple)}
    return own, named


def fields_of(declared: type[Query]) -> list[Field]:
    """The fields of a query string or of a form."""
    _, components = msgspec.json.schema_components([declared], ref_template=_REFERENCE)
    form = issubclass(declared, FormBody)
    members = _plain(components[declared.__name__], TEXT_ID if form else RAW_ID)["properties"]
    return [_field(one, members[one.encode_name]) for one in msgspec.structs.fields(declared)]


def _field(field: FieldInfo, schema: Schema) -> Field:
    _, meta = kinds_of(field.type)
    text = (meta and meta.description) or ""
    # In a query or a form the text stands next to the schema.
    if schema.get("description") == text:
        del schema["description"]
    if isinstance(schema.get("type"), list):  # null is a field that is left out
        schema["type"] = next(one for one in schema["type"] if one != "null")
    if "enum" in schema:
        schema = {"type": "integer" if isinstance(schema["enum"][0], int) else "string", **schema}
    if schema.get("default") == []:
        del schema["default"]
    if not field.required and schema.get("format") == TEXT_ID["format"]:
        schema["minLength"] = 0  # an empty one names no User
    if schema.get("type") == "array" and not text:
        text = f"1 to {schema['maxItems']:,} Users, a field each."
    return Field(field.encode_name, schema, text, field.required)


def _declarations_in(kind: Any) -> set[type[msgspec.Struct]]:
    """The structs in a type."""
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return {kind}.union(*(_declarations_in(one.type) for one in msgspec.structs.fields(kind)))
    return set[type[msgspec.Struct]]().union(*map(_declarations_in, get_args(kind)))


def _plain(schema: Any, an_id: Schema) -> Any:
    """The schema without repetition: ids by their own schema, a null as one type among others."""
    if isinstance(schema, list):
        return [_plain(one, an_id) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Compared as a whole: `msgspec` inlines the union of an id wherever it stands.
    if "anyOf" in schema and {"anyOf": schema["anyOf"]} == _BARE_ID:
        return dict(_ID_REFERENCE)
    kept = {name: _plain(one, an_id) for name, one in schema.items() if not (name == "default" and one is None)}
    if _BYTES in kept:
        return _id_schema(kept, an_id)
    choices = kept.get("anyOf")
    if isinstance(choices, list) and all("type" in one for one in choices) and {"type": "null"} in choices:
        del kept["anyOf"]
        kinds = [one["type"] for one in choices]
        for one in choices:
            kept |= one
        kept["type"] = kinds
    return kept


def _id_schema(schema: Schema, an_id: Schema) -> Schema:
    own = {name: value for name, value in schema.items() if name not in (_BYTES, "type")}
    # Only the wider one may come in base64.
    if "format" in own or "pattern" in own:  # a narrower kind of id
        return {"type": "string", **own}
    return {**an_id, **{name: value for name, value in own.items() if name != "description"}}


# Requests that went wrong

Family = Literal["user", "v1", "apps", "client", "open"]
# A test compares these two tables with those of `errors`, in both directions.
WORD_MEANINGS: Mapping[str, str] = {
    "invalid": "a parameter is missing or wrong",
    "too-long": "a value or the body is longer than its limit",
    "body-encoded": "the body is compressed; send it as it is",
    "unauthorized": "the credentials are missing or wrong; the answer does not say which",
    "user-limit": "the App has as many registered Users as it may",
    "forbidden": "the operator's role does not suffice, or a scope is missing: `scope` names it, `key` the App's key",
    "list-full": "the list would pass its ceiling; nothing was added",
    "refused": "the state forbids it",
    "rate-limited": "more calls a second than the App's `rate_limits` allow",
    "too-many-tries": "an operator's password was wrong too often",
    "cursor-gone": "the feed can't be read on from this cursor; read the state again",
    "too-many-streams": "the App has as many event streams open in this HTTP process as it may",
    "upgrade-required": "this was no WebSocket handshake, and nothing else is answered here",
    "too-many-sessions": "the User has as many Sessions as there may be",
    "not-found": "no such endpoint, or no such thing",
    "method-not-allowed": "`Allow` lists the methods that are",
    "stale": "the facts here are too old for this question",
    "unavailable": "Redis or the Replica is away",
    "internal": "a bug; the log has it under the request's id",
    "token-malformed": "it is no Token, or not all of one",
    "token-forged": "no secret of the App signed the Token",
    "token-expired": "the Token's time is over",
    "token-revoked": "the Token was minted before a revocation",
    "app-unknown": "the Token's App is not served",
    "user-banned": "until `until`",
    "user-deactivated": "the User is deactivated",
}
CODE_MEANINGS: Mapping[int, str] = {
    1000: "Redis or the Replica is away, or a bug",
    1002: "a parameter is missing or wrong, no App has this key, or the state forbids it; the text says which",
    1004: "the signature is wrong",
    1005: "a value or the body is too long",
    1007: "only development Apps may do this",
    1008: "more calls a second than the App's `rate_limits` allow",
    1009: "RongCloud has this feature and Gate does not; the text names it",
    2007: "the App has as many registered Users as it may",
    404: "no such endpoint",
    405: "`Allow` lists the methods that are",
}

_EVERYWHERE: Mapping[Family, tuple[int, ...]] = {
    "user": (400, 401, 413, 415, 429, 500, 503),
    "v1": (400, 401, 403, 404, 413, 415, 429, 500, 503),
    "apps": (400, 401, 403, 413, 415, 429, 500, 503),
    "client": (400, 401, 403, 413, 415, 429, 500, 503),
    "open": (415, 500),
}
# Words that only some endpoints answer; these name them (`Endpoint.faults`).
_OF_OPERATORS = {"too-many-tries"}
_OF_APPS = {"rate-limited", "user-limit", "too-many-streams"}
_OF_STREAMS = {"too-many-streams"}
_WITH_RETRY = (429, 503)
_NO_HANDSHAKE = 426
_CHALLENGES = {"v1": "Basic", "apps": "Basic", "client": "Bearer"}


class Problem(Struct, kw_only=True):
    """What is wrong: a stable word for programs, a text for people."""

    error: str
    message: str
    parameter: str | UnsetType = UNSET
    outcome: Literal["unknown"] | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET
    key: str | UnsetType = UNSET


class TokenProblem(Problem, kw_only=True):
    """As `Problem`; `until` with `user-banned`, null for a Ban without end."""

    until: int | UnsetType | None = UNSET


class RongCloudProblem(Struct, kw_only=True):
    """How `/user/*` says what is wrong."""

    code: int
    errorMessage: str
    url: str
    outcome: Literal["unknown"] | UnsetType = UNSET


class Fault(NamedTuple):
    """One way to be refused: a status, and the words or codes that it may come with there."""

    family: Family
    status: int
    reasons: tuple[str | int, ...]

    @property
    def name(self) -> str:
        """What the document calls it."""
        return "-".join(map(str, (self.family, self.status, *self.reasons)))


def faults_of(family: Family, more: Iterable[str | int] = ()) -> list[Fault]:
    """Every refusal that an endpoint of this family may answer, with `more` words or codes that not all of them do."""
    reasons = {status: _reasons(family, status) for status in _EVERYWHERE[family]}
    for reason in more:
        for status, its_reason in _table(family):
            if its_reason == reason and reason not in reasons.get(status, ()):
                reasons[status] = list(dict.fromkeys([*reasons.get(status, ()), reason]))
    return [Fault(family, status, tuple(some)) for status, some in sorted(reasons.items())]


def fault_schema(fault: Fault) -> Schema:
    """One refusal, as the document holds it."""
    is_user = fault.family == "user"
    shape = "RongCloudProblem" if is_user else "TokenProblem" if fault.family == "client" else "Problem"
    schema = _narrowed(shape, "code" if is_user else "error", fault.reasons)
    return {
        "description": ". ".join(f"`{reason}`: {_meaning(reason)}" for reason in fault.reasons) + ".",
        "headers": _headers(fault),
        "content": {"application/json": {"schema": schema}},
    }


def _table(family: Family) -> list[tuple[int, str | int]]:
    if family == "user":
        return [(status, code) for _, status, code in CODES]
    return [*((status, word) for _, status, word in WORDS), SESSIONS_FULL]


def _reasons(family: Family, status: int) -> list[str | int]:
    if family == "user":
        return list(dict.fromkeys(code for _, its_status, code in CODES if its_status == status))
    words = [word for _, its_status, word in WORDS if its_status == status]
    if family == "client":
        words += [word for its_status, word in TOKEN_FAULTS.values() if its_status == status]
    of_others = _OF_APPS if family == "apps" else _OF_STREAMS | {"user-limit"}
    if family == "client":
        of_others = of_others | _OF_OPERATORS | {"forbidden"}
    # In the order of the table, each once: the document is the same in each process.
    return list(dict.fromkeys(word for word in words if word not in of_others))


def _meaning(reason: str | int) -> str:
    return CODE_MEANINGS[reason] if isinstance(reason, int) else WORD_MEANINGS[reason]


def _narrowed(shape: str, member: str, values: Iterable[str | int]) -> Schema:
    return {
        "allOf": [{"$ref": f"#/components/schemas/{shape}"}],
        "properties": {member: {"enum": list(values)}},
    }


def _headers(fault: Fault) -> Schema:
    family, status, _ = fault
    headers: Schema = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    if status in _WITH_RETRY:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    if status == _NO_HANDSHAKE:
        headers["Upgrade"] = {"schema": {"type": "string", "const": "websocket"}}
    if status == 401 and family in _CHALLENGES:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "description": f"`{_CHALLENGES[family]} …`"}
    return headers
