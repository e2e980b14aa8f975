"""In which slice a User is: the rule is part of the stored format, so it is fixed here in numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from gate.core.slices import BUCKETS, MAX_SLICES, UNSLICED, Slicing, bucket_of, slicing_of

USERS = [b"user-%d" % nth for nth in range(20_000)]


def test_the_rule_is_what_it_was() -> None:
    assert [bucket_of(user) for user in (b"ann", b"bob", b"\0", b"")] == BUCKETS_OF_FOUR
    assert [Slicing(8).place(user) for user in USERS[:12]] == PLACES_OF_TWELVE


BUCKETS_OF_FOUR = [2883, 3285, 328, 0]
PLACES_OF_TWELVE = [6, 4, 1, 7, 5, 1, 0, 3, 6, 6, 4, 7]


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 2, 3, 8, 13, 63, 64])
def test_slices_have_as_many_buckets_as_each_other(slices: int) -> None:
    by_bucket = {bucket_of(user): Slicing(slices).place(user) for user in (b"%d" % nth for nth in range(100_000))}
    assert len(by_bucket) == BUCKETS
    held = Counter(by_bucket.values())
    assert sorted(held) == list(range(slices))
    assert max(held.values()) - min(held.values()) <= 1


@pytest.mark.parametrize(("before", "slices"), [(1, 2), (1, 8), (2, 3), (3, 64), (63, 64)])
@pytest.mark.slow
def test_growth_moves_users_to_new_slices_alone_and_no_more_than_it_must(before: int, slices: int) -> None:
    growth = Slicing(slices, before)
    moved = [user for user in USERS if growth.origin(user) != growth.place(user)]
    assert all(growth.origin(user) < before <= growth.place(user) for user in moved)
    assert len(moved) / len(USERS) == pytest.approx((slices - before) / slices, abs=0.02)


def test_a_user_that_does_not_move_is_where_it_was() -> None:
    settled = Slicing(5)
    assert all(settled.origin(user) == settled.place(user) < 5 for user in USERS[:100])
    assert {UNSLICED.place(user) for user in USERS[:100]} == {0}


@pytest.mark.parametrize("slicing", [UNSLICED, Slicing(8), Slicing(8, 1), Slicing(MAX_SLICES, 63)])
def test_a_word_says_what_it_was_made_of(slicing: Slicing) -> None:
    assert slicing_of(slicing.word) == slicing


@pytest.mark.parametrize("word", ["", "0", "65", "08", "1>", ">8", "1>2>3", "-1", "eight"])
def test_a_word_of_another_version_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="does not understand"):
        slicing_of(word)
