"""`DIR/run/SERVICE/service.json`: what a running service says of itself, so that commands in its data directory find it.

Written once its ports are taken, before its roles start; mode 0600, because the address of Redis may hold a password. It holds
what was chosen at this start: addresses with ports resolved, and each option with the place that it came from.

Whether the service still runs is asked of the kernel: it holds the lock of each of its roles for as long as it lives, so what a
`kill -9` leaves is ignored, also by a command in another container that can't see its process id.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gate.errors import Unavailable
from gate.service.directory_layout import DirectoryLayout, write_private

SERVICE_FILE = "service.json"
RUN_FOLDER = "run"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One service. What does not run in it is None; `redis` is None for the embedded server of its data directory."""

    pid: int
    version: str
    started_at_ms: int
    node_id: str
    node_name: str
    host: str
    roles: tuple[str, ...]
    redis: str | None
    presence_redis: str | None
    http: str | None
    admin: str | None = None
    resp: str | None
    unix: str | None
    health: str | None
    resp_tls: str | None = None
    http_tls: str | None = None
    options: Mapping[str, tuple[str | None, str]]
    """Of each option its text and where that came from. Secrets are left out of the text."""


def note_running(layout: DirectoryLayout, running: Running) -> None:
    """Write it."""
    # In one step: a command may read at any moment.
    write_private(layout.service / SERVICE_FILE, msgspec.json.format(msgspec.json.encode(running), indent=2) + b"\n")


def forget_running(layout: DirectoryLayout) -> None:
    """The service ends."""
    (layout.service / SERVICE_FILE).unlink(missing_ok=True)


def running_services(data: Path) -> list[Running]:
    """The services that run in this data directory now: one, or several that share its roles."""
    try:
        folders = sorted(path for path in (data / RUN_FOLDER).iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    # The lock is looked at first: a file that is not held may be of any earlier version.
    return [running for folder in folders if _is_held(folder) for running in _read(folder / SERVICE_FILE)]


def _is_held(folder: Path) -> bool:
    """A service's folder is named after its first role, whose lock it holds."""
    try:
        descriptor = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two commands do not take each other for the service.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(path: Path) -> Iterator[Running]:
    try:
        yield msgspec.json.decode(path.read_bytes(), type=Running)
    except FileNotFoundError:  # it is about to be written, or of a version that wrote none
        return
    except msgspec.DecodeError as fault:
        raise Unavailable(f"{path} is not what this version of `gate serve` writes ({fault}): restart it") from None
