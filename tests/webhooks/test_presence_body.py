"""The array that a presence webhook receives: RongCloud's names and words, whatever the entry of the feed."""

from __future__ import annotations

import orjson
import pytest

from gate.core.presence import KINDS, Cursor, Event, Kind
from gate.webhooks.presence_body import body_of, webhook_events


def event(kind: Kind = "online", user: bytes = b"ann", why: str = "", since_ms: int = 1_700_000_000_123) -> Event:
    cursor = Cursor("e", 7, 1_700_000_000_999_000)
    return Event(cursor, kind, user, "abcdefghijk.YW5u", "iOS", b"edge-1", "10.0.0.1:5000", why, since_ms)


def test_a_change_has_rongcloud_s_members_and_types() -> None:
    assert orjson.loads(body_of([event()])) == [
        {
            "userid": "ann",
            "status": "0",
            "os": "iOS",
            "time": 1_700_000_000_123,
            "clientIp": "10.0.0.1:5000",
            "sessionId": "abcdefghijk.YW5u",
        }
    ]


@pytest.mark.parametrize(
    ("kind", "why", "status"),
    [
        ("online", "", "0"),
        ("platform-online", "", "0"),
        ("offline", "closed", "1"),
        ("offline", "lease-ended", "1"),
        ("offline", "logout", "2"),
        ("platform-offline", "banned", "1"),
        ("platform-offline", "logout", "2"),
    ],
)
def test_a_status_is_said_as_rongcloud_does(kind: Kind, why: str, status: str) -> None:
    assert orjson.loads(body_of([event(kind, why=why)]))[0]["status"] == status


def test_all_kinds_but_kicks_are_delivered() -> None:
    assert [one.kind for one in webhook_events([event(kind) for kind in KINDS])] == [
        kind for kind in KINDS if kind != "kick"
    ]


@pytest.mark.parametrize(
    ("user", "userid"), [("é".encode(), "é"), (b'"\x00\n', '"\x00\n'), (b"a\xff", {"b64": "Yf8="})]
)
def test_an_id_of_any_bytes_is_delivered(user: bytes, userid: object) -> None:
    assert orjson.loads(body_of([event(user=user)]))[0]["userid"] == userid


def test_a_batch_keeps_its_order() -> None:
    users = [b"c", b"a", b"b"]
    assert [one["userid"] for one in orjson.loads(body_of([event(user=user) for user in users]))] == ["c", "a", "b"]
