"""What the system allows a service: open files, address space and memory. Too little of one is a reason to refuse the start.

Each is looked at before anything is started, because what a service does without is hard to read later: connections that are
reset, a Replica that can't be mapped, processes that the kernel kills one after the other.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from gate.config import ServeConfig
from gate.errors import CannotStart
from gate.option_values import Role
from gate.replica.layout import MAP_BYTES

# What a role has open besides its clients: 32 at most when it is idle, and another Replica and Redis for a moment.
OWN_FILES = 48
LEAST_FILES = 64
# In the supervisor: the channel to a role, and what its start takes for a moment.
FILES_OF_A_CHILD = 4
# Below that, the bounds that follow are worth a log line.
FEW_FILES = 1_024

# Of the Replica in one process: the replicator's own, a snapshot, a compacted copy, and the file that was replaced.
MAPS_AT_ONCE = 4
SUPERVISOR_BYTES = 32 << 20
# Each Python process has 20 to 36 MB of its own when idle; below that the kernel kills one to start another.
ROLE_BYTES = 36 << 20
SERVER_BYTES = 12 << 20

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Version 1 words no limit as a number near 2^63.
_ANY_LIMIT_BYTES = 1 << 60


def raise_file_limit() -> int:
    """Allow as many open files as the machine's owner does at all; how many that is."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return most
    return soft


def forbid_core_files() -> None:
    """Let no crash write a core file, of this process or of one that it starts: the memory of each holds all secrets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def most_clients(files: int) -> int:
    """How many connections a process may hold that may have so many files open."""
    return max(1, files - OWN_FILES)


def processes_of(role: Role, config: ServeConfig) -> int:
    """How many processes run this role."""
    return {"worker": config.workers, "http": config.http_workers}.get(role, 1)


def require_limits(config: ServeConfig) -> int:
    """`CannotStart` names the limit that is too low for these roles; answers how many files a process may have open."""
    files = raise_file_limit()
    processes = sum(processes_of(role, config) for role in config.role)
    least_files = max(LEAST_FILES, LEAST_FILES // 2 + FILES_OF_A_CHILD * processes)
    if files < least_files:
        raise CannotStart(f"needs at least {least_files} open files (ulimit -n, LimitNOFILE=), {files} are allowed")
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < MAPS_AT_ONCE * MAP_BYTES:
        raise CannotStart(
            f"the address space is limited to {space >> 20:,} MiB (ulimit -v, LimitAS=): the Replica is mapped with room to "
            f"grow, which needs {MAPS_AT_ONCE * MAP_BYTES >> 40} TiB of addresses but no memory; lift that limit, and limit "
            "memory by a cgroup (MemoryMax=)"
        )
    memory = memory_limit(_CGROUPS, _OWN_CGROUPS)
    needed = SUPERVISOR_BYTES + sum(
        SERVER_BYTES if role == "redis" else ROLE_BYTES * processes_of(role, config) for role in config.role
    )
    if memory is not None and memory < needed:
        raise CannotStart(
            f"memory is limited to {memory >> 20:,} MiB (cgroup): these roles need {needed >> 20:,} MiB before any facts; "
            "raise the limit, or run fewer workers or roles here"
        )
    return files


def memory_limit(mounted: Path, own: Path) -> int | None:
    """The least limit of this process's cgroup and those around it, in bytes; None for no limit."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            limits += _limits(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(mounted / "memory", path, "memory.limit_in_bytes")
    return min((limit for limit in limits if limit < _ANY_LIMIT_BYTES), default=None)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Of the group and all above it; in a container its path may be the host's, and only the root is there."""
    group = root / path.strip("/")
    found = []
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):
            found.append(int((folder / name).read_text()))
        if folder == root:
            break
    return found
