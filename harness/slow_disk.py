"""A disk whose fsync takes as long as a test says: a shim between a server program and the C library, switched by a file.

It is compiled at its first use, and loaded only into the server (`LD_PRELOAD`), by a script that replaces the program.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_first(void) {
    FILE *file = fopen(getenv("FSYNC_MS_FILE"), "r");
    int ms = 0;
    if (file == NULL) return;
    if (fscanf(file, "%d", &ms) == 1 && ms > 0) usleep(1000u * ms);
    fclose(file);
}

int fdatasync(int fd) { wait_first(); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
int fsync(int fd) { wait_first(); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
"""


class SlowDisk:
    """A server program (`program`) that is as `real`, on a disk that `slow` and `mend` change while it runs."""

    def __init__(self, folder: Path, real: Path) -> None:
        self._ms = folder / "fsync-ms"
        source, shim = folder / "shim.c", folder / "shim.so"
        source.write_text(_SHIM)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"], check=True)
        self.program = folder / "server-on-a-slow-disk"
        words = [f"LD_PRELOAD={shlex.quote(str(shim))}", f"FSYNC_MS_FILE={shlex.quote(str(self._ms))}"]
        self.program.write_text(f'#!/bin/sh\n{" ".join(words)} exec {shlex.quote(str(real))} "$@"\n')
        self.program.chmod(0o700)

    def slow(self, fsync_ms: int) -> None:
        """Set the duration of each fsync."""
        self._ms.write_text(str(fsync_ms))

    def mend(self) -> None:
        """Restore the real duration."""
        self._ms.unlink(missing_ok=True)


def can_compile() -> bool:
    """Whether this machine has a C compiler."""
    return shutil.which("gcc") is not None
