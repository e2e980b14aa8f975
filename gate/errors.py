"""Every error that Gate raises on purpose, as one tree.

Each layer raises from this tree only, so that a surface (RESP, HTTP, CLI) can turn an error into its own words in one place
and so that anything else that escapes is known to be a bug.

    GateError
    ├── InvalidInput            the caller sent something that breaks a documented limit
    │   └── InvalidConfig       the same for options and environment, all mistakes at once
    ├── ProtocolError           bytes on the RESP port that are not RESP
    ├── NotFound                an App, User or other thing that does not exist
    │   ├── AppUnknown
    │   ├── OperatorUnknown
    │   └── UserUnknown         nobody is registered under this id
    ├── Refused                 well-formed, but the state forbids it
    │   ├── AppExists
    │   ├── OperatorExists
    │   ├── TokensHeld          no Token is minted before the moment until which Tokens were revoked
    │   ├── UserDeactivated     what was asked is not for deactivated Users; nothing of the call was written
    │   ├── ReactivationTooEarly  nobody of the call was reactivated
    │   ├── UserLimitReached    the App has as many Users as it may
    │   ├── NotInProduction     only development Apps may do this
    │   └── ListFull            a list would pass the App's ceiling; nothing was added
    ├── FeedReset               a feed of presence changes can't be read on from a cursor; read the state anew
    │   └── FeedUnreadable      since what lies behind it is in a form of another version
    ├── SessionRefused          a Gateway may not open or close this Session; `fault` says why in one word
    ├── TokenRefused            a Token is not accepted; `fault` says why in one word
    ├── Unavailable             something that this needs is away; safe to repeat
    │   └── StoreUnavailable    Redis is away; `outcome` says whether the write may still land
    ├── CannotStart             the service can't run here: a port in use, a directory that can't be written
    ├── Stale                   this Replica is older than the caller demands
    └── ReplicaError            the Replica file cannot be used
        ├── ReplicaMissing      there is none here (yet)
        ├── ReplicaForeign      it is torn, damaged, or of another layout version
        ├── ReplicaFull         no room to write facts; what was committed before still stands
        └── ChangelogBroken     the Changelog can't be followed from here; a fresh snapshot heals it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Outcome = Literal["not-written", "unknown"]
TokenFault = Literal["malformed", "app-unknown", "forged", "expired", "user-deactivated", "revoked", "user-banned"]
"""In the order that a Token is checked."""


class GateError(Exception):
    """Root of the tree; its text is fit to show to the caller."""


class InvalidInput(GateError):
    """A value breaks a limit; `parameter` names it, the text says the bound and what was sent."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter
        self.problem = problem


class InvalidConfig(InvalidInput):
    """Options or environment are wrong; `problems` lists every mistake of the one call."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("configuration", "; ".join(problems))
        self.problems = list(problems)


class ProtocolError(GateError):
    """The peer broke RESP; the text is Redis's wording and the connection must be closed."""


class NotFound(GateError):
    """The thing asked for does not exist."""


class AppUnknown(NotFound):
    """No App has this key."""


class UserUnknown(NotFound):
    """Nobody is registered under this id."""

    def __init__(self, user: bytes) -> None:
        super().__init__(f"no User is registered as {user.decode('utf-8', 'backslashreplace')!r}")
        self.user = user


class OperatorUnknown(NotFound):
    """No operator has this name."""


class Refused(GateError):
    """The request is well-formed, but the present state forbids it."""


class AppExists(Refused):
    """An App with this key is there already."""


class OperatorExists(Refused):
    """An operator of this name is there already."""


class UserDeactivated(Refused):
    """Users of the call are deactivated; `users` names them."""

    def __init__(self, users: Sequence[bytes]) -> None:
        named = ", ".join(user.decode("utf-8", "backslashreplace") for user in users[:10])
        super().__init__(f"deactivated: {named}")
        self.users = list(users)


class TokensHeld(Refused):
    """The User's Tokens are revoked until a moment that is still to come, so none is minted before."""

    def __init__(self, user: bytes, until_ms: int, shown_until: str) -> None:
        named = user.decode("utf-8", "backslashreplace")
        super().__init__(f"the Tokens of {named} are revoked until {shown_until}; ask for one after that")
        self.user = user
        self.until_ms = until_ms


class ReactivationTooEarly(Refused):
    """A User of the call may not be reactivated yet; nothing of the call was written.

    `from_ms` is when it may; None while its facts are being erased, which takes seconds.
    """

    def __init__(self, user: bytes, from_ms: int | None, problem: str) -> None:
        super().__init__(f"the User {user.decode('utf-8', 'backslashreplace')} {problem}")
        self.user = user
        self.from_ms = from_ms


class UserLimitReached(Refused):
    """The App has as many registered Users as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the App may have {limit} registered Users, and has them")
        self.limit = limit


class NotInProduction(Refused):
    """Only development Apps may do this."""


class ListFull(Refused):
    """The list would pass its ceiling; nothing of the call was added."""

    def __init__(self, ceiling: int, size: int, adding: int) -> None:
        super().__init__(f"the list holds {size} entries and {adding} more would pass its ceiling of {ceiling}")
        self.ceiling = ceiling


class FeedReset(GateError):
    """The feed can't be read on from this cursor without a gap: look at the state, and go on from the feed's head."""


class FeedUnreadable(FeedReset):
    """So many entries are in a form that this version does not read, as another one leaves them.

    The last of them is `seq` of `epoch` in one slice: a reader that can do without them goes on behind that.
    """

    def __init__(self, epoch: str, seq: int, many: int, slice_: int = 0) -> None:
        super().__init__(f"entries up to {seq} were written by a version of Gate that this one does not understand")
        self.epoch = epoch
        self.seq = seq
        self.many = many
        self.slice_ = slice_


SessionFault = Literal["no-lease", "fenced", "full", "foreign", "draining", "too-many-gateways"]


class SessionRefused(GateError):
    """A Session may not be opened or closed by this caller; the User's Token was not the reason."""

    def __init__(self, fault: SessionFault, problem: str) -> None:
        super().__init__(problem)
        self.fault: SessionFault = fault


class TokenRefused(GateError):
    """A Token is not accepted. `until_ms` is when a Ban ends that is the only reason, else None. Never holds the Token."""

    def __init__(self, fault: TokenFault, problem: str, until_ms: int | None = None) -> None:
        super().__init__(problem)
        self.fault: TokenFault = fault
        self.until_ms = until_ms


class Unavailable(GateError):
    """Something this request needs is away; `retry_after_s` says when to come back."""

    retry_after_s = 1


class StoreUnavailable(Unavailable):
    """Redis is away. `outcome` is "unknown" when the write was sent and no answer came in time."""

    def __init__(self, problem: str, outcome: Outcome = "not-written") -> None:
        super().__init__(problem)
        self.outcome: Outcome = outcome


class CannotStart(GateError):
    """The service can't run here; the text is one line that says why and what to do."""


class Stale(GateError):
    """The Replica has not applied the Revision that the caller demands, or is past `max_staleness`."""


class ReplicaError(GateError):
    """The Replica cannot be used."""


class ReplicaMissing(ReplicaError):
    """No Replica at this path; start the replicator (`gate serve`) first."""


class ReplicaForeign(ReplicaError):
    """The file is torn, damaged, or of another layout version; it is rebuilt from Redis."""


class ReplicaFull(ReplicaError):
    """There is no room to write facts (disk or map full); nothing of the transaction was kept."""


BreakReason = Literal[
    "hole", "trimmed", "epoch", "behind", "forked", "partitions", "recreated", "unreadable", "list-numbers"
]


class ChangelogBroken(ReplicaError):
    """The Changelog can't be followed from the Replica's Position; `reason` is one stable word for logs and metrics."""

    def __init__(self, reason: BreakReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: BreakReason = reason
