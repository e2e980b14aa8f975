"""Keeps a `replica_process` next to each node, and judges its verdicts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.chaos.judge import Read, Register
from loadtests.chaos.ledger import Ledger

ROOT = Path(__file__).parents[2]
MAX_WORDS_BYTES = 600
AGAIN_S = 0.5
DIES_WITHIN_S = 1.0
MAX_LINE_BYTES = 1 << 20


class EmbeddedReplica:
    """One process, started again when it dies."""

    def __init__(
        self,
        node: int,
        data: Path,
        app_key: str,
        registers: Sequence[Register],
        ledger: Ledger,
        seed: int,
        every_s: float,
    ) -> None:
        self._node = node
        self._registers = registers
        self._ledger = ledger
        pairs = [(one.sender, one.recipient) for one in registers]
        orders = {"data": str(data), "app": app_key, "pairs": pairs, "seed": seed, "every_s": every_s, "batch": 6}
        self._orders = json.dumps(orders).encode() + b"\n"

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "loadtests.chaos.replica_process"),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
            )
            try:
                await self._follow(process, ending)
            finally:
                status = await _ended(process)
            if not ending.is_set():
                assert process.stderr is not None
                self._died(status, (await process.stderr.read())[-MAX_WORDS_BYTES:].decode(errors="replace"))
                await asyncio.sleep(AGAIN_S)

    async def _follow(self, process: asyncio.subprocess.Process, ending: asyncio.Event) -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(self._orders)
        while not ending.is_set():
            line = await process.stdout.readline()
            if not line:
                return
            self._judge(json.loads(line))
        process.kill()

    def _judge(self, batch: dict[str, Any]) -> None:
        if "error" in batch:
            self._ledger.counts[f"checks refused: {batch['error']}"] += 1
            return
        for index, word, until_ms in batch["said"]:
            read = Read("gate.Replica", self._node, word, batch["from"], batch["to"], batch["stale"], until_ms)
            self._ledger.read(self._registers[index], read)

    def _died(self, status: int, last_words: str) -> None:
        """A map whose file was cut short kills its reader (SIGBUS), and no library can help that; nothing else may."""
        self._ledger.counts["embedded Replicas died"] += 1
        if status != -signal.SIGBUS:
            self._ledger.broken("an embedded Replica died", f"node {self._node}: status {status}: {last_words}")


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Its status, if it died by itself; it is killed otherwise. A kill at once would take the status from the loop."""
    try:
        return await asyncio.wait_for(process.wait(), DIES_WITHIN_S)
    except TimeoutError:
        process.kill()
        return await process.wait()
