"""Every error that Gate raises on purpose, as one tree.

Each layer raises only errors of this tree. A surface (RESP, HTTP, CLI) can therefore translate them in one place, and any other
exception is known to be a bug.

    GateError
    ├── InvalidInput            the caller sent something that breaks a documented limit
    │   └── InvalidConfig       the same for options and environment, all mistakes at once
    ├── ProtocolError           bytes on the RESP port that are not RESP
    ├── NotFound                an App, User or other thing that does not exist
    │   ├── AppUnknown
    │   ├── OperatorUnknown
    │   └── UserUnknown         no User is registered under this id
    ├── Refused                 well-formed, but the state forbids it
    │   ├── AppExists
    │   ├── OperatorExists
    │   ├── TokensHeld          no Token can be minted before the moment until which Tokens were revoked
    │   ├── UserDeactivated     the call is not permitted for deactivated Users; nothing was written
    │   ├── ReactivationTooEarly  a User of the call may not be reactivated yet; nothing was written
    │   ├── UserLimitReached    the App has as many Users as it may
    │   ├── NotInProduction     only development Apps may do this
    │   ├── ListFull            a list would pass the App's ceiling; nothing was added
    │   ├── NotEmpty            a restore needs an empty Redis; nothing was written
    │   └── BackupForeign       a file is no backup, or its format is newer than this version reads
    │       └── BackupDamaged   a backup file has a wrong byte, or ends too early or too late; the text names the place
    ├── ScopeMissing            the credential is right, but has not the scope that the call needs
    ├── FeedReset               a feed of presence changes can't be continued from a cursor; read the state again
    │   └── FeedUnreadable      because the next entries were written by another version
    ├── SessionRefused          a Gateway may not open or close this Session; `fault` says why in one word
    ├── TokenRefused            a Token is not accepted; `fault` says why in one word
    ├── Unavailable             a dependency is unavailable; the request is safe to repeat
    │   ├── StoreUnavailable    Redis is unavailable; `outcome` says whether the write may still happen
    │   └── SecretsSealed       an App's secrets are sealed, and this process does not have the key that opens them
    ├── CannotStart             the service can't run here: a port in use, a directory that can't be written
    ├── Stale                   this Replica is older than the caller requires
    └── ReplicaError            the Replica file cannot be used
        ├── ReplicaMissing      the file does not exist (yet)
        ├── ReplicaForeign      it is torn, damaged, or of another layout version
        ├── ReplicaFull         no room to write facts; what was committed before is unchanged
        └── ChangelogBroken     the Changelog can't be followed from here; a fresh snapshot repairs it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Outcome = Literal["not-written", "unknown"]
# In the order in which a Token is checked.
TokenFault = Literal["malformed", "app-unknown", "forged", "expired", "user-deactivated", "revoked", "user-banned"]


class GateError(Exception):
    """Root of the tree. Its text may be shown to the caller."""


class InvalidInput(GateError):
    """A value breaks a limit. `parameter` names it; the text gives the bound and the value."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter
        self.problem = problem


class InvalidConfig(InvalidInput):
    """Options or environment are wrong. `problems` lists every mistake of the call."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("configuration", "; ".join(problems))
        self.problems = list(problems)


class ProtocolError(GateError):
    """The peer broke RESP. The text is Redis's wording; the connection must be closed."""


class NotFound(GateError):
    """The requested thing does not exist."""


class AppUnknown(NotFound):
    """No App has this key."""


class UserUnknown(NotFound):
    """No User is registered under this id."""

    def __init__(self, user: bytes) -> None:
        super().__init__(f"no User is registered as {user.decode('utf-8', 'backslashreplace')!r}")
        self.user = user


class OperatorUnknown(NotFound):
    """No operator has this name."""


class Refused(GateError):
    """The request is well-formed, but the current state does not permit it."""


class AppExists(Refused):
    """An App with this key already exists."""


class OperatorExists(Refused):
    """An operator with this name already exists."""


class UserDeactivated(Refused):
    """Users of the call are deactivated; `users` names them."""

    def __init__(self, users: Sequence[bytes]) -> None:
        named = ", ".join(user.decode("utf-8", "backslashreplace") for user in users[:10])
        super().__init__(f"deactivated: {named}")
        self.users = list(users)


class TokensHeld(Refused):
    """The User's Tokens are revoked until a moment in the future, and no Token can be minted before it."""

    def __init__(self, user: bytes, until_ms: int, shown_until: str) -> None:
        named = user.decode("utf-8", "backslashreplace")
        super().__init__(f"the Tokens of {named} are revoked until {shown_until}; request one after that")
        self.user = user
        self.until_ms = until_ms


class ReactivationTooEarly(Refused):
    """A User of the call may not be reactivated yet; nothing of the call was written.

    `from_ms` is the earliest moment; None while its facts are being erased, which takes seconds.
    """

    def __init__(self, user: bytes, from_ms: int | None, problem: str) -> None:
        super().__init__(f"the User {user.decode('utf-8', 'backslashreplace')} {problem}")
        self.user = user
        self.from_ms = from_ms


class UserLimitReached(Refused):
    """The App has reached its limit of registered Users."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the App has reached its limit of {limit} registered Users")
        self.limit = limit


class NotInProduction(Refused):
    """Only development Apps may do this."""


class ListFull(Refused):
    """The list would exceed its ceiling; nothing of the call was added."""

    def __init__(self, ceiling: int, size: int, adding: int) -> None:
        super().__init__(f"the list holds {size} entries and {adding} more would exceed its ceiling of {ceiling}")
        self.ceiling = ceiling


class ScopeMissing(GateError):
    """A key of an App has no scope for this. `scope` is the missing one, `key` the name of the key."""

    def __init__(self, scope: str, key: str, scopes: Sequence[str]) -> None:
        has = ", ".join(scopes)
        super().__init__(f"this key has no scope {scope!r}: the key {key!r} has {has}; use a key with that scope")
        self.scope = scope
        self.key = key


class NotEmpty(Refused):
    """A restore needs an empty Redis; the text names what this one holds. Nothing was written."""


class BackupForeign(Refused):
    """A file is no backup of Gate, or its format is newer than this version reads."""


class BackupDamaged(BackupForeign):
    """A backup file is not as it was written. The text names the place."""


class FeedReset(GateError):
    """The feed can't be continued from this cursor without a gap: read the state, then continue from the feed's head."""


class FeedUnreadable(FeedReset):
    """`many` entries of the feed were written by another version and can't be read.

    The last of them is `seq` of `epoch` in one slice. A reader that can skip them continues after it.
    """

    def __init__(self, epoch: str, seq: int, many: int, slice_: int = 0) -> None:
        super().__init__(f"entries up to {seq} were written by a version of Gate that this one does not understand")
        self.epoch = epoch
        self.seq = seq
        self.many = many
        self.slice_ = slice_


SessionFault = Literal["no-lease", "fenced", "full", "foreign", "draining", "too-many-gateways"]


class SessionRefused(GateError):
    """A Session may not be opened or closed by this caller. The User's Token is not the reason."""

    def __init__(self, fault: SessionFault, problem: str) -> None:
        super().__init__(problem)
        self.fault: SessionFault = fault


class TokenRefused(GateError):
    """A Token is not accepted. `until_ms` is the end of a Ban if that is the only reason, else None. Never holds the Token."""

    def __init__(self, fault: TokenFault, problem: str, until_ms: int | None = None) -> None:
        super().__init__(problem)
        self.fault: TokenFault = fault
        self.until_ms = until_ms


class Unavailable(GateError):
    """A dependency of this request is unavailable; `retry_after_s` is the suggested wait."""

    retry_after_s = 1


class SecretsSealed(Unavailable):
    """An App's secrets are sealed with a key that this process does not have."""


class StoreUnavailable(Unavailable):
    """Redis is unavailable. `outcome` is "unknown" if the write was sent and no answer came in time."""

    def __init__(self, problem: str, outcome: Outcome = "not-written") -> None:
        super().__init__(problem)
        self.outcome: Outcome = outcome


class CannotStart(GateError):
    """The service can't start. The text is one line with the reason and the remedy."""


class Stale(GateError):
    """The Replica has not applied the Revision that the caller requires, or is past `max_staleness`."""


class ReplicaError(GateError):
    """The Replica cannot be used."""


class ReplicaMissing(ReplicaError):
    """There is no Replica at this path; start the replicator (`gate serve`) first."""


class ReplicaForeign(ReplicaError):
    """The file is torn, damaged, or of another layout version; it is rebuilt from Redis."""


class ReplicaFull(ReplicaError):
    """There is no room to write facts (disk or map full). The transaction was rolled back."""


BreakReason = Literal[
    "hole", "trimmed", "epoch", "behind", "forked", "partitions", "recreated", "unreadable", "list-numbers"
]


class ChangelogBroken(ReplicaError):
    """The Changelog can't be followed from the Replica's Position. `reason` is one stable word for logs and metrics."""

    def __init__(self, reason: BreakReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: BreakReason = reason
