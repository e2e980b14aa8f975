"""The page token: an opaque cursor into a list, newest first.

RongCloud's are base64 of a protobuf message whose field 1 is a varint that descends from page to page; these are the
same, so that a client which stored one finds nothing odd. The alphabet is the URL-safe one: a `+` would not survive the
SDK that sends forms unescaped.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from msgspec import Meta

from gate.core.ids import MAX_ID_BYTES
from gate.errors import InvalidInput
from gate.store.places import Place

CURSOR_TEXT = "The `next` of an earlier answer."
PageToken = Annotated[str, Meta(description=CURSOR_TEXT, extra_json_schema={"format": "page-token"})]
PlaceToken = Annotated[
    str, Meta(description=f"{CURSOR_TEXT} Not with `offset`.", extra_json_schema={"format": "place-token"})
]

_FIELD_1_VARINT = 0x08
_MAX_CURSOR = (1 << 63) - 1
_MAX_PACKED_BYTES = 12
"""A tag byte and a varint of at most ten bytes; one more, so that what is longer differs."""


def page_token(cursor: int) -> str:
    """The token of a cursor, 0 or more."""
    return base64.urlsafe_b64encode(_packed(cursor)).decode()


def page_cursor(token: str, parameter: str = "pageToken") -> int:
    """The cursor of a token; `InvalidInput` if no query ever returned this."""
    try:
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
    if not 8 < len(packed) <= 8 + MAX_ID_BYTES or packed[0] > 0x7F:
        raise InvalidInput(parameter, "must be the `next` of an earlier answer")
    return Place(int.from_bytes(packed[:8], "big"), packed[8:])


def _packed(cursor: int) -> bytes:
    groups = [cursor >> shift & 0x7F | 0x80 for shift in range(0, cursor.bit_length() or 1, 7)]
    return bytes((_FIELD_1_VARINT, *groups[:-1], groups[-1] & 0x7F))
