"""The conditions while no fault is active: registers equal on every surface; at the end Redis, Sessions and webhooks too."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from loadtests.chaos.clients import Broken, Late, NotSent, Resp
from loadtests.chaos.judge import Register
from loadtests.chaos.presence import USERS

if TYPE_CHECKING:
    from loadtests.chaos.run import Run

SETTLE_WITHIN_S = 20.0
PRESENCE_WITHIN_S = 30.0
Shown = dict[str, str]


async def settle(run: Run) -> None:
    """Until no write is under way, and none may still land."""
    deadline_s = time.monotonic() + SETTLE_WITHIN_S
    while not all(register.is_settled for register in run.registers):
        if time.monotonic() > deadline_s:
            open_ones = [str(write) for register in run.registers for write in register.writes if write.is_open]
            run.ledger.broken("writes never ended", f"{open_ones[:5]}")
            return
        run.ledger.tick()
        await asyncio.sleep(0.05)


async def equal(run: Run) -> None:
    """Every register, on the RESP port and HTTP of every node, once all say that they are fresh."""
    await settle(run)
    deadline_s = time.monotonic() + SETTLE_WITHIN_S
    while differing := await _differing(run):
        if time.monotonic() > deadline_s:
            for register, shown in list(differing.items())[:5]:
                run.ledger.broken("registers differ in the calm", f"{register.name}: {shown}", register.story())
            return
        await asyncio.sleep(0.2)
    # Judged once more, now that nothing is under way: what all agree on must be what was acknowledged.
    for checker in run.checkers:
        await checker.ask(run.registers)
    for http in run.http_checkers:
        for register in run.registers[::8]:
            await http.ask(register)


async def _differing(run: Run) -> dict[Register, Shown]:
    """Registers that nodes show differently, or that one of them does not show as fresh."""
    pairs = [[register.sender, register.recipient] for register in run.registers]
    shown: list[Shown] = [{} for _ in pairs]
    for node, http in enumerate(run.http_checkers):
        try:
            answer = await http.connection.call("POST", "/v1/check", {"pairs": pairs})
            words = (
                answer.body["verdicts"]
                if answer.body.get("stale_ms") == 0
                else [f"stale {answer.body}"[:80]] * len(pairs)
            )
        except (NotSent, Broken, Late, KeyError) as fault:
            words = [repr(fault)] * len(pairs)
        for at, word in zip(shown, words, strict=True):
            at[f"HTTP {node}"] = word
    for node, target in enumerate(run.site.targets):
        for at, word in zip(shown, await _words(target, pairs), strict=True):
            at[f"RESP {node}"] = word
    return {
        register: at
        for register, at in zip(run.registers, shown, strict=True)
        if len(set(at.values())) > 1 or _is_odd(at)
    }


def _is_odd(shown: Shown) -> bool:
    return any(word not in ("allowed", "sender-banned", "sender-muted", "blacklisted") for word in shown.values())


async def _words(target: Any, pairs: list[list[str]]) -> list[str]:
    resp = Resp(target, 5.0)
    try:
        replies = await resp.ask([("GATE.VERDICT", *pair) for pair in pairs])
        return [reply.decode() if isinstance(reply, bytes) else str(reply) for reply in replies]
    except (NotSent, Broken, Late) as fault:
        return [repr(fault)] * len(pairs)
    finally:
        resp.close()


async def check(run: Run) -> None:
    """The end of a run."""
    for node in range(run.options.nodes):
        status, printed = await run.gate(node, "replica", "verify", "--json")
        try:
            report = json.loads(printed)
        except ValueError:
            report = {"equal": False, "printed": printed[-500:]}
        if status or not report.get("equal"):
            run.ledger.broken("a Replica differs from Redis", f"node {node}: {report}"[:800])
    if run.options.with_presence:
        await _sessions(run)
        await hooks(run)


async def _sessions(run: Run) -> None:
    """Every node names exactly the Sessions that the Gateways hold."""
    for gateway in run.gateways:
        gateway.is_settling = True
    deadline_s = time.monotonic() + PRESENCE_WITHIN_S
    while True:
        held = {(gateway.name, session) for gateway in run.gateways for session in gateway.held}
        are_sure = all(gateway.is_sure for gateway in run.gateways)
        found = [await _sessions_of(target) for target in run.site.targets] if are_sure else []
        if found and all(one == held for one in found):
            run.ledger.counts["Sessions in the end"] = len(held)
            return
        if time.monotonic() > deadline_s:
            sure = {gateway.name: gateway.is_sure for gateway in run.gateways}
            differ = [sorted(one ^ held)[:5] if one is not None else None for one in found]
            run.ledger.broken("Sessions differ", f"Gateways are sure: {sure}; {len(held)} held; by node {differ}"[:800])
            return
        await asyncio.sleep(0.3)


async def _sessions_of(target: Any) -> set[tuple[str, str]] | None:
    resp = Resp(target, 5.0)
    try:
        replies = await resp.ask([("GATE.SESSIONS", f"visitor {number}") for number in range(USERS)])
    except (NotSent, Broken, Late):
        return None
    finally:
        resp.close()
    if not all(isinstance(reply, list) for reply in replies):
        return None
    found = set()
    for reply in replies:
        for flat in reply:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            found.add((fields[b"gateway"].decode(), fields[b"session"].decode()))
    return found


async def hooks(run: Run) -> None:
    """Every change that is demanded came to the webhook."""
    deadline_s = time.monotonic() + PRESENCE_WITHIN_S
    while missing := run.feeds.demanded - run.hooks.received:
        if time.monotonic() > deadline_s:
            run.ledger.broken(
                "webhook lost changes", f"{len(missing)} of {len(run.feeds.demanded)}: {sorted(missing)[:5]}"
            )
            return
        await asyncio.sleep(0.3)
    run.ledger.counts["webhook changes demanded"] += len(run.feeds.demanded)
