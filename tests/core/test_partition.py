"""The Partition of a User is part of the stored format: these numbers may never change."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.revision import DEFAULT_PARTITIONS, partition_of, partitions_of

USERS = 20_000


@pytest.mark.parametrize(
    ("app", "user", "expected"),
    [("default", b"ana", 11), ("default", b"bob", 9), ("a", b"\0", 5), ("default", "客服".encode(), 15)],
)
def test_known_users_stay_where_they_are(app: str, user: bytes, expected: int) -> None:
    assert partition_of(app, user, DEFAULT_PARTITIONS) == expected


@given(st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True), st.binary(min_size=1, max_size=64), st.integers(1, 1024))
def test_it_is_the_crc_of_key_nul_id(app: str, user: bytes, partitions: int) -> None:
    partition = partition_of(app, user, partitions)
    assert partition == crc32(app.encode() + b"\0" + user) % partitions
    assert 0 <= partition < partitions


@given(st.lists(st.binary(min_size=1, max_size=64)), st.integers(1, 1024))
def test_those_of_several_users_come_once_and_in_order(users: list[bytes], partitions: int) -> None:
    each = {partition_of("default", user, partitions) for user in users}
    assert partitions_of("default", users, partitions) == sorted(each)


def test_numbered_users_spread_evenly() -> None:
    counts = [0] * DEFAULT_PARTITIONS
    for number in range(USERS):
        counts[partition_of("default", b"user%d" % number, DEFAULT_PARTITIONS)] += 1
    fair = USERS / DEFAULT_PARTITIONS
    assert all(0.85 * fair < count < 1.15 * fair for count in counts)
