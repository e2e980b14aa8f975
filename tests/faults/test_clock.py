"""The wall clock jumps: Bans end and begin again by it, and nothing that waits, leases or measures age takes notice.

The real service runs on a wall clock that the test can set: a module that Python loads at every start adds an offset, which it
reads off a mapped file, to `time.time_ns`. The monotonic clock and Redis's own stay as they are.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from tests.faults.node import Node
from tests.faults.steady import Steady
from tests.harness.service import Services

HOUR_MS = 3_600_000
PATCH = """
import mmap, struct, time
with open({path!r}, "rb") as file:
    page = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
real_ns = time.time_ns
time.time_ns = lambda: real_ns() + struct.unpack("q", page[:8])[0] * 1_000_000
"""


class WallClock:
    """Set by `jump`; `env` makes a service run on it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "offset"
        self.jump(0)
        (directory / "sitecustomize.py").write_text(PATCH.format(path=str(self._path)))
        self.env = {
            "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        }

    def jump(self, offset_ms: int) -> None:
        """In place: who has the file mapped sees it at once."""
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(struct.pack("q", offset_ms))


def test_bans_end_by_the_wall_clock_and_nothing_else_does(start_service: Services, tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    node = Node(start_service.start(env=clock.env))
    answer = node.http.call("POST", "/v1/bans", {"users": ["an hour"], "seconds": 3_600})
    assert answer.applied == "all", answer
    lasting = ("lasting", "x")
    assert node.http.call("POST", "/v1/bans", {"users": ["lasting"], "permanent": True}).applied == "all"
    banned, free = {("an hour", "x"): "sender-banned"}, {("an hour", "x"): "allowed"}
    node.asserts(banned)
    with Steady(node.service, {lasting: "sender-banned"}, without=["replica"]):
        for offset_ms, expected in ((2 * HOUR_MS, free), (-2 * HOUR_MS, banned), (24 * HOUR_MS, free), (0, banned)):
            clock.jump(offset_ms)
            node.asserts(expected)
            assert node.stale_ms() == 0
            assert node.http.ban("somebody").applied == "all"
        node.wait_whole()
