"""What the embedded server acknowledged is on the disk, however slow that is: `kill -9` at its worst moment loses nothing."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import cast

import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gate.service import embedded
from harness.slow_disk import SlowDisk, can_compile
from harness.waiting import wait_until_async

WRITERS = 20
FSYNC_MS = 1_500
"""Longer than the second after which `everysec` syncs again, shorter than the two for which it holds writes back."""
WRITING_S = 2.6
"""Long enough for a second fsync to be under way, whenever the first one began."""


@pytest.mark.skipif(not can_compile(), reason="needs gcc")
async def test_kill_during_a_slow_fsync_loses_no_acknowledged_write(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path, embedded.server_program(None))
    folder = tmp_path / "redis"
    folder.mkdir()
    server = await _started(disk.program, folder)
    disk.slow(FSYNC_MS)
    acknowledged: list[str] = []
    writers = [asyncio.create_task(_write(folder, f"{nth}", acknowledged)) for nth in range(WRITERS)]
    await asyncio.sleep(WRITING_S)
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await asyncio.gather(*writers)
    assert acknowledged

    disk.mend()
    server = await _started(disk.program, folder)
    async with _client(folder) as client:
        there = {key.decode() for key in cast("list[bytes]", await client.keys())}
    server.send_signal(signal.SIGKILL)
    await server.wait()
    lost = [key for key in acknowledged if key not in there]
    assert lost == [], f"{len(lost)} of {len(acknowledged)} acknowledged writes were lost"


async def _started(program: Path, folder: Path) -> asyncio.subprocess.Process:
    socket = embedded.prepare_socket(folder)
    process = await asyncio.create_subprocess_exec(*embedded.command(program, folder, socket))
    await wait_until_async(lambda: embedded.answers(socket), 10, "the server to answer")
    return process


def _client(folder: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(embedded.socket_path(folder)), retry=Retry(NoBackoff(), 0))


async def _write(folder: Path, name: str, acknowledged: list[str]) -> None:
    """Write one key after the other, until the server is killed."""
    async with _client(folder) as client:
        for count in range(1_000_000):
            try:
                await client.set(f"{name}-{count}", "1")
            except redis.ConnectionError:
                return
            acknowledged.append(f"{name}-{count}")
            await asyncio.sleep(0.002)
