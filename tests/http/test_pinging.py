"""Pings go to each WebSocket once in its time, however many there are, and not to all in one moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from gate.http.pushing import Pushing
from harness.waiting import wait_until_async

EVERY_S = 0.2
IN_TIME_S = 10.0


class Counted:
    """A client that notes when it was pinged, and is gone after so many."""

    def __init__(self, until: int) -> None:
        self.at_s: list[float] = []
        self._until = until

    async def ping(self) -> float | None:
        self.at_s.append(asyncio.get_running_loop().time())
        return EVERY_S if len(self.at_s) < self._until else None

    @property
    def is_gone(self) -> bool:
        return len(self.at_s) == self._until


@pytest.fixture
async def pinging() -> AsyncIterator[Pushing]:
    pinging = Pushing()
    yield pinging
    await pinging.aclose()


@pytest.mark.parametrize("many", [1, 3, 500])
async def test_each_has_its_whole_time_for_an_answer(pinging: Pushing, many: int) -> None:
    clients = [Counted(until=3) for _ in range(many)]
    for number, one in enumerate(clients):
        pinging.add(one.ping, EVERY_S * number / many)
    await wait_until_async(lambda: all(one.is_gone for one in clients), IN_TIME_S, "everybody to be pinged three times")
    for one in clients:
        assert all(later - sooner >= EVERY_S for sooner, later in zip(one.at_s, one.at_s[1:], strict=False))


async def test_none_is_pinged_before_its_moment(pinging: Pushing) -> None:
    clients = [Counted(until=1) for _ in range(100)]
    began_s = asyncio.get_running_loop().time()
    for share, one in enumerate(clients):
        pinging.add(one.ping, EVERY_S * share / 100)
    await wait_until_async(lambda: all(one.is_gone for one in clients), IN_TIME_S, "everybody to be pinged")
    for share, one in enumerate(clients):
        assert one.at_s[0] - began_s >= EVERY_S * share / 100


async def test_one_that_is_due_before_all_others_does_not_wait_for_them(pinging: Pushing) -> None:
    late, soon = Counted(until=1), Counted(until=1)
    pinging.add(late.ping, 3 * IN_TIME_S)
    await asyncio.sleep(0)  # the task sleeps until the late one is due
    pinging.add(soon.ping, EVERY_S)
    await wait_until_async(lambda: soon.is_gone, IN_TIME_S, "the sooner one to be pinged")
    assert not late.at_s


async def test_a_client_that_is_gone_is_not_pinged_again(pinging: Pushing) -> None:
    gone, stays = Counted(until=1), Counted(until=4)
    pinging.add(gone.ping)
    pinging.add(stays.ping)
    await wait_until_async(lambda: stays.is_gone, IN_TIME_S, "the one that stays to be pinged four times")
    assert len(gone.at_s) == 1


async def test_it_goes_on_after_no_client_was_there(pinging: Pushing) -> None:
    for _ in range(2):
        one = Counted(until=1)
        pinging.add(one.ping)
        await wait_until_async(partial(getattr, one, "is_gone"), IN_TIME_S, "a client to be pinged")
