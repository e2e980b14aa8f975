"""A User's record to bytes and back: exact for every value, short for most, and clear about bytes of another form."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.model import FOREVER_MS, NO_FACTS, UserFacts
from gate.replica.layout import (
    LIST_NUMBERS,
    NO_LISTS,
    UserRecord,
    pack_journal,
    pack_user_record,
    unpack_journal,
    unpack_user_record,
    user_prefix,
)

ids = st.binary(min_size=1, max_size=64)
moments = st.integers(0, FOREVER_MS)
sizes = st.integers(0, (1 << 32) - 1)
users = st.builds(
    UserFacts,
    registered=st.booleans(),
    deactivated=st.booleans(),
    whitelist_on=st.booleans(),
    banned_until_ms=moments,
    muted_until_ms=moments,
    tokens_valid_from_ms=moments,
    blacklist_size=sizes,
    whitelist_size=sizes,
)


@given(users, st.integers(1, LIST_NUMBERS - 1))
def test_a_users_record_comes_back_as_it_was(facts: UserFacts, lists: int) -> None:
    has_entries = facts.blacklist_size or facts.whitelist_size
    assert unpack_user_record(pack_user_record(facts, lists)) == UserRecord(facts, lists if has_entries else NO_LISTS)


def test_a_user_without_facts_is_one_byte_and_one_with_a_ban_nine() -> None:
    assert pack_user_record(NO_FACTS, NO_LISTS) == b"\0"
    assert len(pack_user_record(UserFacts(banned_until_ms=FOREVER_MS), NO_LISTS)) == 9
    assert len(pack_user_record(UserFacts(blacklist_size=1), 7)) == 9


@given(users)
def test_a_users_record_with_a_tail_or_without_its_end_is_refused(facts: UserFacts) -> None:
    packed = pack_user_record(facts, 7)
    with pytest.raises((ValueError, struct.error)):
        unpack_user_record(packed + b"\0")
    if len(packed) > 1:
        with pytest.raises((ValueError, struct.error)):
            unpack_user_record(packed[:-1])


@given(st.lists(st.tuples(st.integers(0, (1 << 24) - 1), ids)))
def test_a_journal_names_the_users_of_the_keys_it_was_made_of(touched: list[tuple[int, bytes]]) -> None:
    packed = pack_journal(user_prefix(number) + user for number, user in touched)
    assert list(unpack_journal(packed)) == touched
