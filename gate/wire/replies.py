r"""Replies as RESP bytes: constants made at import for the hot commands, and encoders for everything else.

The hot loop appends constants to a list and joins it once for each socket buffer, so that a check's answer costs no
encoding. RESP2 has no maps, nulls, booleans or doubles; each encoder says what a RESP2 client gets in their place,
which is what Redis gives it.

Invariants: pure functions; every return value is exactly one whole reply (or a header, where the name says so), and no
text of a caller can break the framing.

Called by `gate.wire.connection` and the commands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

# What a reply can say: scalars, arrays and maps, nested.
Value = bytes | str | bool | int | float | None | Sequence["Value"] | Mapping[str, "Value"]


class Statuses(tuple[str, ...]):
    """A set of status replies, as Redis gives flags."""

    __slots__ = ()


ONE: Final = b":1\r\n"
ZERO: Final = b":0\r\n"
OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
RESET: Final = b"+RESET\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"
EMPTY_BULK: Final = b"$0\r\n\r\n"
NULL_RESP2: Final = b"$-1\r\n"
NULL_ARRAY_RESP2: Final = b"*-1\r\n"
NULL_RESP3: Final = b"_\r\n"
TRUE_RESP3: Final = b"#t\r\n"
FALSE_RESP3: Final = b"#f\r\n"

_NEWLINES_TO_SPACES: Final = {10: 32, 13: 32}


def simple(text: str) -> bytes:
    """A status such as `+OK`; a newline in it becomes a space, as it would end the reply."""
    return b"+%b\r\n" % _one_line(text)


def error(text: str) -> bytes:
    """An error, `text` beginning with its code (`ERR`, `NOAUTH`); newlines become spaces, as in Redis."""
    return b"-%b\r\n" % _one_line(text)


def integer(number: int) -> bytes:
    return b":%d\r\n" % number


def bulk(payload: bytes | str) -> bytes:
    """Any bytes; text as UTF-8."""
    raw = payload if isinstance(payload, bytes) else _utf8(payload)
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def array_header(count: int) -> bytes:
    return b"*%d\r\n" % count


def set_header(count: int, resp3: bool) -> bytes:
    """Of `count` members; RESP2 gets an array."""
    return b"~%d\r\n" % count if resp3 else b"*%d\r\n" % count


def null_array(resp3: bool) -> bytes:
    """What RESP2 says in place of an array that there is not."""
    return NULL_RESP3 if resp3 else NULL_ARRAY_RESP2


def map_header(count: int, resp3: bool) -> bytes:
    """Of `count` pairs; RESP2 gets an array of keys and values in turn."""
    return b"%%%d\r\n" % count if resp3 else b"*%d\r\n" % (2 * count)


def null(resp3: bool) -> bytes:
    return NULL_RESP3 if resp3 else NULL_RESP2


def boolean(claim: bool, resp3: bool) -> bytes:
    """RESP2 gets 1 or 0."""
    if resp3:
        return TRUE_RESP3 if claim else FALSE_RESP3
    return ONE if claim else ZERO


def double(number: float, resp3: bool) -> bytes:
    """RESP2 gets the same digits as a bulk string."""
    digits = _digits(number)
    return b",%b\r\n" % digits if resp3 else bulk(digits)


def yes_or_no(claims: Sequence[bool]) -> bytes:
    """An array of 1 or 0."""
    return b"*%d\r\n%b" % (len(claims), b"".join([ONE if claim else ZERO for claim in claims]))


def encode(value: Value, resp3: bool) -> bytes:
    """One reply for a nested value; TypeError for what RESP cannot say."""
    parts: list[bytes] = []
    _append(parts, value, resp3)
    return b"".join(parts)


def _append(parts: list[bytes], value: Value, resp3: bool) -> None:
    if isinstance(value, Mapping):
        parts.append(map_header(len(value), resp3))
        for key, item in value.items():
            parts.append(bulk(key))
            _append(parts, item, resp3)
    # Before tuples, which it is too.
    elif isinstance(value, Statuses):
        parts.append(set_header(len(value), resp3))
        parts += map(simple, value)
    elif isinstance(value, (list, tuple)):
        parts.append(array_header(len(value)))
        for item in value:
            _append(parts, item, resp3)
    else:
        parts.append(_scalar(value, resp3))


def _scalar(value: Value, resp3: bool) -> bytes:
    if isinstance(value, (bytes, str)):
        return bulk(value)
    if value is None:
        return null(resp3)
    if isinstance(value, bool):  # before int, which it is too
        return boolean(value, resp3)
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return double(value, resp3)
    raise TypeError(f"RESP has no word for {type(value).__name__}")


def _digits(number: float) -> bytes:
    if math.isinf(number):
        return b"inf" if number > 0 else b"-inf"
    if math.isnan(number):
        return b"nan"
    # Redis writes whole numbers without a point.
    return repr(number).encode().removesuffix(b".0")


def _one_line(text: str) -> bytes:
    return _utf8(text.translate(_NEWLINES_TO_SPACES))


def _utf8(text: str) -> bytes:
    # Bytes that are no UTF-8 come as lone surrogates (surrogateescape) and leave as they were; others become '?'.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
