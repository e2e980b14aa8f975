"""The schemas of the document: `msgspec` types as JSON Schema, with one schema for a User id wherever it stands."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec.structs import FieldInfo

from gate.core.ids import MAX_ID_BYTES
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
_BYTES = "contentEncoding"
"""The mark that `msgspec` puts on `bytes`, which are an id in every request."""


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
    found, components = msgspec.json.schema_components([*types, Base64Id], ref_template=_REFERENCE)
    named: dict[str, Schema] = {name: _plain(schema, _ID_REFERENCE) for name, schema in sorted(components.items())}
    named["Base64Id"] = components["Base64Id"]
    named[ID] = _ID_SCHEMA
    taken = [one for some in bodies for one in (some if isinstance(some, tuple) else (some,))]
    for kind in set[Any]().union(*map(_declarations_in, taken)):
        whole = named[kind.__name__]
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
    if "format" in own or "pattern" in own:  # a narrower kind of id
        return {"type": "string", **own}
    return {**an_id, **{name: value for name, value in own.items() if name != "description"}}
