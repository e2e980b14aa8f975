"""Requests by declaration: a `msgspec.Struct` says what an endpoint takes, and this reads and checks a request by it.

    class Imposing(Body):
        users: Annotated[list[bytes], Meta(min_length=1, max_length=1_000)]
        reason: Annotated[str, Meta(max_length=512)] = ""

A declaration is a `Body` (JSON), a `Query` (a query string) or a `FormBody`; the last two are in `gate.http.forms`.
`/openapi.json` is generated from the same one, so each bound is written once:

- `bytes` is a User id, and `list[bytes]` several: ids that repeat are taken once.
- The bounds of `Meta` (`ge`, `le`, `min_length`, `max_length`) are checked here. `extra={"must": …}` words the mistake.
- `extra={"check": …}` is a function that raises `InvalidInput` if the value is wrong.
- `extra_json_schema` is for the document only: `mistakes`, or the handler, checks what it says.

`msgspec` checks the form of a JSON body (types, missing and unknown members) and stops at the first mistake. All other mistakes
of a body are named at once. Those of a query string or a form are named one at a time, in the order of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import FieldInfo

from gate.errors import InvalidInput
from gate.http.context import RequestContext
from gate.http.fields import IdJson, id_bytes, ids_bytes
from gate.http.forms import Declared, Handle, kinds_of, renamed

Schema = Mapping[str, object]
T = TypeVar("T")
B = TypeVar("B", bound="Body")
Convert = Callable[[Any, str, list[InvalidInput]], Any]
"""Takes a value, the name of its member and the mistakes so far. Adds mistakes, and returns the value that the handler gets."""

_AT_PATH = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


class Body(Declared, frozen=True, forbid_unknown_fields=True):
    """A JSON object."""

    IS_BATCH: ClassVar[bool] = False
    """Whether the body may be as long as that of a batch."""
    SCHEMA: ClassVar[Schema] = {}
    """What the document says of the object as a whole. `mistakes` checks it."""

    @classmethod
    async def run(cls, handler: Handle, call: RequestContext) -> Any:
        """Read the body, and run the handler. Raises one `InvalidInput` that names everything that is wrong."""
        shape = shape_of(cls)
        body = decoded(await call.json_bytes(cls.IS_BATCH), shape.loose)
        return await handler(call, shape.checked(body, call.now_ms))

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """What is wrong with several members together, or with a member at this moment."""
        return ()


class Shape(Generic[B]):
    """How the JSON of one declaration is decoded and checked."""

    def __init__(self, declared: type[B]) -> None:
        """Derive both steps."""
        fields, config = msgspec.structs.fields(declared), declared.__struct_config__
        self.declared = declared
        # Without the bounds of `Meta`, at the first of which msgspec would stop.
        self.loose: type[Struct] = msgspec.defstruct(
            declared.__name__,
            [(one.name, _loose(one.type), *_default(one)) for one in fields],
            rename={one.name: one.encode_name for one in fields},
            forbid_unknown_fields=config.forbid_unknown_fields,
            tag_field=config.tag_field,
            tag=config.tag,
            kw_only=True,
        )
        converts = [(one, _convert(one.type)) for one in fields]
        self._converts = [(one.name, one.encode_name, convert) for one, convert in converts if convert is not None]

    def checked(self, sent: Struct, now_ms: int) -> B:
        """The declared object. Raises one `InvalidInput` that names everything that is wrong."""
        values, problems = msgspec.structs.asdict(sent), list[InvalidInput]()
        for name, member, convert in self._converts:
            value = values[name]
            if value is not None and value is not UNSET:
                values[name] = convert(value, member, problems)
        body = self.declared(**values)
        problems += body.mistakes(now_ms)
        refuse_if_any(problems)
        return body


@cache
def shape_of(declared: type[B]) -> Shape[B]:
    """The shape of a declaration, derived once."""
    return Shape(declared)


def decoded(body: bytes | msgspec.Raw, kind: type[T] | msgspec.json.Decoder[T], name: str = "body") -> T:
    """JSON as this type. `InvalidInput` names the member that is wrong, or all of it by this name."""
    try:
        # A `Decoder` for a union: msgspec remembers what it knows of a struct, and works a union out again with each call.
        return kind.decode(body) if isinstance(kind, msgspec.json.Decoder) else msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as fault:
        raise named_mistake(fault) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise InvalidInput(name, f"must be JSON: {fault}") from None
    except RecursionError:  # the decoder goes down the levels of a value that it leaves undecoded, too
        raise InvalidInput(name, "is nested too deeply") from None


def named_mistake(fault: msgspec.ValidationError) -> InvalidInput:
    """The mistake in Gate's words, with the path of the member that is wrong."""
    text = str(fault)
    match = _AT_PATH.match(text)
    problem, path = (match[1], match[2]) if match else (text, None)
    field = _FIELD.search(problem)
    name = ".".join(part for part in (path, field[1] if field else None) if part)
    return InvalidInput(name or "body", problem[:1].lower() + problem[1:])


def refuse_if_any(problems: Sequence[InvalidInput]) -> None:
    """Raise all these mistakes as one."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidInput("body", "; ".join(str(problem) for problem in problems))


def _loose(declared: Any) -> Any:
    """The type as JSON has it: without bounds, and with an id in either of its forms."""
    origin = get_origin(declared)
    if origin is Annotated:
        return _loose(declared.__origin__)
    if declared is bytes:
        return IdJson
    arguments = tuple(map(_loose, get_args(declared)))
    if origin in (Union, UnionType):
        return Union[arguments]  # noqa: UP007  # of types that are not known here
    return origin[arguments] if origin in (list, frozenset, dict) else declared


def _default(field: FieldInfo) -> tuple[Any, ...]:
    return () if field.required else (field.default,)  # no member of a body has a factory


def _convert(declared: Any) -> Convert | None:
    """What checks a member of a body; None if its form is all that matters."""
    kind, meta = kinds_of(declared)
    extra = (meta and meta.extra) or {}
    if kind is bytes:
        return _checking(extra["check"], _id) if "check" in extra else _id
    if kind == list[bytes]:
        assert meta is not None and meta.max_length is not None, "an array of ids has an upper bound"
        most = meta.max_length
        return lambda value, name, problems: ids_bytes(value, name, most, problems)
    if "check" in extra:
        return _checking(extra["check"])
    if kind is str and meta is not None and meta.max_length is not None:
        return _at_most(meta.max_length)
    if kind is int and meta is not None and meta.le is not None:
        return _within(int(meta.ge or 0), int(meta.le), extra.get("must"))
    return None


def _id(value: IdJson, name: str, problems: list[InvalidInput]) -> bytes:
    try:
        return id_bytes(value, name)
    except InvalidInput as problem:
        problems.append(problem)
        return b""


def _checking(check: Callable[[Any], object], first: Convert | None = None) -> Convert:
    def convert(value: Any, name: str, problems: list[InvalidInput]) -> Any:
        known = len(problems)
        value = first(value, name, problems) if first is not None else value
        if len(problems) == known:
            try:
                check(value)
            except InvalidInput as fault:
                problems.append(renamed(fault, name))
        return value

    return convert


def _at_most(most: int) -> Convert:
    def convert(value: str, name: str, problems: list[InvalidInput]) -> str:
        if len(value) > most:
            problems.append(InvalidInput(name, f"must be at most {most} characters, {len(value)} were sent"))
        return value

    return convert


def _within(least: int, most: int, must: str | None) -> Convert:
    wanted = must or f"must be {least} to {most}"

    def convert(value: int, name: str, problems: list[InvalidInput]) -> int:
        if not least <= value <= most:
            problems.append(InvalidInput(name, f"{wanted}, {value} was sent"))
        return value

    return convert
