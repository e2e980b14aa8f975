"""Ends a process when the supervisor is gone, however it went. Also a program of its own: the embedded server's launcher.

Two cords: the kernel's (Linux: a signal to the child when its parent dies) and, for roles, a channel whose end means that the
parent is gone. A program in another language can only have the first, so it is started through this file:

    python -I -S parent_death.py PARENT_PID LOCK PROGRAM ARGUMENT...

which asks the kernel for SIGTERM at the parent's death, takes the lock and becomes the program. The lock is a POSIX one: it
belongs to the process, so it survives becoming another program and is not inherited by the program's own children; the
next server waits here until the old one has released its files. Imports nothing of Gate: its start is part of every start.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time

# An orphaned server writes its last bytes and exits within milliseconds of SIGTERM; a paused one never does.
LOCK_WAIT_S = 10.0
LOCK_POLL_S = 0.01
EXIT_LOCKED = 75
EXIT_NO_PROGRAM = 127
_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Have the kernel send the signal when the parent dies; exits at once if it is dead already. Elsewhere: nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        # The parent may have died before the call, and then no signal comes.
        if os.getppid() != parent_pid:
            os._exit(1)


def _take_lock(path: str) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    # Python closes it at exec otherwise, and with it the lock.
    os.set_inheritable(descriptor, True)
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(LOCK_POLL_S)


def main(arguments: list[str]) -> int:
    """Become the program."""
    parent_pid, lock, *command = arguments
    die_with_parent(signal.SIGTERM, int(parent_pid))
    if not _take_lock(lock):
        print(f"another server still holds {lock}", file=sys.stderr)
        return EXIT_LOCKED
    try:
        os.execv(command[0], command)
    except OSError as fault:
        print(f"{command[0]} can't be run: {fault.strerror}", file=sys.stderr)
        return EXIT_NO_PROGRAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
