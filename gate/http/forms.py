"""Form bodies and query strings: bytes in, checked values out. And the declarations by which endpoints read them.

Decoding is exact and lenient where senders are: fields may come in any order and repeat, unknown ones are ignored, `+`
is a space, and a `%` that escapes nothing stays, because one official SDK sends its values unescaped. Values stay bytes
until an endpoint asks for text, so that what is not UTF-8 is refused by the name of its parameter rather than guessed
at. Every refusal is an `InvalidInput` whose `problem` reads on after "The parameter X ".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union, get_args, get_origin
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct, UnsetType
from msgspec.structs import FieldInfo

from gate.core.ids import MAX_ID_BYTES
from gate.errors import InvalidInput
from gate.http.bodies import MAX_FORM_BYTES, TooLong, read_body
from gate.http.options import MAX_FIELDS

if TYPE_CHECKING:
    from gate.http.context import RequestContext

FORM_TYPE = "application/x-www-form-urlencoded"

_SHOWN_CHARS = 80
"""How much of a wrong value an error repeats."""


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
        # Nearly always none of them needs a look of its own.
        if not (all(values) and max(map(len, values)) <= MAX_ID_BYTES and all(map(bytes.isascii, values))):
            for value in values:
                _id(name, value, is_text=True)
        return list(dict.fromkeys(values))

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


# By declaration: see `gate.http.requests`

Handle = Callable[[Any, Any], Awaitable[Any]]
"""The handler of an endpoint: takes the request and what was read of it."""
Read = Callable[[Form], Any]
"""Takes one field of a form. Raises `InvalidInput`."""

JOINED = {"joined": True}
"""`extra` of ids that may also come several in one field, with commas between them."""


class Declared(Struct, frozen=True):
    """What an endpoint takes, as the type of its handler's second argument."""

    @classmethod
    async def run(cls, handler: Handle, call: RequestContext) -> Any:
        """Read the request, and run the handler. Raises `InvalidInput`."""
        raise NotImplementedError


class Query(Declared, frozen=True):
    """The fields of a query string."""

    @classmethod
    def read(cls, form: Form) -> Self:
        """The declared fields of this form. Raises `InvalidInput` for the first that is wrong."""
        return cls(**{name: read(form) for name, read in _reads_of(cls)})

    @classmethod
    async def run(cls, handler: Handle, call: RequestContext) -> Any:
        """Read the query string, and run the handler."""
        return await handler(call, cls.read(call.query()))


class FormBody(Query, frozen=True):
    """The fields of a body of the type `application/x-www-form-urlencoded`. Ids must be UTF-8.

    An empty body is an empty form, whatever it is declared as.
    """

    @classmethod
    async def run(cls, handler: Handle, call: RequestContext) -> Any:
        """Read the body, and run the handler."""
        body = await read_body(call.request, call.deps.bodies, call.payer, MAX_FORM_BYTES, FORM_TYPE)
        return await handler(call, cls.read(Form(body)))


@cache
def _reads_of(declared: type[Query]) -> list[tuple[str, Read]]:
    is_text = issubclass(declared, FormBody)
    fields = msgspec.structs.fields(declared)
    return [(one.name, _read(one, is_text)) for one in fields]


def kinds_of(declared: Any) -> tuple[Any, Meta | None]:
    """The type without its bounds, without null and without "absent"; and its bounds."""
    meta = None
    if get_origin(declared) is Annotated:
        meta = _merged([one for one in declared.__metadata__ if isinstance(one, Meta)])
        declared = declared.__origin__
    if get_origin(declared) in (Union, UnionType):
        kept = [one for one in get_args(declared) if one not in (type(None), UnsetType)]
        if len(kept) == 1:
            kind, own = kinds_of(kept[0])
            return kind, own or meta
    return declared, meta


def _merged(metas: Sequence[Meta]) -> Meta:
    """The bounds of a type that narrows another one."""
    names = ("ge", "le", "min_length", "max_length", "description", "extra")
    return Meta(**{name: getattr(one, name) for one in metas for name in names if getattr(one, name) is not None})


def _read(field: FieldInfo, is_text: bool) -> Read:
    """What reads one field of a form (`is_text`: ids must be UTF-8) or of a query string."""
    kind, meta = kinds_of(field.type)
    name, default = field.encode_name, None if field.required else field.default
    if kind is bytes:
        read = _checked(partial(Form.user if is_text else Form.raw_user, name=name), name, meta)
        return read if field.required else lambda form: default if form.one(name) is None else read(form)
    if get_origin(kind) is list:
        assert meta is not None and meta.max_length is not None, "an array has an upper bound"
        _, of_items = kinds_of(get_args(kind)[0])
        if not is_text:
            return partial(Form.raw_users, name=name, most=meta.max_length)
        is_joined = of_items is not None and of_items.extra == JOINED
        return partial(Form.users, name=name, most=meta.max_length, is_joined=is_joined)
    if kind is int:
        assert meta is not None and meta.le is not None, "a number has bounds"
        return partial(Form.whole, name=name, least=int(meta.ge or 0), most=int(meta.le), default=default)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if isinstance(choices[0], int):
            return partial(Form.whole, name=name, least=min(choices), most=max(choices), default=default)
        return _read_choice(choices, name, default, meta)
    most = meta and meta.max_length
    if most is not None:
        return lambda form: default if (value := form.text(name)) is None else _bounded(value, name, most)
    return _checked(lambda form: default if (value := form.text(name)) is None else value, name, meta)


def _bounded(value: str, name: str, most: int) -> str:
    if len(value) > most:
        raise InvalidInput(name, f"must be at most {most} characters, {len(value)} were sent")
    return value


def _read_choice(choices: tuple[str, ...], name: str, default: Any, meta: Meta | None) -> Read:
    must = (meta and meta.extra and meta.extra.get("must")) or f"must be one of {', '.join(choices)}"

    def read(form: Form) -> str:
        value = form.text(name) or default
        if value not in choices:
            raise InvalidInput(name, must)
        return value

    return read


def _checked(read: Read, name: str, meta: Meta | None) -> Read:
    check = ((meta and meta.extra) or {}).get("check")
    if check is None:
        return read

    def checked(form: Form) -> Any:
        value = read(form)
        if value is not None:
            try:
                check(value)
            except InvalidInput as fault:
                raise renamed(fault, name) from None
        return value

    return checked


def renamed(fault: InvalidInput, name: str) -> InvalidInput:
    """The same mistake, of the parameter or the member with this name."""
    return type(fault)(name, fault.problem)
