"""Requests by declaration: a `msgspec.Struct` says what an endpoint takes, and this reads and checks a request by it.

    class Imposing(Body):
        users: Annotated[list[bytes], Meta(min_length=1, max_length=1_000)]
        reason: Annotated[str, Meta(max_length=512)] = ""

A declaration is a `Body` (JSON), a `Query` (a query string) or a `FormBody`. `/openapi.json` is generated from the same one, so
each bound is written once:

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
from functools import cache, partial
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import FieldInfo

from gate.errors import InvalidInput
from gate.http.context import RequestContext
from gate.http.fields import IdJson, id_bytes, ids_bytes
from gate.http.forms import Form

Schema = Mapping[str, object]
T = TypeVar("T")
B = TypeVar("B", bound="Body")
Q = TypeVar("Q", bound="Query")
Convert = Callable[[Any, str, list[InvalidInput]], Any]
"""Takes a value, the name of its member and the mistakes so far. Adds mistakes, and returns the value that the handler gets."""
Read = Callable[[Form], Any]
"""Takes one field of a form. Raises `InvalidInput`."""

_AT_PATH = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


class Query(Struct, frozen=True):
    """The fields of a query string."""

    @classmethod
    async def read(cls: type[Q], call: RequestContext) -> Q:
        """The fields of this request. Raises `InvalidInput` for the first that is wrong."""
        return fields_of(cls, call.query())


class FormBody(Query, frozen=True):
    """The fields of a body of the type `application/x-www-form-urlencoded`. Ids must be UTF-8."""

    @classmethod
    async def read(cls: type[Q], call: RequestContext) -> Q:
        """As `Query.read`, from the body."""
        return fields_of(cls, await call.form())


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object."""

    IS_BATCH: ClassVar[bool] = False
    """Whether the body may be as long as that of a batch."""
    SCHEMA: ClassVar[Schema] = {}
    """What the document says of the object as a whole. `mistakes` checks it."""

    @classmethod
    async def read(cls: type[B], call: RequestContext) -> B:
        """The body of this request. Raises one `InvalidInput` that names everything that is wrong."""
        shape: Shape[B] = shape_of(cls)
        return shape.checked(decoded(await call.json_bytes(cls.IS_BATCH), shape.loose), call.now_ms)

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


def decoded(body: bytes | msgspec.Raw, kind: type[T], name: str = "body") -> T:
    """JSON as this type. `InvalidInput` names the member that is wrong, or all of it by this name."""
    try:
        return msgspec.json.decode(body, type=kind)
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


def fields_of(declared: type[Q], form: Form) -> Q:
    """The declared fields of a form or a query string."""
    return declared(**{name: read(form) for name, read in _reads_of(declared)})


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
                problems.append(_renamed(fault, name))
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


def _renamed(fault: InvalidInput, name: str) -> InvalidInput:
    return type(fault)(name, fault.problem)


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
    return _checked(lambda form: default if (value := form.text(name)) is None else value, name, meta)


JOINED = {"joined": True}
"""`extra` of ids that may also come several in one field, with commas between them."""


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
                raise _renamed(fault, name) from None
        return value

    return checked
