"""Answers that no handler declares: errors and probes."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from gate.http.fields import IdJson


class Problem(Struct, kw_only=True):
    """What is wrong: a stable word for programs, a text for people."""

    error: str
    message: str
    parameter: str | UnsetType = UNSET
    outcome: Literal["unknown"] | UnsetType = UNSET


class TokenProblem(Problem, kw_only=True):
    """As `Problem`; `until` with `user-banned`, null for a Ban without end."""

    until: int | UnsetType | None = UNSET


class ListedOrNot(Struct, kw_only=True):
    """Whether one User is on the caller's Blacklist. `until` null: for good, or not at all."""

    user: IdJson
    listed: bool
    until: int | None


class Alive(Struct, kw_only=True):
    """The process answers."""

    status: Literal["ok"]


class Ready(Struct, kw_only=True):
    """This node may get traffic."""

    ready: Literal[True]
    stale_ms: int | None
    warnings: list[str] | UnsetType = UNSET


class NotReady(Struct, kw_only=True):
    """What this node waits for."""

    ready: Literal[False]
    missing: list[str]
