"""The schemas of the document: `msgspec` types as JSON Schema, with their bounds, and an id as one schema of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gate.http.openapi.bounds import ANY, OF_MEMBER, OF_TYPE, TEXT_ID
from gate.http.v1.fields import Base64Id

Schema = dict[str, Any]

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


def schemas_of(bodies: Iterable[Any], answers: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """Each type's own schema, and the components that those refer to. Bodies are bounded, answers are not.

    A tuple of types stands for any one of them, as `msgspec` knows no unions of plain structs.
    """
    asked, told = list(bodies), list(answers)
    bounded, all_types = _flat(asked), _flat([*asked, *told])
    found, components = msgspec.json.schema_components([*all_types, Base64Id], ref_template=_REFERENCE)
    _, of_bodies = msgspec.json.schema_components([*bounded, Base64Id], ref_template=_REFERENCE)
    named: dict[str, Schema] = {name: _plain(schema) for name, schema in sorted(components.items())}
    for name in of_bodies:
        named[name] = _bounded(name, named[name])
    named[ID] = _ID_SCHEMA
    own = {kind: _plain(schema) for kind, schema in zip(all_types, found, strict=False)}
    own |= {many: {"anyOf": [own[one] for one in many]} for many in [*asked, *told] if isinstance(many, tuple)}
    return own, named


def _flat(types: Iterable[Any]) -> list[Any]:
    return [one for some in types for one in (some if isinstance(some, tuple) else (some,))]


def _plain(schema: Any) -> Any:
    """The schema with ids by their own name, a null that is one type among others as such, and nothing said twice."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema and {"anyOf": schema["anyOf"]} == _BARE_ID:
        return dict(_ID_REFERENCE)
    kept = {name: _plain(one) for name, one in schema.items() if not (name == "default" and one is None)}
    choices = kept.get("anyOf")
    if isinstance(choices, list) and all(set(one) == {"type"} for one in choices):
        del kept["anyOf"]
        kept["type"] = [one["type"] for one in choices]
    return kept


def _bounded(name: str, schema: Schema) -> Schema:
    members: Schema = {
        member: _with_bound(said, OF_MEMBER.get((name, member)) or OF_MEMBER.get((ANY, member)))
        for member, said in schema.get("properties", {}).items()
    }
    return {**schema, "properties": members, **OF_TYPE.get(name, {})}


def _with_bound(said: Schema, bound: Schema | None) -> Schema:
    if bound is None:
        return said
    # A narrower kind of id stands for the id as a whole; any other bound adds to what the type says.
    return dict(bound) if said == _ID_REFERENCE else {**said, **{k: v for k, v in bound.items() if k != "type"}}
