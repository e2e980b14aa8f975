"""Moments as RongCloud prints them."""

from __future__ import annotations

import pytest

from gate.core.model import FOREVER_MS
from gate.http.rongcloud.endpoint import LAST_PRINTABLE, time_text


@pytest.mark.parametrize(
    ("at_ms", "offset_minutes", "text"),
    [
        (0, 0, "1970-01-01 00:00:00"),
        (0, 480, "1970-01-01 08:00:00"),
        (1_665_601_025_006, 480, "2022-10-13 02:57:05"),
        (1_665_601_025_999, 0, "2022-10-12 18:57:05"),
        (1_665_601_025_006, -210, "2022-10-12 15:27:05"),
        (253_402_300_799_000, 0, "9999-12-31 23:59:59"),
        (253_402_300_800_000, 0, LAST_PRINTABLE),
        (FOREVER_MS, 480, LAST_PRINTABLE),
    ],
)
def test_printed_in_the_apps_time_zone(at_ms: int, offset_minutes: int, text: str) -> None:
    assert time_text(at_ms, offset_minutes) == text
