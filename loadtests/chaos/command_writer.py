"""Writes by the command line, which reaches Redis through a node's cable and belongs to no node: it too may say `all`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from loadtests.chaos.deployment import Deployment
from loadtests.chaos.judge import ALLOWED, Register, Value, Write
from loadtests.chaos.ledger import Ledger
from loadtests.chaos.workload import SHARE_SET, UNTIL_S

ROOT = Path(__file__).parents[2]
EVERY_S = 5.0
"""A call takes half a second of a core."""
WITHIN_S = 60.0


class CommandWriter:
    """Bans and unbans with `gate`, one call at a time."""

    def __init__(self, seed: int, registers: Sequence[Register], site: Deployment, ledger: Ledger) -> None:
        self._chance = random.Random(seed)
        self._registers = registers
        self._site = site
        self._ledger = ledger

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            settled = [register for register in self._registers if register.is_settled]
            if settled:
                await self._write(self._chance.choice(settled), self._chance.randrange(len(self._site.nodes)))
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), EVERY_S)

    async def _write(self, register: Register, node: int) -> None:
        is_set = self._chance.random() < SHARE_SET
        until_ms = int((time.time() + self._chance.uniform(*UNTIL_S)) * 1_000)
        write = register.begin(Value(register.word, until_ms) if is_set else ALLOWED, node, time.monotonic())
        verb = {"ban": ("ban", "unban"), "mute": ("mute", "unmute")}[register.kind][0 if is_set else 1]
        end = ["--until", str(until_ms)] if is_set else []
        try:
            status, out, err = await self._gate(node, verb, register.sender, *end, "--json")
        except TimeoutError:
            write.leave_open(time.monotonic())
            self._ledger.broken("no answer in time", f"gate {verb}: nothing within {WITHIN_S:g} s")
            return
        self._ended(write, status, out, err)
        self._ledger.counts[f"commands {write.applied or 'failed'}"] += 1

    def _ended(self, write: Write, status: int, out: str, err: str) -> None:
        now_s = time.monotonic()
        if "Traceback" in err:
            self._ledger.broken("a traceback", err[-600:])
        if status:
            write.leave_open(now_s)
            return
        said = json.loads(out)
        if self._ledger.doubts("all" if said["applied"] == "all" else "pending"):
            write.is_doubted = True
            write.leave_open(now_s)
            return
        # It speaks for no node, so `node` is no more than `pending`.
        write.done("all" if said["applied"] == "all" else "pending", said["revision"], now_s)

    async def _gate(self, node: int, *arguments: str) -> tuple[int, str, str]:
        one = self._site.nodes[node]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gate", *arguments),
            cwd=ROOT,
            env={
                **os.environ,
                "GATE_DATA": str(one.data),
                "GATE_REDIS": one.redis_url,
                "GATE_APP": self._site.targets[0].app_key,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
        except TimeoutError:
            process.kill()
            raise
        return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
