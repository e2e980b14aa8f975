"""What Apps in shadow mode would have been denied, in Redis: counts by hour, and the most frequent Users and pairs by day.

They lie with the App's Presence, which workers and HTTP processes reach anyway, and are removed with it. Each process adds its
counts some times a minute (`gate.service.shadow_reporter`). Moments are hours and days of UTC since 1970.
"""

from __future__ import annotations

import msgspec

from gate.core.shadow import TOP, DayOfShadow, HourOfShadow, ShadowCounts, ShadowHistory
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.client import Client
from gate.store.scripts import Call

KEPT_DAYS = 8
"""A week, and the day that has just begun."""


class _Added(msgspec.Struct, rename={"checks": "c", "reasons": "r", "senders": "s", "recipients": "t", "pairs": "p"}):
    """The argument of the script. Ids are hex, since JSON holds no other bytes."""

    checks: int
    reasons: dict[str, int]
    senders: dict[str, int]
    recipients: dict[str, int]
    pairs: dict[str, int]


class _Hour(msgspec.Struct):
    c: int
    r: dict[str, int]


class _Day(msgspec.Struct):
    s: dict[str, int]
    t: dict[str, int]
    p: dict[str, int]


async def add_shadow_counts(client: Client, app_key: str, hour: int, counts: ShadowCounts) -> None:
    """Add counts of one hour. Raises `StoreUnavailable`."""
    added = _Added(
        checks=counts.checks,
        reasons=counts.reasons,
        senders={one.hex(): count for one, count in counts.senders.items()},
        recipients={one.hex(): count for one, count in counts.recipients.items()},
        pairs={f"{a.hex()}/{b.hex()}": count for (a, b), count in counts.pairs.items()},
    )
    args = hour, KEPT_DAYS, TOP, msgspec.json.encode(added)
    await client.write([Call(scripts.PRESENCE_SHADOW, [keys.base(app_key)], args)])


async def read_shadow_history(client: Client, app_key: str) -> ShadowHistory:
    """Return all that is kept of an App, the oldest first. Raises `StoreUnavailable`."""
    (flat,) = await client.read(("HGETALL", keys.shadow(app_key)))
    hours, days = list[HourOfShadow](), list[DayOfShadow]()
    for field, packed in zip(flat[::2], flat[1::2], strict=True):
        at = int(field[1:])
        if field.startswith(b"h"):
            hour = msgspec.json.decode(packed, type=_Hour)
            hours.append(HourOfShadow(at, hour.c, hour.r))
        else:
            day = msgspec.json.decode(packed, type=_Day)
            days.append(DayOfShadow(at, _ids(day.s), _ids(day.t), _pairs(day.p)))
    return ShadowHistory(sorted(hours), sorted(days, key=lambda one: one.day))


def _ids(table: dict[str, int]) -> dict[bytes, int]:
    return {bytes.fromhex(one): count for one, count in table.items()}


def _pairs(table: dict[str, int]) -> dict[tuple[bytes, bytes], int]:
    pairs = {}
    for one, count in table.items():
        sender, _, recipient = one.partition("/")
        pairs[bytes.fromhex(sender), bytes.fromhex(recipient)] = count
    return pairs
