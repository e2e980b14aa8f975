"""Whether the deployment comes back: a pulse of writes over every node, and what must hold once it is calm.

A fault has healed for a node when the node answers a write that began after the fault was over. A node that answers none for
`STUCK_S`, with nothing broken that concerns it, is stuck.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.chaos.clients import Answer, Broken, Http, Late, NotSent, Target
from loadtests.chaos.faultlog import Fault, FaultLog
from loadtests.chaos.ledger import Ledger

PULSE_S = 0.15
STUCK_S = 30.0
"""A process that died several times is restarted seconds later, and a node starts in two; far later where all tests run."""
WHOLE_WITHIN_S = 45.0
CALL_WITHIN_S = 6.0
BAN_S = 86_400


@dataclass
class Healing:
    """Times of recovery by the name of the fault."""

    nodes: int
    ledger: Ledger
    slowest_s: dict[str, float] = field(default_factory=dict)
    measured: int = 0
    _open: list[tuple[Fault, set[int]]] = field(default_factory=list)
    _answered_s: dict[int, float] = field(default_factory=dict)
    _reported: dict[int, float] = field(default_factory=dict)
    applied: dict[int, tuple[float, str]] = field(default_factory=dict)
    """By node: when its last write that was answered 200 began, and how far it got."""

    def over(self, fault: Fault) -> None:
        """From its end on, every node that it concerned owes an answer."""
        concerned = set(range(self.nodes)) if fault.node is None else {fault.node}
        self._open.append((fault, concerned))

    def answered(self, node: int, began_s: float, ended_s: float, applied: str) -> None:
        """The node answered a write."""
        self._answered_s[node] = ended_s
        self.applied[node] = (began_s, applied)
        for fault, waiting in self._open:
            if node in waiting and fault.ended_s <= began_s:
                waiting.discard(node)
                others = self.ledger.faults.active(node, fault.ended_s, ended_s)
                if not any(one is not fault for one in others):
                    self.measured += 1
                    took_s = ended_s - fault.ended_s
                    self.slowest_s[fault.name] = max(took_s, self.slowest_s.get(fault.name, 0.0))
        self._open = [(fault, waiting) for fault, waiting in self._open if waiting]

    def look(self, node: int, now_s: float) -> None:
        """Report a node that is stuck, once for each time."""
        quiet_s = quiet_since(self.ledger.faults, node, now_s)
        since_s = max(quiet_s, self._answered_s.get(node, 0.0), self._reported.get(node, 0.0))
        if now_s - since_s > STUCK_S:
            self._reported[node] = now_s
            self.ledger.broken(
                "stuck", f"node {node} answered no write for {now_s - since_s:.1f} s with nothing broken"
            )


def quiet_since(faults: FaultLog, node: int, now_s: float) -> float:
    """Since when nothing that concerns the node is broken; now, if something is."""
    ends_s = [one.ended_s for one in faults.faults[-50:] if one.concerns(node)]
    return min(now_s, max(ends_s, default=faults.origin_s))


class Pulse:
    """Bans a User over one node, again and again."""

    def __init__(self, node: int, target: Target, healing: Healing) -> None:
        self._node = node
        self._http = Http(target, CALL_WITHIN_S)
        self._healing = healing

    async def run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            began_s = time.monotonic()
            answer = await self._write()
            now_s = time.monotonic()
            if answer is not None and answer.status == 200:
                self._healing.answered(self._node, began_s, now_s, answer.headers.get("x-gate-applied", ""))
            self._healing.look(self._node, now_s)
            await asyncio.sleep(PULSE_S)
        self._http.close()

    async def _write(self) -> Answer | None:
        body = {"users": [f"pulse {self._node}"], "seconds": BAN_S}
        try:
            return await self._http.call("POST", "/v1/bans", body)
        except (NotSent, Broken, Late):
            return None


async def whole(healing: Healing, since_s: float) -> None:
    """Until every node answers `all`; what does not is reported."""
    deadline_s = time.monotonic() + WHOLE_WITHIN_S

    def behind() -> Sequence[int]:
        late = []
        for node in range(healing.nodes):
            began_s, applied = healing.applied.get(node, (0.0, "nothing"))
            if began_s < since_s or applied != "all":
                late.append(node)
        return late

    while late := behind():
        if time.monotonic() > deadline_s:
            said = {node: healing.applied.get(node) for node in late}
            healing.ledger.broken("not whole in the calm", f"no write is answered `all` over {said}")
            return
        await asyncio.sleep(0.05)
