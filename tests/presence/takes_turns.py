"""Follows a feed from its beginning, and objects to a hole, and to a User that goes online or offline twice."""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.presence import Event


class TakesTurns:
    """`on` is where followers believe each User to be: the platforms that came and did not go."""

    def __init__(self) -> None:
        self.seq = 0
        self.on: dict[bytes, set[str]] = {}

    def follow(self, events: Sequence[Event]) -> None:
        for event in events:
            self.seq += 1
            assert event.cursor.many == self.seq
            on = self.on.setdefault(event.user, set())
            _TURNS[event.kind](on, event.platform)


def _arrive(on: set[str], platform: str, is_first: bool) -> None:
    assert platform not in on
    assert is_first == (not on)
    on.add(platform)


def _leave(on: set[str], platform: str, is_last: bool) -> None:
    on.remove(platform)
    assert is_last == (not on)


_TURNS = {
    "online": lambda on, platform: _arrive(on, platform, True),
    "platform-online": lambda on, platform: _arrive(on, platform, False),
    "offline": lambda on, platform: _leave(on, platform, True),
    "platform-offline": lambda on, platform: _leave(on, platform, False),
    "kick": lambda on, platform: None,
}
