"""The answer to "may A message B?": `allowed`, or one reason why not.

The words are a contract: routers, dashboards and clients store and compare them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Word = Literal[
    "allowed",
    "sender-unknown",
    "sender-deactivated",
    "sender-banned",
    "sender-muted",
    "recipient-unknown",
    "recipient-deactivated",
    "not-whitelisted",
    "blacklisted",
]


ALLOWED: Word = "allowed"


class Verdict(NamedTuple):
    """A decision. `until_ms` is the moment at which it may change by itself (a fact ends), or None if it can't."""

    word: Word
    until_ms: int | None

    @property
    def allowed(self) -> bool:
        """Whether the message may be sent."""
        return self.word == ALLOWED
