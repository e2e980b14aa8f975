"""How Sessions, last moments and samples are packed in Redis, read.

Called by `presence` and `presence_pages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gate.core.presence import Sample, Session, UserPresence, full_session_id

_rows = msgspec.msgpack.Decoder(list[list[int | str]])
_flat = msgspec.msgpack.Decoder(list[int | str])
_pair = msgspec.msgpack.Decoder(tuple[int, int])


def presences_of(users: Sequence[bytes], reply: Sequence[Sequence[bytes]]) -> list[UserPresence]:
    """What `asking_sessions` replied; last seen while online is of the time before."""
    found = []
    for user, (packed, seen) in zip(users, reply, strict=True):
        sessions = sessions_of(user, packed) if packed else ()
        last_seen_ms, last_active_ms = _pair.decode(seen) if seen else (0, 0)
        active_ms = max([last_active_ms, *(max(one.since_ms, one.active_ms) for one in sessions)])
        found.append(UserPresence(sessions, last_seen_ms, active_ms))
    return found


def sessions_of(user: bytes, packed: bytes) -> tuple[Session, ...]:
    """A User's Sessions, the oldest first."""
    return tuple(_session(user, row) for row in _rows.decode(packed))


def _session(user: bytes, row: Sequence[Any]) -> Session:
    """Of the fields that `presence_keys.SESSION_FIELDS` names; all text is ASCII, as it was checked on the way in."""
    stored_id, platform, gateway, epoch, since_ms, ip, minted_at_ms, *active = row
    return Session(
        full_session_id(stored_id, user), user, platform, gateway.encode(), epoch, since_ms, ip, minted_at_ms,
        active[0] if active else 0,
    )  # fmt: skip


def sample_of(flat: Sequence[bytes]) -> Sample:
    """One entry of the samples, from names and values as they come over the wire."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    counts = _flat.decode(fields[b"c"])
    named = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
    sessions = {(str(gateway).encode(), str(platform)): int(many) for gateway, platform, many in named}
    return Sample(int(fields[b"u"]), sessions, int(fields[b"t"]))
