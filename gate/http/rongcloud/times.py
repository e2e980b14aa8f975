"""Moments as RongCloud prints them: `YYYY-MM-DD HH:MM:SS` in the App's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

LAST_PRINTABLE = "9999-12-31 23:59:59"
"""Printed for what never ends, and for anything past the year that four digits hold."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(at_ms: int, utc_offset_minutes: int) -> str:
    """The moment's wall-clock text, whole seconds, cut off."""
    try:
        moment = _EPOCH + timedelta(seconds=at_ms // 1_000, minutes=utc_offset_minutes)
    except OverflowError:
        return LAST_PRINTABLE
    return moment.strftime("%Y-%m-%d %H:%M:%S")
