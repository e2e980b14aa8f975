"""The wording of every refusal: the code word by its kind, then its text.

Called by `commands`, `transactions` and `line`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.model import FOREVER_MS
from gate.errors import (
    FeedReset,
    GateError,
    ReplicaError,
    ScopeMissing,
    SessionRefused,
    Stale,
    StoreUnavailable,
    TokenRefused,
    Unavailable,
)
from gate.wire import replies
from gate.wire.client import NoAuth, NoProto, Reply, WrongPass
from gate.wire.documents import expected

TOO_MANY = "ERR max number of clients reached: connect to another node, or raise the limit of open files of this one"
_WHAT_THERE_IS = b". Send COMMAND LIST for the commands of this port"
# How much of an unknown command's arguments its error repeats, as Redis does.
_SHOWN_ARGUMENTS_BYTES = 128


def refused(refusal: GateError) -> bytes:
    """The error reply for a refusal."""
    if isinstance(refusal, TokenRefused):
        return replies.error(f"{_TOKEN_CODES.get(refusal.fault, 'BADTOKEN')} {refusal}{_until(refusal.until_ms)}")
    if isinstance(refusal, SessionRefused):
        return replies.error(f"{_SESSION_CODES.get(refusal.fault, 'ERR')} {refusal}")
    for kind, code in _CODES:
        if isinstance(refusal, kind):
            return replies.error(f"{code}{refusal}{_outcome(refusal)}")
    return replies.error(f"ERR {refusal}")


def _until(until_ms: int | None) -> str:
    if until_ms is None:
        return ""
    return f" until {until_ms} ms" if until_ms < FOREVER_MS else " without end"


def _outcome(refusal: GateError) -> str:
    unknown = isinstance(refusal, StoreUnavailable) and refusal.outcome == "unknown"
    return "; the outcome is unknown, and it is safe to repeat" if unknown else ""


_TOKEN_CODES = {"user-banned": "BANNED", "user-deactivated": "DEACTIVATED"}
_SESSION_CODES = {"no-lease": "NOLEASE", "fenced": "FENCED"}


# A kind that is not here is worded as the one that it is derived from: `StoreUnavailable` as `Unavailable`.
_CODES: tuple[tuple[type[GateError], str], ...] = (
    (Reply, ""),
    (NoAuth, "NOAUTH "),
    (WrongPass, "WRONGPASS "),
    (ScopeMissing, "NOPERM "),
    (NoProto, "NOPROTO "),
    (Stale, "STALE "),
    (ReplicaError, "UNAVAILABLE "),
    (Unavailable, "UNAVAILABLE "),
    (FeedReset, "RESET "),
)


def unknown_command(parts: Sequence[bytes]) -> bytes:
    """As Redis words it."""
    shown = parts[0][:_SHOWN_ARGUMENTS_BYTES]
    beginning = b""
    # Bounded while it is put together: the arguments may be 2 MB.
    for argument in parts[1:]:
        if len(beginning) >= _SHOWN_ARGUMENTS_BYTES:
            break
        beginning += b"'%b' " % argument[: _SHOWN_ARGUMENTS_BYTES - len(beginning)]
    text = b"ERR unknown command '%b', with args beginning with: %b%b" % (shown, beginning, _WHAT_THERE_IS)
    return replies.error(text.decode("utf-8", "surrogateescape"))  # the reply has the same bytes again


def wrong_number(name: bytes) -> bytes:
    """Of arguments: as Redis words it, then what the command takes."""
    lower = name.decode().lower()
    return replies.error(f"ERR wrong number of arguments for '{lower}' command{expected(name)}")
