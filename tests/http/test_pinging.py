"""Pings go to each WebSocket once in its time, however many there are, and not to all in one moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from gate.http.pinging import Pinging
from harness.waiting import wait_until_async

EVERY_S = 0.2
IN_TIME_S = 10.0


class Counted:
    """A client that notes when it was pinged, and is gone after so many."""

    def __init__(self, until: int) -> None:
        self.at_s: list[float] = []
        self._until = until

    async def ping(self) -> bool:
        self.at_s.append(asyncio.get_running_loop().time())
        return len(self.at_s) < self._until

    @property
    def is_gone(self) -> bool:
        return len(self.at_s) == self._until


@pytest.fixture
async def pinging() -> AsyncIterator[Pinging]:
    pinging = Pinging(EVERY_S)
    yield pinging
    await pinging.aclose()


@pytest.mark.parametrize("many", [1, 3, 500])
async def test_each_has_its_whole_time_for_an_answer(pinging: Pinging, many: int) -> None:
    clients = [Counted(until=3) for _ in range(many)]
    for one in clients:
        pinging.add(one.ping)
    await wait_until_async(lambda: all(one.is_gone for one in clients), IN_TIME_S, "everybody to be pinged three times")
    for one in clients:
        assert all(later - sooner >= EVERY_S for sooner, later in zip(one.at_s, one.at_s[1:], strict=False))


async def test_those_who_came_together_are_not_pinged_together() -> None:
    draws = iter(number / 100 for number in range(100))
    pinging = Pinging(EVERY_S, lambda: next(draws))
    clients = [Counted(until=1) for _ in range(100)]
    began_s = asyncio.get_running_loop().time()
    for one in clients:
        pinging.add(one.ping)
    await wait_until_async(lambda: all(one.is_gone for one in clients), IN_TIME_S, "everybody to be pinged")
    await pinging.aclose()
    for share, one in enumerate(clients):
        assert one.at_s[0] - began_s >= EVERY_S * share / 100


async def test_a_client_that_is_gone_is_not_pinged_again(pinging: Pinging) -> None:
    gone, stays = Counted(until=1), Counted(until=4)
    pinging.add(gone.ping)
    pinging.add(stays.ping)
    await wait_until_async(lambda: stays.is_gone, IN_TIME_S, "the one that stays to be pinged four times")
    assert len(gone.at_s) == 1


async def test_it_goes_on_after_no_client_was_there(pinging: Pinging) -> None:
    for _ in range(2):
        one = Counted(until=1)
        pinging.add(one.ping)
        await wait_until_async(partial(getattr, one, "is_gone"), IN_TIME_S, "a client to be pinged")
