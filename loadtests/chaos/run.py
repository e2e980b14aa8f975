"""One run: site, workload, storms with a calm after each, and the conditions at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos import ending
from loadtests.chaos.command_writer import CommandWriter
from loadtests.chaos.deployment import Deployment
from loadtests.chaos.embedded import ROOT, EmbeddedReplica
from loadtests.chaos.faultlog import FaultLog
from loadtests.chaos.faults import FAULTS, STEPS_S, Table
from loadtests.chaos.healing import Healing, Pulse, whole
from loadtests.chaos.hooks import Hooks, receiving
from loadtests.chaos.ledger import Ledger, Violation, make_registers
from loadtests.chaos.presence import FeedReader, Feeds, Gateway, mint_tokens
from loadtests.chaos.schedule import storms
from loadtests.chaos.storm import Storm
from loadtests.chaos.workload import Checker, HttpChecker, Writer, keep_checking, keep_checking_http

REGISTERS_OF_A_KIND = 16
WRITERS = 8
RESP_EVERY_S, HTTP_EVERY_S, REPLICA_EVERY_S = 0.02, 0.04, 0.03
COMMAND_TIMEOUT_S = 60.0
HOOK_HEARD_S = 3.0
"""docs/http.md: an address that is set where there was none begins with what happens within two seconds."""
NOTHING_SAID: Callable[[str], None] = lambda line: None  # noqa: E731 - a default, not a definition


@dataclass(frozen=True)
class Options:
    """The settings of a run."""

    seed: int
    seconds: float
    nodes: int = 3
    faults_a_minute: float = 60.0
    with_presence: bool = True
    """Gateways, the feed, the webhook, and the command line too."""
    faults: Table = field(default_factory=lambda: FAULTS)
    redis: str = "server"
    durability: str = "local"


@dataclass
class Outcome:
    """The results of a run."""

    options: Options
    ledger: Ledger
    healing: Healing
    storm: Storm
    took_s: float = 0.0
    exits: int = 0
    schedule: list[str] = field(default_factory=list)

    @property
    def faults_carried_out(self) -> int:
        return self.storm.carried_out.total()


class Run:
    """Made for one run, on a site that has started."""

    def __init__(self, options: Options, site: Deployment, say: Callable[[str], None] = NOTHING_SAID) -> None:
        self.options = options
        self.site = site
        self.registers = make_registers(REGISTERS_OF_A_KIND, f"{options.seed}")
        self._of_commands = [one for one in make_registers(1, f"{options.seed}-cli") if one.kind != "blacklist"]
        self.registers += self._of_commands
        self.ledger = Ledger(
            FaultLog(time.monotonic()), self.registers, self._ahead_ms, self._report, options.durability == "replica"
        )
        self.healing = Healing(len(site.nodes), self.ledger)
        self.storm = Storm(self.site, self.ledger, self.healing, options.faults)
        self.feeds = Feeds(self.ledger)
        self.hooks = Hooks(self.feeds, self.ledger, options.seed)
        self.gateways: list[Gateway] = []
        self.readers: list[FeedReader] = []
        self._say = say
        self._losses = 0
        self._found = asyncio.Event()

    async def go(self) -> Outcome:
        """The whole run. Violations are in the outcome."""
        began_s = time.monotonic()
        options = self.options
        kinds = {name: kind for name, (kind, _) in options.faults.items()}
        planned = storms(options.seed, options.seconds, options.faults_a_minute, options.nodes, kinds)
        outcome = Outcome(options, self.ledger, self.healing, self.storm)
        for number, storm in enumerate(planned, 1):
            outcome.schedule += [f"storm {number}:", *(f"  {one}" for one in storm.faults)]
        async with receiving(self.hooks) if options.with_presence else _nothing(), self.working():
            for number, storm in enumerate(planned, 1):
                async with self._writing(options.seed * 1_000 + number):
                    await self.storm.blow(storm)
                await self.calm()
                self._progress(number, len(planned), began_s)
            await ending.check(self)
        outcome.took_s = time.monotonic() - began_s
        outcome.exits = sum(node.exits for node in self.site.nodes)
        return outcome

    async def workload_only(self) -> None:
        """Writers and checkers without a fault, until something is found: what the tests of planted bugs run."""
        ends_s = time.monotonic() + self.options.seconds
        async with self.working(), self._writing(self.options.seed):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._found.wait(), ends_s - time.monotonic())

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[None]:
        """Everything at work, and no fault, for as long as the block runs."""
        async with receiving(self.hooks), self.working(), self._writing(self.options.seed):
            yield

    @property
    def written(self) -> int:
        return sum(value for name, value in self.ledger.counts.items() if name.startswith("writes "))

    @property
    def checked(self) -> int:
        return self.ledger.counts["verdicts fresh"] + self.ledger.counts["verdicts stale"]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Checkers, Gateways, readers and pulses in the background."""
        over = asyncio.Event()
        seed = self.options.seed
        targets = self.site.targets
        if self.options.with_presence:
            await self._set_hook()
            self.feeds.demand()
        async with asyncio.TaskGroup() as group:
            checkers, others = [], []
            for node, target in enumerate(targets):
                checker, http = Checker(node, target, self.ledger), HttpChecker(node, target, self.ledger)
                checkers.append(checker)
                others += [
                    keep_checking(checker, self.registers, seed + node, RESP_EVERY_S, over),
                    keep_checking_http(http, self.registers, seed + node + 100, HTTP_EVERY_S, over),
                    Pulse(node, target, self.healing).run(over),
                    EmbeddedReplica(
                        node,
                        self.site.nodes[node].data,
                        target.app_key,
                        self.registers,
                        self.ledger,
                        seed + node,
                        REPLICA_EVERY_S,
                    ).run(over),
                ]
            self.http_checkers = [HttpChecker(node, target, self.ledger) for node, target in enumerate(targets)]
            self.checkers = [Checker(node, target, self.ledger) for node, target in enumerate(targets)]
            if self.options.with_presence:
                others += self._presence(over)
            for work in [*others, self.storm.watch(over)]:
                group.create_task(work)
            try:
                yield
            finally:
                over.set()

    def _presence(self, over: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        targets = self.site.targets
        tokens = mint_tokens(targets[0])
        self.gateways = [
            Gateway(f"edge-{node}", target, tokens, self.ledger, self.options.seed + node)
            for node, target in enumerate(targets)
        ]
        self.readers = [FeedReader(node, target, self.feeds, self.ledger) for node, target in enumerate(targets)]
        return [*(one.run(over) for one in self.gateways), *(one.run(over) for one in self.readers)]

    @asynccontextmanager
    async def _writing(self, seed: int) -> AsyncIterator[None]:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                registers = self.registers[: -len(self._of_commands)]
                writer = Writer(
                    seed + number, registers[number::WRITERS], self.site.targets, self._looking(), self.ledger
                )
                group.create_task(writer.run(over))
            if self.options.with_presence:
                commands = CommandWriter(seed, self._of_commands, self.site, self.ledger)
                group.create_task(commands.run(over))
            try:
                yield
            finally:
                over.set()

    def _looking(self) -> list[Checker]:
        """A writer's own connections: it must not wait for another's batch."""
        return [Checker(node, target, self.ledger) for node, target in enumerate(self.site.targets)]

    async def calm(self) -> None:
        """Nothing is broken now: until everything is whole, and equal on every surface."""
        began_s = time.monotonic()
        await whole(self.healing, began_s)
        await ending.equal(self)
        if self.options.with_presence:
            await ending.hooks(self)
            if self._losses != self.ledger.losses:
                self._losses = self.ledger.losses
                await self._set_hook()
            self.feeds.demand()

    async def _set_hook(self) -> None:
        """The App's setting, which a Redis that was emptied has lost."""
        target = self.site.targets[0]
        await self.gate(0, "app", "set", target.app_key, "--presence-webhook-url", self.hooks.url)
        await asyncio.sleep(HOOK_HEARD_S)

    async def gate(self, node: int, *arguments: str) -> tuple[int, str]:
        """One call of the command line, past the cable."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gate", *arguments, "--data", str(self.site.nodes[node].data)),
            *("--redis", self.site.admin_url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
        return process.returncode or 0, out.decode(errors="replace")

    def _ahead_ms(self, node: int, since_s: float) -> float:
        """The most by which clocks may be fast: that of the largest step that is or was in force."""
        faults = self.ledger.faults.active(node, since_s, time.monotonic())
        return STEPS_S[1] * 1_000.0 if any(fault.name.startswith("clock") for fault in faults) else 0.0

    def _report(self, violation: Violation) -> None:
        self._found.set()
        self._say(f"VIOLATION {violation.what}: {violation.text}")

    def _progress(self, number: int, many: int, began_s: float) -> None:
        self._say(
            f"storm {number} of {many}, {time.monotonic() - began_s:.0f} s: {self.storm.carried_out.total()} faults, "
            f"{self.written:,} writes, {self.checked:,} verdicts, {self.ledger.broken_count} violations"
        )


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def choose_seed() -> int:
    """A random seed, if none was given."""
    return random.SystemRandom().randrange(1_000_000_000)
