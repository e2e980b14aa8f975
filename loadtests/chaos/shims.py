"""What a machine does to a process from below: its wall clock steps, its disk takes long to sync. By LD_PRELOAD.

The clock is libfaketime's, without the monotonic one; the disk is a few lines of C, built where there is a compiler. Each reads
a file that a fault writes. Where one of the two is missing, its faults are left out of the run, and the report says so.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

FAKETIME_FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")
CACHE_S = 1
"""How long libfaketime goes by what it read: a step is in force everywhere after that."""
SLOW_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static volatile int *delay_us;
__attribute__((constructor)) static void open_page(void) {
    const char *path = getenv("CHAOS_SYNC_DELAY");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(0, sizeof(int), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    delay_us = page == MAP_FAILED ? 0 : page;
}
static int synced(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (delay_us && *delay_us) usleep(*delay_us);
    return real(file);
}
int fsync(int file) { return synced("fsync", file); }
int fdatasync(int file) { return synced("fdatasync", file); }
"""


def faketime_library() -> Path | None:
    """Where libfaketime is, or None."""
    found = (Path(folder) / "libfaketime.so.1" for folder in FAKETIME_FOLDERS)
    return next((path for path in found if path.exists()), None)


class Clock:
    """The wall clock of the processes that run with `env`. `jump` takes effect within `CACHE_S`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset_s = 0
        self.library = faketime_library()
        self.jump(0)

    @property
    def is_there(self) -> bool:
        return self.library is not None

    @property
    def env(self) -> dict[str, str]:
        if self.library is None:
            return {}
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": str(CACHE_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset_s: int) -> None:
        """In one step: a reader finds the old offset or the new one."""
        self.offset_s = offset_s
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._path)


class SlowDisk:
    """Syncs of the processes that run with `env` take `delay_ms` longer."""

    def __init__(self, directory: Path) -> None:
        self._page = directory / "sync-delay"
        self._page.write_bytes(struct.pack("i", 0))
        self.library = directory / "slowsync.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return
        source = directory / "slowsync.c"
        source.write_text(SLOW_SYNC)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)

    @property
    def is_there(self) -> bool:
        return self.library.exists()

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "CHAOS_SYNC_DELAY": str(self._page)} if self.is_there else {}

    def delay(self, delay_ms: float) -> None:
        with self._page.open("r+b") as file:
            file.write(struct.pack("i", int(delay_ms * 1_000)))


class SmallDisk:
    """A file system of its own that can be filled: a tmpfs, where this is root and may mount one."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
        self.is_there = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0

    def fill(self) -> None:
        """To the last byte."""
        if not self.is_there:
            return
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            for chunk in (b"\xa5" * (1 << 20), b"\0" * 512, b"\0"):
                try:
                    while file.write(chunk) == len(chunk):
                        continue
                except OSError:
                    continue  # a smaller piece may still fit

    def empty(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_there:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def preloaded(*envs: dict[str, str]) -> dict[str, str]:
    """One environment out of several that preload."""
    libraries = [env["LD_PRELOAD"] for env in envs if "LD_PRELOAD" in env]
    merged = {name: value for env in envs for name, value in env.items()}
    return {**merged, "LD_PRELOAD": ":".join(libraries)} if libraries else merged
