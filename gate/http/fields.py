"""Fields that many requests and answers have: User ids, an expiry, an audit reason, page tokens.

A check of many values adds its mistakes to `problems`; others raise.

A User id is a string, or `{"b64": "..."}` if it is not UTF-8. Requests may use either form; answers use the second only for
ids that need it.

A page token is an opaque cursor into a list, newest first. RongCloud's are base64 of a protobuf message whose field 1 is a
varint that descends from page to page. These are the same, so that a client which stored one finds nothing odd. The alphabet
is the URL-safe one: a `+` would not survive the SDK that sends forms unescaped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from gate.core.ids import MAX_ID_BYTES, user_id
from gate.core.model import FOREVER_MS, LONGEST_DURATION_S
from gate.core.presence import MAX_GATEWAY_BYTES
from gate.core.reasons import MAX_ACTOR_CHARS, MAX_REASON_CHARS
from gate.core.registration import (
    MAX_NAME_BYTES,
    MAX_PORTRAIT_BYTES,
    profile_mistakes,
    registrable,
)
from gate.errors import InvalidInput
from gate.http.bodies import TooLong
from gate.store.places import Place

# A moment before this (1973) is one in seconds that was meant in milliseconds.
FIRST_UNTIL_MS = 100_000_000_000
# How far ahead Tokens may be revoked. Until then the User gets none, so a later moment is most likely one in other units.
MAX_REVOKED_AHEAD_MS = 86_400_000

_B64_CHARS = "[A-Za-z0-9+/]"
_BASE64 = f"^(?:{_B64_CHARS}{{4}})*(?:{_B64_CHARS}{{2}}==|{_B64_CHARS}{{3}}=|{_B64_CHARS}{{4}})$"
_CURSOR = r"^[0-9a-f]{1,16}-[0-9]{1,16}-[0-9a-f]{1,16}(\.[0-9a-f]{1,16}-[0-9]{1,16}-[0-9a-f]{1,16}){0,63}$"
_BASE64_ID = {
    "format": "base64-id",
    "pattern": _BASE64,
    "minLength": 4,
    "maxLength": -(-MAX_ID_BYTES // 3) * 4,
    "description": f"1 to {MAX_ID_BYTES} bytes.",
}


def _check_name(name: str) -> None:
    # It counts bytes, where `Meta` would count characters.
    for member, problem in profile_mistakes(name, None):
        raise TooLong(member, problem)


def _check_portrait(portrait: str) -> None:
    for member, problem in profile_mistakes(None, portrait):
        raise TooLong(member, problem)


Reason = Annotated[str, Meta(max_length=MAX_REASON_CHARS, examples=["spam"])]
Actor = Annotated[str, Meta(max_length=MAX_ACTOR_CHARS, examples=["moderator-7"])]
UntilMs = Annotated[
    int,
    Meta(
        ge=FIRST_UNTIL_MS,
        le=FOREVER_MS,
        description="A moment, Unix ms.",
        extra={"must": "must be Unix time in milliseconds"},
    ),
]
Seconds = Annotated[int, Meta(ge=1, le=LONGEST_DURATION_S, description="From now.", examples=[3600])]


def _given(name: str, **schema: object) -> dict[str, object]:
    return {"required": [name], "properties": {name: schema}}


# For the document: the handler counts bytes (`user_id`), where `Meta` would count characters.
TEXT_ID = {
    "type": "string",
    "format": "user-id",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "description": f"1 to {MAX_ID_BYTES} bytes of UTF-8.",
    "examples": ["alice"],
}
APP_KEY = {"pattern": "^[A-Za-z0-9_-]{1,32}$", "examples": ["shop"]}
TextId = Annotated[str, Meta(extra_json_schema=TEXT_ID)]
PlatformName = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9._-]{1,32}$", "examples": ["iOS"]})]
GatewayName = Annotated[
    str,
    Meta(
        extra_json_schema={
            "pattern": "^[!-~]+$",
            "minLength": 1,
            "maxLength": MAX_GATEWAY_BYTES,
            "examples": ["edge-1"],
        }
    ),
]
FeedCursor = Annotated[
    str,
    Meta(
        description="A place in the App's feed, as an answer gave it. Longer if Presence has slices. Its form is Gate's own.",
        extra_json_schema={"format": "feed-cursor", "pattern": _CURSOR},
    ),
]
Revision = Annotated[
    str,
    Meta(
        description="A Revision that the answer must not be older than.",
        extra_json_schema={"format": "revision", "minLength": 1},
    ),
]
CURSOR_TEXT = "The `next` of an earlier answer."
PageToken = Annotated[str, Meta(description=CURSOR_TEXT, extra_json_schema={"format": "page-token"})]
PlaceToken = Annotated[
    str, Meta(description=f"{CURSOR_TEXT} Not with `offset`.", extra_json_schema={"format": "place-token"})
]
REGISTRABLE_ID = {
    "pattern": "^[A-Za-z0-9+|=_-]+$",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "description": "Letters, digits and + | = - _: what a User may be registered under.",
    "examples": ["alice"],
}
RegistrableId = Annotated[bytes, Meta(extra_json_schema=REGISTRABLE_ID, extra={"check": registrable})]
ProfileName = Annotated[
    str,
    Meta(
        extra_json_schema={"format": "profile-name", "maxLength": MAX_NAME_BYTES, "examples": ["Alice"]},
        extra={"check": _check_name},
    ),
]
Portrait = Annotated[
    str,
    Meta(
        extra_json_schema={
            "format": "portrait",
            "maxLength": MAX_PORTRAIT_BYTES,
            "examples": ["https://portraits.example/alice.png"],
        },
        extra={"check": _check_portrait},
    ),
]

EXACTLY_ONE_EXPIRY: Mapping[str, object] = {
    "oneOf": [
        _given("until", type="integer"),
        _given("seconds", type="integer"),
        _given("permanent", const=True),
    ]
}
AT_MOST_ONE_EXPIRY: Mapping[str, object] = {
    "not": {
        "required": ["until", "seconds"],
        "properties": {"until": {"type": "integer"}, "seconds": {"type": "integer"}},
    }
}


class Base64Id(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An id of any bytes."""

    b64: Annotated[bytes, Meta(extra_json_schema=_BASE64_ID)]


IdJson = str | Base64Id


def up_to(most: int, *examples: str) -> Meta:
    """The bounds of an array of 1 to `most` ids."""
    return Meta(min_length=1, max_length=most, examples=[list(examples or ("alice", "bob"))])


def id_bytes(value: IdJson, parameter: str) -> bytes:
    """The id itself; `InvalidInput` if it is empty or longer than 64 bytes."""
    return user_id(value if isinstance(value, str) else value.b64, parameter)


def loose_id_bytes(value: object, parameter: str) -> bytes:
    """The id in a value of any JSON type; `InvalidInput` says what an id looks like."""
    try:
        return id_bytes(msgspec.convert(value, IdJson), parameter)
    except msgspec.ValidationError:
        raise InvalidInput(parameter, 'must be a string, or {"b64": …} for an id that is not UTF-8') from None


def ids_bytes(values: Sequence[IdJson], parameter: str, most: int, problems: list[InvalidInput]) -> list[bytes]:
    """1 to `most` ids, repeated ones once; what is wrong with them is added to `problems`."""
    # Counted before any id is looked at: a body of 16 MiB may hold a million.
    if not 1 <= len(values) <= most:
        problems.append(InvalidInput(parameter, f"must hold 1 to {most} ids, {len(values)} were sent"))
        return []
    # A dict as a set that keeps the order.
    ids: dict[bytes, None] = {}
    for index, value in enumerate(values):
        try:
            ids[id_bytes(value, f"{parameter}[{index}]")] = None
        except InvalidInput as problem:
            problems.append(problem)
    return list(ids)


def json_id(raw: bytes) -> IdJson:
    """An id in an answer."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Base64Id(raw)


def json_ids(raws: Sequence[bytes]) -> list[IdJson]:
    """As `json_id`, of many."""
    try:
        return list(map(bytes.decode, raws))  # without a step of Python for each
    except UnicodeDecodeError:
        return list(map(json_id, raws))


def expiry_mistakes(
    until: int | None, seconds: int | None, permanent: bool = False, *, is_required: bool = False
) -> Iterator[InvalidInput]:
    """Report an expiry that is given in two ways, or in none if it is required."""
    given = {"until": until is not None, "seconds": seconds is not None, "permanent": permanent}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        yield InvalidInput(names[1], f"must not come together with {names[0]}")
    if is_required and not names:
        yield InvalidInput("until", "is required, or seconds, or permanent")


def until_json(until_ms: int) -> int | None:
    """An expiry in an answer: null for never."""
    return until_ms if until_ms < FOREVER_MS else None


def expiry_ms(until: int | None, seconds: int | None, now_ms: int) -> int:
    """The moment of an expiry, `FOREVER_MS` without one."""
    if until is not None:
        return until
    return FOREVER_MS if seconds is None else now_ms + seconds * 1_000


_FIELD_1_VARINT = 0x08
_MAX_CURSOR = (1 << 63) - 1
# A tag byte and a varint of at most ten bytes; one more, so that what is longer differs.
_MAX_PACKED_BYTES = 12


def page_token(cursor: int) -> str:
    """The token of a cursor, 0 or more."""
    return base64.urlsafe_b64encode(_packed(cursor)).decode()


def page_cursor(token: str, parameter: str = "pageToken") -> int:
    """The cursor of a token; `InvalidInput` if no query ever returned this."""
    try:
        # A `+` that was not escaped arrives as a space, and some callers encode a token again in the standard alphabet.
        text = token.replace(" ", "-").replace("+", "-").replace("/", "_").rstrip("=").encode("ascii")
        packed = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)[:_MAX_PACKED_BYTES]
        cursor = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(packed[1:]))
        # Packed again, so that each cursor has one token: no other first byte, no padding, nothing behind it.
        if packed != _packed(cursor) or cursor > _MAX_CURSOR:
            raise ValueError("not one that was made here")
        return cursor
    except (ValueError, binascii.Error):
        raise InvalidInput(parameter, "must be the `next` of an earlier answer") from None


def place_token(place: Place) -> str:
    """The token of the place behind which the next page begins."""
    return base64.urlsafe_b64encode(place.score.to_bytes(8, "big") + place.member).decode().rstrip("=")


def place_of(token: str, parameter: str = "token") -> Place:
    """The place of a token; `InvalidInput` if no answer can have held this."""
    try:
        packed = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        packed = b""
    # A score is never negative, so its first bit is 0.
    if not 8 < len(packed) <= 8 + MAX_ID_BYTES or packed[0] > 0x7F:
        raise InvalidInput(parameter, "must be the `next` of an earlier answer")
    return Place(int.from_bytes(packed[:8], "big"), packed[8:])


def _packed(cursor: int) -> bytes:
    groups = [cursor >> shift & 0x7F | 0x80 for shift in range(0, cursor.bit_length() or 1, 7)]
    return bytes((_FIELD_1_VARINT, *groups[:-1], groups[-1] & 0x7F))
