"""A kick command of an operator or a backend: audited before it is carried out, and again with its result.

Presence may be stored in another Redis than the facts and their audit, so no script can write both. First the audit entry
`kick-ordered` is written; if that fails, no Session is closed, and the caller gets the error at once. Then the Sessions are
closed, and the entry `kicked`, with their number, replaces `kick-ordered`. If `kick-ordered` stays, a Redis became unreachable
in between: the Sessions may be closed or not. The caller then got an error, unless only this last step failed.

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
    """Close one Session of a User, those of a platform, or all, on any Gateway. Returns how many were live.

    Raises `InvalidInput` for another User's Session and for an invalid platform, and `StoreUnavailable`.
    """
    stored_id = "" if session is None else _own(user, session)
    named = "" if platform is None else parse_platform(platform.encode())
    which = session or "", named
    # First of all: no Session is closed without a trace.
    ordered = await audit.order_kick(app_key, user, because, *which)
    closed = await presence.kick(app_key, [user], KICKED, stored_id=stored_id, platform=named)
    try:
        await audit.settle_kick(app_key, user, because, *which, ordered, closed)
    except StoreUnavailable as away:
        # The Sessions are closed and the order is in the audit: an error would only make the caller kick again.
        _log.warning("the audit has a kick as ordered only", entry=ordered, problem=str(away))
    return closed


def _own(user: bytes, session: str) -> str:
    """Return the stored part of this User's Session id."""
    stored_id, whose = session_parts(session)
    if whose != user:
        raise InvalidInput("session", "is another User's")
    return stored_id
