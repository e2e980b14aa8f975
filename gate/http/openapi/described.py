"""What the document says of an endpoint beyond its path and method: a few words, what it takes, what it answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from gate.http.openapi.bounds import TEXT_ID
from gate.http.openapi.components import Field

Schema = dict[str, object]

RAW_ID: Schema = {**TEXT_ID, "description": "1 to 64 bytes of any kind, percent-encoded."}
CURSOR_TEXT = "The `next` of an earlier answer."


class Described(NamedTuple):
    """One endpoint. A tuple of types means any one of them, None a good answer without a body, whose status is `status`.

    `faults` are the words or codes that not all of its family have.
    """

    summary: str
    answer: Any
    body: Any = None
    query: tuple[Field, ...] = ()
    form: tuple[Field, ...] | None = None
    faults: tuple[str | int, ...] = ()
    status: int = 200


def whole(name: str, least: int, most: int, default: int | None = None, text: str = "") -> Field:
    """A whole number, required unless there is a default."""
    schema: Schema = {"type": "integer", "minimum": least, "maximum": most}
    if default is None:
        return Field(name, {**schema, "examples": [max(least, min(most, 60))]}, text, True)
    return Field(name, {**schema, "default": default}, text)


def text_field(name: str, text: str = "", **schema: object) -> Field:
    """Text that may be left out."""
    return Field(name, {"type": "string", **schema}, text)


def one_id(name: str, text: str = "", schema: Schema = TEXT_ID, *, is_required: bool = True) -> Field:
    """One User. Where none need be named, an empty one names none."""
    return Field(name, schema if is_required else {**schema, "minLength": 0}, text, is_required)


def ids(
    name: str, most: int, text: str = "", example: str = "alice", schema: Schema = TEXT_ID, *, is_required: bool = True
) -> Field:
    """One to `most` Users, a field each."""
    items = {**schema, "examples": [example]}
    many: Schema = {"type": "array", "items": items, "minItems": 1, "maxItems": most, "examples": [[example]]}
    return Field(name, many, text or f"1 to {most:,} Users, a field each.", is_required)


def joined_ids(name: str, most: int) -> Field:
    """One to `most` Users, a field each or with commas between them."""
    item: Schema = {"type": "string", "format": "user-ids", "minLength": 1, "examples": ["alice"]}
    many: Schema = {"type": "array", "items": item, "minItems": 1, "maxItems": most, "examples": [["alice"]]}
    return Field(name, many, f"1 to {most:,} Users, a field each, or several in one with commas between them.", True)


__all__ = ["Field"]
