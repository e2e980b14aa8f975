"""Standard input as lines, however the program and its input end."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Iterator

import pytest

from gate.cli.client_staying import StdinLines

SOON_S = 10.0


@pytest.fixture
def typed() -> Iterator[int]:
    """Where to write what standard input then has."""
    kept, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    yield writing
    os.dup2(kept, 0)
    for descriptor in (kept, reading):
        os.close(descriptor)


def test_lines_in_their_order_and_then_the_end(typed: int) -> None:
    async def taken() -> list[bytes | None]:
        lines = StdinLines()
        lines.start()
        return [await lines.take() for _ in range(5)]

    os.write(typed, b"one\n\ntwo\nthree without an end")
    os.close(typed)
    assert asyncio.run(taken()) == [b"one", b"two", b"three without an end", None, None]


def test_a_line_that_comes_when_the_program_is_at_its_end_is_no_noise(typed: int) -> None:
    async def begin() -> None:
        StdinLines().start()

    before = threading.enumerate()
    asyncio.run(begin())
    (reading,) = [one for one in threading.enumerate() if one not in before]
    with warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        os.write(typed, b"too late\n")
        os.close(typed)
        reading.join(SOON_S)
    assert not reading.is_alive()
    assert [str(one.message) for one in noise] == []
