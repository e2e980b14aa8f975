"""A JSON Schema in a few words, for the page, and a value that fits it, for its examples."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup, escape

Schema = dict[str, Any]

_MOST_NAMED = 12
"""Values of an enumeration that are named; a longer one is named by its first."""

_BOUNDS = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", ""))


def told(schema: Schema) -> Markup:
    """The type with its bounds; a named one is a link to its place on the page."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{0}">{0}</a>').format(name)
    return _kind(schema) + _bounds(schema)


def example_of(document: Schema, schema: Schema) -> Any:
    """A value that the schema allows, as small as may be: required members only."""
    if "$ref" in schema:
        return example_of(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "examples" in schema:
        return schema["examples"][0]
    for one in ("anyOf", "oneOf"):
        if one in schema and "properties" not in schema:
            return example_of(document, schema[one][0])
    return _made(document, schema)


def _made(document: Schema, schema: Schema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: example_of(document, schema["properties"][name]) for name in _needed(schema)}
    if kind == "array":
        return [example_of(document, schema["items"])]
    if kind == "boolean":
        return True
    if isinstance(kind, list):
        kind = kind[0]
    return schema.get("default", schema.get("minimum", 1)) if kind == "integer" else "text"


def _needed(schema: Schema) -> list[str]:
    """The required members, and one of those of which one is required."""
    needed = list(schema.get("required", ()))
    choices = [one["required"][0] for name in ("oneOf", "anyOf") for one in schema.get(name, ()) if "required" in one]
    if choices:
        needed.append("seconds" if "seconds" in choices else choices[0])
    return needed


def _kind(schema: Schema) -> Markup:
    if "enum" in schema:
        named = schema["enum"][:_MOST_NAMED]
        more = " …" if len(schema["enum"]) > len(named) else ""
        return Markup(" | ").join(Markup("<code>{}</code>").format(one) for one in named) + more
    choices = schema.get("anyOf")
    if choices and "properties" not in schema:
        return Markup(" or ").join(map(told, choices))
    kind = schema.get("type", "any")
    if kind == "array":
        return Markup("array of ") + told(schema["items"])
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return Markup("map to ") + told(schema["additionalProperties"])
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _bounds(schema: Schema) -> Markup:
    said = []
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", ""),
    ):
        if most in schema:
            said.append(f"{schema.get(least, 0):,} to {schema[most]:,}{unit}")
        elif least in schema:
            said.append(f"{schema[least]:,} or more{unit}")
    if schema.get("default") not in (None, ""):
        said.append(f"default {json.dumps(schema['default'])}")
    return escape("".join(f", {one}" for one in said))
