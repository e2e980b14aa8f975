"""What good answers under `/user/*` hold, as types, in RongCloud's own names. See `shapes` for all the others, and why."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Success(Struct, kw_only=True):
    """Done. For a write, the headers say where it stands and how far it got."""

    code: Literal[200]


class TokenMinted(Success, kw_only=True):
    """A new Token; earlier ones stay valid."""

    userId: str
    token: str


class UserProfile(Success, kw_only=True):
    """A registered User. `createTime` is in the App's time zone."""

    userName: str
    userPortrait: str
    createTime: str


class OnlineState(Success, kw_only=True):
    """As a string, as RongCloud has it."""

    status: Literal["0", "1"]


class RolledUser(Struct, kw_only=True):
    """One registered User. `regTime` is in the App's time zone."""

    userId: str
    userName: str
    userPortrait: str
    regTime: str


class UserRoll(Success, kw_only=True):
    """One page; `total` counts all registered Users."""

    total: int
    users: list[RolledUser]


class BannedUser(Struct, kw_only=True):
    """One Ban. `blockEndTime` is in the App's time zone."""

    userId: str
    blockEndTime: str


class BannedUsers(Success, kw_only=True):
    """The latest end first."""

    users: list[BannedUser]


class UserIds(Success, kw_only=True):
    """Ids, in the order that the endpoint says."""

    users: list[str]


class CountedUserIds(UserIds, kw_only=True):
    """Ids of one page; `total` counts all."""

    total: int


class ListPage(UserIds, kw_only=True):
    """Newest first; `next` is there where more follows, and goes into `pageToken`."""

    next: str | UnsetType = UNSET


class WhitelistSetting(Struct, kw_only=True):
    """One User's own switch, as a string, as RongCloud has it."""

    userId: str
    whiteSetting: Literal["0", "1"]


class WhitelistSettings(Success, kw_only=True):
    """In the order asked."""

    users: list[WhitelistSetting]


class OperationStarted(Success, kw_only=True):
    """Effective already; the result of each User is told by webhook under this id."""

    operateId: str


class RongCloudProblem(Struct, kw_only=True):
    """How `/user/*` says what is wrong."""

    code: int
    errorMessage: str
    url: str
    outcome: Literal["unknown"] | UnsetType = UNSET
