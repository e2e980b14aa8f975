"""The waits: they return the value, and fail in time with a name."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import NotInTime, wait_until, wait_until_async


def test_returns_the_first_true_value() -> None:
    answers = iter([None, 0, "", "here"])
    assert wait_until(lambda: next(answers), 1, "an answer") == "here"


def test_names_what_it_waited_for() -> None:
    with pytest.raises(NotInTime, match=r"waited 0\.02 s for: the moon"):
        wait_until(lambda: False, 0.02, "the moon")


def test_what_the_condition_raises_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, 1, "a quotient")


async def test_async_takes_plain_and_coroutine_conditions() -> None:
    arrived = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, arrived.set)

    async def has_arrived() -> bool:
        return arrived.is_set()

    assert await wait_until_async(arrived.is_set, 1, "the event") is True
    assert await wait_until_async(has_arrived, 1, "the event") is True


async def test_async_deadline_holds_for_a_condition_that_hangs() -> None:
    with pytest.raises(NotInTime, match="a reply"):
        await wait_until_async(asyncio.Event().wait, 0.05, "a reply")
