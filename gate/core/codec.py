"""How facts become bytes: list members in a Change, a User's facts in the Replica, an App's settings everywhere.

Ids may hold any byte, so no separator can join them: each member is prefixed with its length in one byte. A User's facts are
one flag byte, followed by only the numbers that are not zero, since most Users have one fact or none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec

from gate.core.model import AppFacts, UserFacts
from gate.errors import InvalidInput

_REGISTERED, _DEACTIVATED, _WHITELIST_ON = 1, 2, 4
_BANNED, _MUTED, _TOKENS, _BLACKLIST, _WHITELIST = 8, 16, 32, 64, 128

_MOMENT = struct.Struct(">Q")
_SIZE = struct.Struct(">I")

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


def pack_user(facts: UserFacts) -> bytes:
    """Pack a flag byte, then the moments (8 bytes) and sizes (4 bytes) that are not zero, big-endian, in the flags' order."""
    # bool * int: a flag or 0, without a branch.
    flags = _REGISTERED * facts.registered | _DEACTIVATED * facts.deactivated | _WHITELIST_ON * facts.whitelist_on
    tail = b""
    for flag, moment in (
        (_BANNED, facts.banned_until_ms),
        (_MUTED, facts.muted_until_ms),
        (_TOKENS, facts.tokens_valid_from_ms),
    ):
        if moment:
            flags |= flag
            tail += _MOMENT.pack(moment)
    for flag, size in ((_BLACKLIST, facts.blacklist_size), (_WHITELIST, facts.whitelist_size)):
        if size:
            flags |= flag
            tail += _SIZE.pack(size)
    return bytes((flags,)) + tail


def unpack_user(packed: bytes) -> UserFacts:
    """Unpack what `pack_user` wrote. Raises `ValueError`, `IndexError` or `struct.error` if the bytes do not have that form."""
    flags, at = packed[0], 1
    moments = [0, 0, 0]
    for index, flag in enumerate((_BANNED, _MUTED, _TOKENS)):
        if flags & flag:
            moments[index] = _MOMENT.unpack_from(packed, at)[0]
            at += _MOMENT.size
    sizes = [0, 0]
    for index, flag in enumerate((_BLACKLIST, _WHITELIST)):
        if flags & flag:
            sizes[index] = _SIZE.unpack_from(packed, at)[0]
            at += _SIZE.size
    if at != len(packed):
        raise ValueError("a User's packed facts are too long")
    return UserFacts(
        registered=bool(flags & _REGISTERED),
        deactivated=bool(flags & _DEACTIVATED),
        whitelist_on=bool(flags & _WHITELIST_ON),
        banned_until_ms=moments[0],
        muted_until_ms=moments[1],
        tokens_valid_from_ms=moments[2],
        blacklist_size=sizes[0],
        whitelist_size=sizes[1],
    )


def pack_app(facts: AppFacts) -> bytes:
    """Encode an App as JSON with keys in a fixed order."""
    return _app_encoder.encode(facts)


def unpack_app(packed: bytes | str) -> AppFacts:
    """Decode what `pack_app` wrote. Unknown fields are ignored, so that an older node can follow a newer one."""
    try:
        return _app_decoder.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:  # ValidationError is a subclass of DecodeError
        raise InvalidInput("app", str(fault)) from None
