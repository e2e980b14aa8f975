"""The files of a data directory, and the locks that keep two services from sharing one.

    DIR/credentials.json     the first App's key and secret, the operator's name and password (0600)
    DIR/node-id              this node's name in the deployment, made once
    DIR/replica/             the Replica; see `gate.replica.layout`
    DIR/redis/               the embedded server: append-only file, log, unix socket
    DIR/run/ROLE.lock        held by the service that runs this role here; holds its pid, and the namespace that is of
    DIR/run/SERVICE/         of one service (named after its first role): heartbeats, metrics, and service.json (`running`)

Locks are the kernel's, so nothing stale is ever left after a `kill -9`. Each role has its own: containers may split the roles
of one data directory among them, while two services with the same role are refused. So are containers that don't share their
process ids, where a role of each opens the Replica: LMDB knows readers by these ids, and a collision is a matter of time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from pathlib import Path

from gate.errors import CannotStart
from gate.option_values import Role
from gate.replica.layout import boot_id

# Those that open the Replica.
REPLICA_ROLES: frozenset[Role] = frozenset({"replicator", "worker", "http"})
MAX_HOLDER_BYTES = 64
# How long a lock that is in use is asked for again: a command that looks whether it is held has it for microseconds.
LOOKED_AT_S = 0.1
LOOK_EVERY_S = 0.01


class DirectoryLayout:
    """The paths of one data directory, for a service that runs `roles` there."""

    def __init__(self, data: Path, roles: tuple[Role, ...]) -> None:
        self.data = data
        self.credentials = data / "credentials.json"
        self.node_id = data / "node-id"
        self.replica = data / "replica"
        self.redis = data / "redis"
        self.run = data / "run"
        self.service = self.run / roles[0]
        self.heartbeats = self.service / "roles"
        self.metrics = self.service / "metrics"

    def prepare(self) -> None:
        """Create the directories, for this user's eyes only; `CannotStart` if that is impossible."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.replica, self.redis, self.run, self.service, self.metrics):
                folder.mkdir(mode=0o700, exist_ok=True)
            # To be sure of it now, and not when the first lock is taken: a folder may be there and read-only.
            write_private(self.run / "probe", b"")
            (self.run / "probe").unlink()
        except OSError as fault:
            problem = f"the data directory {self.data} can't be written: {fault.strerror}"
            raise CannotStart(f"{problem}; choose another with --data") from None


def write_private(path: Path, content: bytes, owner: os.stat_result | None = None) -> None:
    """Replace a file in one step, mode 0600, on disk when this returns; root leaves it to `owner`."""
    # In the same folder, since a rename is one step only within a file system.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        while content:  # a disk that is nearly full takes a part
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    except OSError as fault:
        draft.unlink(missing_ok=True)
        raise OSError(fault.errno, os.strerror(fault.errno or 0), str(path)) from None
    finally:
        os.close(descriptor)
    draft.replace(path)
    # The rename is the folder's, which a loss of power takes back unless the folder is synced too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def node_id(path: Path) -> str:
    """This node's id, 16 hex digits; made at the first call."""
    try:
        known = path.read_text().strip()
    except FileNotFoundError:
        known = ""
    if not known:
        known = secrets.token_hex(8)
        write_private(path, known.encode())
    return known


def directory_id(data: Path) -> str:
    """A word for this directory on this machine since its boot: a copy has another one, on another machine the same has."""
    there = data.stat()
    # With the boot's id, since a device has another number after a restart.
    return hashlib.sha256(b"%b %d %d" % (boot_id(), there.st_dev, there.st_ino)).hexdigest()[:16]


def lock_roles(layout: DirectoryLayout, roles: tuple[Role, ...]) -> list[int]:
    """Take the lock of each role; `CannotStart` names the service that has one. The descriptors hold them until exit."""
    locks = [_lock(layout, role) for role in roles]
    if REPLICA_ROLES & set(roles):
        for role in sorted(REPLICA_ROLES - set(roles)):
            _refuse_other_namespace(layout, role)
    return locks


def pid_namespace() -> str:
    """The kernel's name of the namespace that this process's id is of; "" where there is no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _lock(layout: DirectoryLayout, role: Role) -> int:
    descriptor = os.open(_lock_path(layout, role), os.O_RDWR | os.O_CREAT, 0o600)
    if not _taken(descriptor):
        holder, _ = _holder(descriptor)
        os.close(descriptor)
        raise CannotStart(f"another gate serve (pid {holder}) uses {layout.data}; stop it, or choose --data")
    _note_holder(descriptor, _lock_path(layout, role))
    return descriptor


def _taken(descriptor: int) -> bool:
    for _ in range(int(LOOKED_AT_S / LOOK_EVERY_S)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_EVERY_S)
        else:
            return True
    return False


def _note_holder(descriptor: int, path: Path) -> None:
    """All of the bytes at once, over those of before: a full disk has the room that this took when it was made."""
    words = f"{os.getpid()} {pid_namespace()}".encode().ljust(MAX_HOLDER_BYTES)
    try:
        os.pwrite(descriptor, words, 0)
    except OSError as fault:
        raise OSError(fault.errno, os.strerror(fault.errno or 0), str(path)) from None


def _refuse_other_namespace(layout: DirectoryLayout, role: Role) -> None:
    try:
        descriptor = os.open(_lock_path(layout, role), os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        # Shared: two services that look at once must not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        _, namespace = _holder(descriptor)
        if namespace and namespace != pid_namespace():
            raise CannotStart(
                f"the role {role} of {layout.data} runs in another container with process ids of its own: let both "
                "share them (shareProcessNamespace: true, --pid=container:NAME, pid: service:NAME), or run both roles in one"
            ) from None
    finally:
        os.close(descriptor)


def _lock_path(layout: DirectoryLayout, role: Role) -> Path:
    return layout.run / f"{role}.lock"


def _holder(descriptor: int) -> tuple[str, str]:
    """Who holds a role's lock: its pid, and the namespace that is of ("" of an earlier version)."""
    pid, _, namespace = os.pread(descriptor, MAX_HOLDER_BYTES, 0).decode(errors="replace").strip().partition(" ")
    return pid or "unknown", namespace
