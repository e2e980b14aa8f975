"""Faults of a machine: the wall clock of a process steps, its disk syncs slowly, or is full.

Clock and syncs by LD_PRELOAD: a few lines of C, built where there is a compiler, that go by a page which a fault writes. Not
libfaketime: with the monotonic clock left alone, its 0.9.10 fails every `time.sleep` of Python with EINVAL. Where something is
missing, its faults are left out of the run, as noted in the report.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile struct { int64_t offset_s, sync_delay_us; } nothing, *page = &nothing;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_page(void) {
    const char *path = getenv("CHAOS_SHIM_PAGE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0) return;
    void *mapped = mmap(0, sizeof nothing, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) page = mapped;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock) open_page();
    int failed = real_clock(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += page->offset_s;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *to) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (to) *to = exact.tv_sec;
    return exact.tv_sec;
}
static int synced(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (page->sync_delay_us) usleep(page->sync_delay_us);
    return real(file);
}
int fsync(int file) { return synced("fsync", file); }
int fdatasync(int file) { return synced("fdatasync", file); }
"""
PAGE = struct.Struct("qq")


def build_library(directory: Path) -> Path | None:
    """The preloaded library, or None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-w", "-o", library, source, "-ldl"], check=True)
    return library


class Shim:
    """The wall clock and the syncs of the processes that run with `env`; a change takes effect at once."""

    def __init__(self, page: Path, library: Path | None) -> None:
        self._page = page
        self._library = library
        self._offset_s = 0
        self._delay_ms = 0.0
        page.write_bytes(PAGE.pack(0, 0))

    @property
    def is_there(self) -> bool:
        return self._library is not None

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CHAOS_SHIM_PAGE": str(self._page)} if self.is_there else {}

    def jump(self, offset_s: int) -> None:
        """The wall clock is so far off from now on; the monotonic one never is."""
        self._offset_s = offset_s
        self._write()

    def delay_syncs(self, delay_ms: float) -> None:
        """Each sync takes so much longer."""
        self._delay_ms = delay_ms
        self._write()

    def _write(self) -> None:
        with self._page.open("r+b") as file:
            file.write(PAGE.pack(self._offset_s, int(self._delay_ms * 1_000)))


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
