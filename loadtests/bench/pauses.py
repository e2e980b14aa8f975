"""The longest pause of a node's worker, as `pauses.c` writes it down in the worker's own process."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from harness.service import GateService

SOURCE = Path(__file__).with_name("pauses.c")
WORKER = "gate.service.role worker"
LAYOUT = struct.Struct("=4q")


class Pause(NamedTuple):
    """Between two looks at the sockets."""

    own_ms: float
    """The longest one: CPU time, and what its thread slept; not the time that it waited for a processor."""
    cpu_ms: float
    """The CPU time of the same."""
    wall_ms: float
    """The longest one, all of it."""
    looks: int


def page_of(node: GateService, folder: Path) -> Path:
    """Where the worker of a node with one worker writes."""
    (worker,) = [one.pid for one in node.processes() if WORKER in one.command]
    return folder / str(worker)


def read(page: Path) -> Pause:
    """What was the longest up to now."""
    own_ns, cpu_ns, wall_ns, looks = LAYOUT.unpack(page.read_bytes())
    return Pause(own_ns / 1e6, cpu_ns / 1e6, wall_ns / 1e6, looks)


def forget(page: Path) -> None:
    """Begin again. The file is mapped, so it is written in place."""
    with page.open("r+b") as file:
        file.write(bytes(LAYOUT.size))
