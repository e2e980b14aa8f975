from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from gate.core.model import ListKind
from gate.store import keys
from tests.store.odd_ids import ODD_IDS

PARTITIONS = st.integers(0, 1_023)
APPS = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
IDS = st.binary(min_size=1, max_size=64)


def user_keys(partition: int, app: str, user: bytes) -> dict[str, bytes]:
    return {
        "user": keys.user(partition, app, user),
        "black": keys.entries(partition, ListKind.BLACKLIST, app, user),
        "black-ends": keys.ends(partition, ListKind.BLACKLIST, app, user),
        "white": keys.entries(partition, ListKind.WHITELIST, app, user),
        "white-ends": keys.ends(partition, ListKind.WHITELIST, app, user),
    }


def all_keys(partition: int, app: str, user: bytes) -> list[bytes]:
    return [
        *user_keys(partition, app, user).values(),
        keys.meta(partition),
        keys.log(partition),
        keys.bans(partition, app),
        keys.mutes(partition, app),
        keys.users(partition, app),
    ]


@given(PARTITIONS, APPS, IDS)
def test_every_key_of_a_partition_lies_in_one_slot(partition: int, app: str, user: bytes) -> None:
    assert len({key_slot(key) for key in all_keys(partition, app, user)}) == 1


@given(PARTITIONS, APPS, IDS)
def test_every_key_matches_exactly_one_documented_pattern(partition: int, app: str, user: bytes) -> None:
    patterns = [re.compile(pattern.encode(), re.DOTALL) for pattern in keys.PATTERNS]
    for key in [*all_keys(partition, app, user), keys.quota(app), keys.apps(), keys.operators(), keys.NODES]:
        assert sum(bool(pattern.fullmatch(key)) for pattern in patterns) == 1, key


@given(PARTITIONS, APPS, IDS)
def test_a_users_key_gives_its_parts_back(partition: int, app: str, user: bytes) -> None:
    for noun, key in user_keys(partition, app, user).items():
        assert keys.parse(key) == (partition, noun, app, user)


@pytest.mark.parametrize("user", ODD_IDS)
def test_no_two_things_share_a_key(user: bytes) -> None:
    others = [key for other in ODD_IDS if other != user for key in all_keys(1, "default", other)[:5]]
    mine = all_keys(1, "default", user)
    assert len(set(mine)) == len(mine)
    assert not set(mine) & set(others)


@pytest.mark.parametrize(
    "key", [keys.meta(1), keys.log(1), keys.apps(), keys.bans(1, "a"), keys.NODES, b"gate:{1}:user:a:"]
)
def test_other_keys_belong_to_no_user(key: bytes) -> None:
    assert keys.parse(key) is None
