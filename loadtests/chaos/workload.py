"""The clients of the nodes during a run: writers that change registers, checkers that read them on every surface.

A writer asks every node for the register just before and right after each write, over connections of its own: what a cache
holds too long, or an answer promises too early, shows there if anywhere.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

from loadtests.chaos.clients import Answer, Broken, Http, Late, NotSent, Resp, Target
from loadtests.chaos.judge import ALLOWED, Read, Register, Value, Write
from loadtests.chaos.ledger import Ledger

WRITE_WITHIN_S = 10.0
READ_WITHIN_S = 4.0
"""Past every promise: an answer that takes this long hangs, unless something on its node is broken."""
UNTIL_S = (1_200, 3_600)
"""Ends lie ahead of any run's, and behind what a clock steps by: a clock alone must not remove a fact."""
PAUSE_S = (0.005, 0.06)
LOOK_S = 0.004
LOOK_WITHIN_S = 0.1
AWAY_S = 0.02
"""Before a node that refuses connections is asked again."""
MAX_WAITING = 2
"""Batches that wait for a node that hangs; no more are sent after them."""
SHARE_SET = 0.6
SHARE_DEMANDED = 0.3
NUMBERS_TWICE_S = 20.0
BATCH = 6

PROCESS_FAULTS = ("role", "node")
"""Beginnings of their names. They alone may delay an answer past its deadline; nothing that is done to Redis may."""
GRACE_S = 3.0
"""So long after such a fault its node may still be starting."""


class Checker:
    """Asks one node for registers over RESP, and judges what it says. One batch at a time."""

    def __init__(self, node: int, target: Target, ledger: Ledger) -> None:
        self._node = node
        self._ledger = ledger
        self._resp = Resp(target, READ_WITHIN_S)
        self._turn = asyncio.Lock()
        self._asked = 0
        self.waiting = 0

    async def ask(self, registers: Sequence[Register], demanded: Write | None = None) -> None:
        """All at once; each is judged. With `demanded`, only from facts as new as that write."""
        self.waiting += 1
        try:
            async with self._turn:
                began_s = time.monotonic()
                replies = await self._replies([self._command(one, demanded) for one in registers], began_s)
                ended_s = time.monotonic()
        finally:
            self.waiting -= 1
        for register, reply in zip(registers, replies, strict=False):
            self._judge(register, reply, began_s, ended_s, demanded)

    async def _replies(self, commands: Sequence[tuple[str, ...]], began_s: float) -> list[Any]:
        """None at all if the node does not answer."""
        try:
            return await self._resp.ask(commands)
        except (NotSent, Broken):
            self._ledger.counts["checks without an answer"] += 1
            await asyncio.sleep(AWAY_S)
        except Late:
            _late(self._ledger, "RESP", self._node, began_s)
        return []

    def _command(self, register: Register, demanded: Write | None) -> tuple[str, ...]:
        pair = (register.sender, register.recipient)
        if demanded is not None:
            return ("GATE.VERDICT", *pair, "MIN", demanded.revision)
        self._asked += 1
        return ("GATE.VERDICT", *pair, "FRESH", "0") if self._asked % 2 else ("GATE.EXPLAIN", *pair)

    def _judge(self, register: Register, reply: Any, began_s: float, ended_s: float, demanded: Write | None) -> None:
        if isinstance(reply, list):
            shown = dict(zip(reply[::2], reply[1::2], strict=True))
            read = Read(
                "EXPLAIN", self._node, shown[b"verdict"].decode(), began_s, ended_s, shown[b"stale_ms"], shown[b"until"]
            )
        elif isinstance(reply, bytes):
            # With MIN alone a verdict says nothing about its age: only the demand is judged.
            age_ms = 0.0 if demanded is None else 1e12
            surface = "VERDICT FRESH" if demanded is None else "VERDICT MIN"
            read = Read(surface, self._node, reply.decode(), began_s, ended_s, age_ms, None, False, demanded)
        else:
            self._ledger.counts[f"checks refused: {str(reply).split(' ')[0]}"] += 1
            return
        self._ledger.read(register, read)

    def close(self) -> None:
        self._resp.close()


class HttpChecker:
    """The same over `GET /v1/check`."""

    def __init__(self, node: int, target: Target, ledger: Ledger) -> None:
        self._node = node
        self._ledger = ledger
        self.connection = Http(target, READ_WITHIN_S)

    async def ask(self, register: Register) -> None:
        path = f"/v1/check?from={register.sender}&to={register.recipient}".replace(" ", "%20")
        began_s = time.monotonic()
        try:
            answer = await self.connection.call("GET", path)
        except (NotSent, Broken):
            self._ledger.counts["checks without an answer"] += 1
            await asyncio.sleep(0.05)
            return
        except Late:
            _late(self._ledger, "HTTP", self._node, began_s)
            return
        ended_s = time.monotonic()
        if answer.status != 200:
            self._ledger.counts[f"checks refused: {answer.status} {answer.body.get('error')}"] += 1
            if answer.status == 500:
                self._ledger.broken("500", f"node {self._node} {path}: {answer.body}")
            return
        said = answer.body
        read = Read("/v1/check", self._node, said["verdict"], began_s, ended_s, said["stale_ms"], said["until"])
        self._ledger.read(register, read)

    def close(self) -> None:
        self.connection.close()


class Writer:
    """Changes registers, one write at a time, each over a node of its choice."""

    def __init__(
        self,
        seed: int,
        registers: Sequence[Register],
        targets: Sequence[Target],
        checkers: Sequence[Checker],
        ledger: Ledger,
    ) -> None:
        self._chance = random.Random(seed)
        self._registers = registers
        self._https = [Http(target, WRITE_WITHIN_S) for target in targets]
        self._checkers = checkers
        self._ledger = ledger

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            settled = [register for register in self._registers if register.is_settled]
            if settled:
                await self.write(self._chance.choice(settled), self._chance.randrange(len(self._https)))
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    async def write(self, register: Register, node: int) -> Write:
        """One write, with checks on every node before it, for as long as it takes, and behind it."""
        is_set = self._chance.random() < SHARE_SET
        until_ms = int((time.time() + self._chance.uniform(*UNTIL_S)) * 1_000)
        write = register.begin(Value(register.word, until_ms) if is_set else ALLOWED, node, time.monotonic())
        looking = asyncio.ensure_future(self._keep_looking(register))
        await self._send(register, write)
        looking.cancel()
        self._ledger.counts[f"writes {'refused' if write.refused else write.applied or 'unknown'}"] += 1
        await self._look(
            register, write if self._may_demand(write) and self._chance.random() < SHARE_DEMANDED else None
        )
        return write

    def _may_demand(self, write: Write) -> bool:
        """Not soon after a loss: numbers are given twice then, as docs/behaviour.md has it for `MIN`."""
        return write.applied is not None and write.called_s - self._ledger.lost_s > NUMBERS_TWICE_S

    async def _send(self, register: Register, write: Write) -> None:
        node = write.node
        method, path, body = _request(register, write.value)
        try:
            answer = await self._https[node].call(method, path, body)
        except NotSent:
            write.refuse(time.monotonic())
        except Broken:
            write.leave_open(time.monotonic())
        except Late:
            now_s = time.monotonic()
            write.leave_open(now_s)
            _late(self._ledger, "write", node, write.called_s)
        else:
            self._answered(register, write, answer)

    def _answered(self, register: Register, write: Write, answer: Answer) -> None:
        now_s = time.monotonic()
        if answer.status == 200:
            applied = answer.headers.get("x-gate-applied", "pending")
            if self._ledger.doubts(applied):
                write.is_doubted = True
                write.leave_open(now_s)
                return
            write.done(applied, answer.headers.get("x-gate-revision", ""), now_s)  # type: ignore[arg-type]
        elif answer.status == 503 and answer.body.get("outcome") == "unknown":
            write.leave_open(now_s)
        elif answer.status in (401, 404, 503):
            write.refuse(now_s)
        else:
            write.leave_open(now_s)
            self._ledger.broken(f"{answer.status}", f"{register.name} over node {write.node}: {answer.body}")

    async def _keep_looking(self, register: Register) -> None:
        """Many looks a cache's life, few enough to leave the nodes some time."""
        while True:
            await self._look(register)
            await asyncio.sleep(LOOK_S)

    async def _look(self, register: Register, demanded: Write | None = None) -> None:
        """At once on every node; a node that hangs does not hold up the writer for long."""
        free = [checker for checker in self._checkers if checker.waiting < MAX_WAITING]
        asks = [asyncio.ensure_future(checker.ask([register], demanded)) for checker in free]
        if asks:
            done, _ = await asyncio.wait(asks, timeout=LOOK_WITHIN_S)
            for ask in done:
                ask.result()

    def close(self) -> None:
        for http in self._https:
            http.close()


def _request(register: Register, value: Value) -> tuple[str, str, dict[str, Any]]:
    is_set = value != ALLOWED
    end = {"until": value.until_ms} if is_set else {}
    method = "POST" if is_set else "DELETE"
    if register.kind == "blacklist":
        return method, "/v1/blacklist", {"owner": register.recipient, "members": [register.sender], **end}
    return method, f"/v1/{register.kind}s", {"users": [register.sender], **end}


def _late(ledger: Ledger, surface: str, node: int, began_s: float) -> None:
    """An answer that did not come in time. Only what was done to the node's own processes excuses it."""
    now_s = time.monotonic()
    if any(one.name.startswith(PROCESS_FAULTS) for one in ledger.faults.active(node, began_s - GRACE_S, now_s)):
        ledger.counts["late, excused"] += 1
        return
    ledger.broken("no answer in time", f"{surface} of node {node}: nothing within {now_s - began_s:.1f} s")


async def keep_checking(
    checker: Checker, registers: Sequence[Register], seed: int, every_s: float, ending: asyncio.Event
) -> None:
    """RESP, a batch at a time."""
    chance = random.Random(seed)
    while not ending.is_set():
        await checker.ask(chance.sample(registers, min(BATCH, len(registers))))
        await asyncio.sleep(every_s)


async def keep_checking_http(
    checker: HttpChecker, registers: Sequence[Register], seed: int, every_s: float, ending: asyncio.Event
) -> None:
    chance = random.Random(seed)
    while not ending.is_set():
        await checker.ask(chance.choice(registers))
        await asyncio.sleep(every_s)
