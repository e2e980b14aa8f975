"""A kick that somebody ordered: in the audit before it is carried out, and what came of it after.

Presence may lie in another Redis than the facts and their audit, so no script can do both. The order is written first: where
that fails, nobody is put out, and the caller learns that at once. Then Sessions are closed, and the entry `kick-ordered` gives
way to `kicked`, which says how many. An entry that stays `kick-ordered` tells that a Redis went away in between: the Sessions
may be closed or not, and whoever ordered it was told so, unless only this last step failed.

Called by `/v1`, the console and the command line.
"""

from __future__ import annotations

import structlog

from gate.core.presence import CloseReason, parse_platform, session_parts
from gate.errors import InvalidInput, StoreUnavailable
from gate.store.audit import Audit
from gate.store.presence import PresenceStore
from gate.store.writer import Attribution

KICKED: CloseReason = "kicked"

_log = structlog.get_logger()


async def kick_user(
    audit: Audit,
    presence: PresenceStore,
    app_key: str,
    user: bytes,
    because: Attribution,
    *,
    session: str | None = None,
    platform: str | None = None,
) -> int:
    """Close a User's Sessions wherever they are held: this one, those of a platform, or all. How many were live.

    Raises `InvalidInput` for another User's Session and for what is no platform, and `StoreUnavailable`.
    """
    stored_id = "" if session is None else _own(user, session)
    named = "" if platform is None else parse_platform(platform.encode())
    which = session or "", named
    ordered = await audit.order_kick(app_key, user, because, *which)
    closed = await presence.kick(app_key, [user], KICKED, stored_id=stored_id, platform=named)
    try:
        await audit.settle_kick(app_key, user, because, *which, ordered, closed)
    except StoreUnavailable as away:
        # It is done, and that it was ordered is known: an error would only make the caller kick again.
        _log.warning("the audit has a kick as ordered only", entry=ordered, problem=str(away))
    return closed


def _own(user: bytes, session: str) -> str:
    """What is stored of the id of this User's Session."""
    stored_id, whose = session_parts(session)
    if whose != user:
        raise InvalidInput("session", "is another User's")
    return stored_id
