"""What one check of `gate doctor` found."""

from __future__ import annotations

from typing import Literal, NamedTuple

# `warn` leaves the exit status 0: a monitor that runs `gate doctor` is to ring for failures only.
Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """A subject, what was found of it, and what to do (empty if nothing)."""

    level: Level
    subject: str
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", subject, found)


def warn(subject: str, found: str, advice: str) -> Finding:
    """It works, but not as well or as safely as it should."""
    return Finding("warn", subject, found, advice)


def fail(subject: str, found: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding("fail", subject, found, advice)
