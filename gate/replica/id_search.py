"""Search for Users by their id in this node's Replica: every User of the App that has a fact, registered or not.

Ids are in the order of their bytes. Ids that begin with a part are one range of the file; for ids that hold it elsewhere every
id is looked at, 2 to 3 million a second. So a caller searches in slices, each a bracket of its own of some milliseconds. The
position is an id, so all slices together look at every id that has facts throughout, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import perf_counter
from typing import NamedTuple, cast

import lmdb

from gate.replica.app_reading import AppReading
from gate.replica.layout import user_prefix
from gate.replica.reading import Reading

# Ids between two looks at the clock: some 0.1 ms.
_CHUNK = 256


class IdsFound(NamedTuple):
    """What one slice found, how many ids it looked at, and the last of them; None at the end."""

    ids: list[bytes]
    looked_at: int
    behind: bytes | None


def ids_beginning_with(reading: Reading, app: AppReading, part: bytes, behind: bytes, wanted: int) -> IdsFound:
    """Return the next ids that begin with a part, after the id `behind` (empty: from the start). Inside a bracket."""
    prefix = user_prefix(app.number)
    beginning = prefix + part
    found: list[bytes] = []
    for key in _keys_from(reading, max(beginning, _after(prefix, behind))):
        if not key.startswith(beginning):
            break
        found.append(key[len(prefix) :])
        if len(found) == wanted:
            return IdsFound(found, wanted, found[-1])
    return IdsFound(found, len(found), None)


def ids_holding(
    reading: Reading, app: AppReading, part: bytes, behind: bytes, wanted: int, slice_ms: float
) -> IdsFound:
    """Return the next ids that hold a part, other than at their beginning, for as long as the slice lasts. Inside a bracket.

    The case of ASCII letters is ignored, so an id that begins with the part in another case is included.
    """
    prefix = user_prefix(app.number)
    lowered, ends = part.lower(), perf_counter() + slice_ms / 1_000
    found: list[bytes] = []
    looked_at, keys = 0, _keys_from(reading, _after(prefix, behind))
    while chunk := list(islice(keys, _CHUNK)):
        for key in chunk:
            if not key.startswith(prefix):
                return IdsFound(found, looked_at, None)
            looked_at += 1
            # The prefix might complete a match, so a match is looked at again without it.
            if lowered in key.lower() and lowered in key[len(prefix) :].lower():
                user = key[len(prefix) :]
                if not user.startswith(part):
                    found.append(user)
                    if len(found) == wanted:
                        return IdsFound(found, looked_at, user)
        if perf_counter() >= ends:
            return IdsFound(found, looked_at, chunk[-1][len(prefix) :])
    return IdsFound(found, looked_at, None)


def _after(prefix: bytes, behind: bytes) -> bytes:
    """The least key after that of an id; of the first id for an empty one."""
    return prefix + behind + b"\0" if behind else prefix


def _keys_from(reading: Reading, first: bytes) -> Iterator[bytes]:
    """Yield the keys of the file from `first` on."""
    try:
        cursor = reading.cursor()
        if cursor.set_range(first):
            yield from cast("Iterator[bytes]", cursor.iternext(values=False))
    except lmdb.Error as fault:
        raise reading.damaged(fault) from fault
