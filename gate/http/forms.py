"""Form bodies and query strings: bytes in, checked values out; no I/O.

Decoding is exact and lenient where senders are: fields may come in any order and repeat, unknown ones are ignored, `+`
is a space, and a `%` that escapes nothing stays, because one official SDK sends its values unescaped. Values stay bytes
until an endpoint asks for text, so that what is not UTF-8 is refused by the name of its parameter rather than guessed
at. Every refusal is an `InvalidInput` whose `problem` reads on after "The parameter X ".
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from gate.core.ids import MAX_ID_BYTES
from gate.errors import InvalidInput
from gate.http.options import MAX_FIELDS

FORM_TYPE = "application/x-www-form-urlencoded"

_SHOWN_CHARS = 80
"""How much of a wrong value an error repeats."""


class TooLong(InvalidInput):
    """A value or a body is longer than its limit (RongCloud has a code of its own for this)."""


class WrongContentType(InvalidInput):
    """The body is not declared as what this endpoint reads."""


class Form:
    """The fields of one request, asked for by name. `fields` has every field with its values, in the order sent."""

    __slots__ = ("fields",)

    def __init__(self, raw: bytes) -> None:
        """Decode a body or a query string. Raises `InvalidInput` past `MAX_FIELDS`."""
        self.fields: dict[str, list[bytes]] = {}
        parts = raw.split(b"&", MAX_FIELDS)
        if len(parts) > MAX_FIELDS:
            raise InvalidInput("body", f"must hold at most {MAX_FIELDS} fields")
        is_escaped = b"%" in raw or b"+" in raw
        for part in parts:
            if part:
                name, _, value = part.partition(b"=")
                if is_escaped:
                    name, value = _decoded(name), _decoded(value)
                self.fields.setdefault(name.decode("utf-8", "replace"), []).append(value)

    def one(self, name: str) -> bytes | None:
        """The value of a field that may come once, or None where it is absent or empty."""
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise InvalidInput(name, f"must be given once, {len(values)} were sent")
        return values[0] if values and values[0] else None

    def has(self, name: str) -> bool:
        """Whether the field was sent, be it empty."""
        return name in self.fields

    def text(self, name: str) -> str | None:
        """As `one`, as UTF-8."""
        value = self.one(name)
        return None if value is None else _utf8(name, value)

    def user(self, name: str) -> bytes:
        """One User id in UTF-8, required."""
        value = self.one(name)
        if value is None:
            raise InvalidInput(name, "is required")
        return _id(name, value, is_text=True)

    def raw_user(self, name: str) -> bytes:
        """One User id of any bytes, required."""
        value = self.one(name)
        if value is None:
            raise InvalidInput(name, "is required")
        return _id(name, value)

    def users(self, name: str, most: int, is_joined: bool = False) -> list[bytes]:
        """One to `most` User ids in UTF-8, a field each; repeated ids are taken once.

        `is_joined`: a field may also hold several ids with commas between them, as some SDKs send them.
        """
        values = self.fields.get(name, [])
        if is_joined:
            values = [part for value in values for part in value.split(b",") if part]
        if not values or values == [b""]:
            raise InvalidInput(name, "is required")
        if len(values) > most:
            raise InvalidInput(name, f"must be given 1 to {most} times, {len(values)} were sent")
        return list(dict.fromkeys(_id(name, value, is_text=True) for value in values))

    def raw_users(self, name: str, most: int) -> list[bytes]:
        """Up to `most` User ids of any bytes, a field each; repeated ids are taken once."""
        values = [value for value in self.fields.get(name, ()) if value]
        if len(values) > most:
            raise InvalidInput(name, f"must be given at most {most} times, {len(values)} were sent")
        return list(dict.fromkeys(_id(name, value) for value in values))

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within bounds; required unless there is a default."""
        value = self.one(name)
        if value is None:
            if default is None:
                raise InvalidInput(name, "is required")
            return default
        if not value.isdigit() or len(value) > len(str(most)) or not least <= int(value) <= most:
            raise InvalidInput(name, f"must be a whole number from {least} to {most}, {shown_value(value)} was sent")
        return int(value)


def shown_value(value: bytes) -> str:
    """A wrong value, quoted and cut, for an error's text."""
    text = value.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _decoded(raw: bytes) -> bytes:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw) if b"%" in raw else raw


def _utf8(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as fault:
        raise InvalidInput(name, f"must be UTF-8, byte {fault.start} is not") from None


def _id(name: str, value: bytes, is_text: bool = False) -> bytes:
    if is_text and not value.isascii():
        _utf8(name, value)
    if len(value) > MAX_ID_BYTES:
        raise TooLong(name, f"must be 1 to {MAX_ID_BYTES} bytes, {len(value)} were sent")
    if not value:
        raise InvalidInput(name, f"must be 1 to {MAX_ID_BYTES} bytes, 0 were sent")
    return value
