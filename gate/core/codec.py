"""How facts become bytes: list members in a Change, an App's settings everywhere.

Ids may hold any byte, so no separator can join them: each member is prefixed with its length in one byte.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gate.core.model import AppFacts
from gate.errors import InvalidInput

_app_encoder = msgspec.json.Encoder(order="deterministic")
_app_decoder = msgspec.json.Decoder(AppFacts)


def pack_members(members: Iterable[bytes]) -> bytes:
    """Join ids of 1 to 64 bytes, each prefixed with its length in one byte."""
    return b"".join(bytes((len(member),)) + member for member in members)


def unpack_members(packed: bytes) -> list[bytes]:
    """Split what `pack_members` joined. Raises `ValueError` if the bytes are cut short."""
    members: list[bytes] = []
    at, end = 0, len(packed)
    while at < end:
        stop = at + 1 + packed[at]
        if stop > end:
            raise ValueError("packed members are cut short")
        members.append(packed[at + 1 : stop])
        at = stop
    return members


def pack_app(facts: AppFacts) -> bytes:
    """Encode an App as JSON with keys in a fixed order."""
    return _app_encoder.encode(facts)


def unpack_app(packed: bytes | str) -> AppFacts:
    """Decode what `pack_app` wrote. Unknown fields are ignored, so that an older node can follow a newer one."""
    try:
        return _app_decoder.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:  # ValidationError is a subclass of DecodeError
        raise InvalidInput("app", str(fault)) from None
