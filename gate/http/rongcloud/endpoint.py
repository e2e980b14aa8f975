"""What the endpoints of this API have in common, and how RongCloud writes times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from gate.http.fields import CURSOR_TEXT, up_to
from gate.http.forms import JOINED, FormBody

# Ids that one call may name.
MAX_IDS = 20
# The highest number of a page: a number of any length would be one that Redis refuses.
LAST_PAGE = 1_000_000

Users = Annotated[list[bytes], up_to(MAX_IDS, "alice")]
JoinedId = Annotated[
    bytes,
    Meta(extra_json_schema={"format": "user-ids", "minLength": 1, "examples": ["alice"]}, extra=JOINED),
]
"""One id, or several with commas between them."""
Token = Annotated[str, Meta(description=CURSOR_TEXT, extra_json_schema={"format": "page-token"})]


class UserForm(FormBody, frozen=True, rename={"user": "userId"}):
    """One User."""

    user: bytes


class UsersForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Some Users."""

    users: Users


class Success(Struct, tag_field="code", tag=200, kw_only=True):
    """Done. For a write, the headers say where it stands and how far it got: its handler sets `AppRequest.effect`."""


class UserIds(Success, kw_only=True):
    """Ids, in the order that the endpoint says."""

    users: list[str]


# Printed for what never ends, and for anything past the year that four digits hold.
LAST_PRINTABLE = "9999-12-31 23:59:59"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(at_ms: int, utc_offset_minutes: int) -> str:
    """The moment's wall-clock text, whole seconds, cut off."""
    try:
        moment = _EPOCH + timedelta(seconds=at_ms // 1_000, minutes=utc_offset_minutes)
    except OverflowError:
        return LAST_PRINTABLE
    return moment.strftime("%Y-%m-%d %H:%M:%S")
