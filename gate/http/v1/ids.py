"""User ids in JSON: a string, or `{"b64": "..."}` where the id is not UTF-8.

Both forms are accepted wherever an id is; in answers the second appears only for ids that need it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gate.core.ids import user_id
from gate.errors import InvalidInput


class Base64Id(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An id of any bytes."""

    b64: bytes


IdJson = str | Base64Id


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
    if not 1 <= len(values) <= most:
        problems.append(InvalidInput(parameter, f"must hold 1 to {most} ids, {len(values)} were sent"))
        return []
    ids: dict[bytes, None] = {}
    for index, value in enumerate(values):
        try:
            ids[id_bytes(value, f"{parameter}[{index}]")] = None
        except InvalidInput as problem:
            problems.append(problem)
    return list(ids)


def id_json(raw: bytes) -> str | dict[str, str]:
    """An id in an answer."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return msgspec.to_builtins(Base64Id(raw))  # type: ignore[no-any-return]
