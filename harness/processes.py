"""Finds every process that belongs to one started by a test, so that none outlives it unnoticed.

A service may move a child to a session of its own, and an orphan loses its parent: hence both, the session's members
and the descendants. Reads /proc, so Linux only.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent_pid: int
    session_id: int
    command: str


def family(root_pid: int) -> list[Process]:
    """The living processes of the session that `root_pid` leads, and all descendants of any of them."""
    living = _living()
    members = {one.pid for one in living if root_pid in (one.pid, one.session_id)}
    grown = True
    while grown:
        children = {one.pid for one in living if one.parent_pid in members} - members
        members |= children
        grown = bool(children)
    return [one for one in living if one.pid in members]


def is_alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie does not."""
    found = _read(Path("/proc") / str(pid))
    return found is not None


def kill_each(pids: list[int], signal_number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            continue


def _living() -> list[Process]:
    found = (_read(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [one for one in found if one is not None]


def _read(entry: Path) -> Process | None:
    try:
        stat = (entry / "stat").read_text()
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
    state, parent_pid, _group_id, session_id = stat.rpartition(")")[2].split()[:4]
    if state in "ZX":
        return None
    return Process(int(entry.name), int(parent_pid), int(session_id), command)
