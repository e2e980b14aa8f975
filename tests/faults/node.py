"""One node in a fault test: facts with verdicts, staleness, processes, and a check that it has recovered."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.service import GateService
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.faults.calls import Answer, Http, Pair, Resp
from tests.service.running import get, pid_of

RECOVERY_TIMEOUT_S = 15.0
"""A node is back within a second or two; a machine that runs the whole suite at the same time is slower."""
STALE_TIMEOUT_S = 5.0
JSON_LOGS = {"GATE_LOG_FORMAT": "json", "GATE_LOG_LEVEL": "warning"}

FIRST_REFUSAL_MS = 1_500
"""One deadline of a hanging store, and a margin for a busy machine."""
KNOWN_REFUSAL_MS = 100
"""Once Redis is known to be away. The best of a few counts: a busy machine may delay any one of them."""


class Node:
    """One service with a caller of its HTTP. `verify` reaches Redis at `redis_url`, past any cable."""

    def __init__(self, service: GateService, redis_url: str | None = None) -> None:
        self.service = service
        self.http = Http(service)
        self.gate = Command(service.data, service.credentials.app_key, redis_url)

    def pairs(self, name: str) -> dict[Pair, str]:
        """Acknowledged facts of this test: a banned User, a blacklisted User, and a permitted one."""
        for answer in (self.http.ban(f"{name} banned"), self.http.block(f"{name} owner", f"{name} blocked")):
            assert (answer.status, answer.applied) == (200, "all"), answer
        return {
            (f"{name} banned", f"{name} owner"): "sender-banned",
            (f"{name} blocked", f"{name} owner"): "blacklisted",
            (f"{name} friend", f"{name} owner"): "allowed",
        }

    def asserts(self, expected: dict[Pair, str]) -> None:
        """Require these verdicts now, on the RESP port and HTTP."""
        pairs = list(expected)
        assert dict(zip(pairs, self.http.check_many(pairs), strict=True)) == expected
        with Resp(self.service) as resp:
            words = resp.ask_all([("GATE.VERDICT", *pair) for pair in pairs])
        assert {pair: word.decode() for pair, word in zip(pairs, words, strict=True)} == expected

    def stale_ms(self) -> int:
        """As returned by `/v1/check`."""
        return int(self.http.check(("anyone", "else"))["stale_ms"])

    def metric(self, name: str) -> float:
        """A metric without labels; 0 before it was first counted."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", get(self.service, "/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event, of a node that was started with `JSON_LOGS`."""
        lines = [json.loads(line) for line in self.service.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def pid(self, role: str) -> int:
        found = wait_until(lambda: pid_of(self.service, role), RECOVERY_TIMEOUT_S, f"the {role}")
        assert found is not None
        return found

    @contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """SIGSTOP: the role's process exists and does nothing."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wait_stale(self) -> None:
        """Wait until both full answers report old facts."""
        wait_until(lambda: self.stale_ms() > 0, STALE_TIMEOUT_S, "/v1/check to say stale")
        with Resp(self.service) as resp:
            shown = resp.explain(("anyone", "else"))
        assert shown[b"stale_ms"] > 0, shown

    def wait_writable(self) -> None:
        """Wait until a write is acknowledged on every node; it bans an unknown User."""

        wait_until(
            lambda: self.http.ban("somebody").applied == "all", RECOVERY_TIMEOUT_S, "a write to be acknowledged as all"
        )

    def wait_whole(self) -> None:
        """Wait until writes are effective, facts fresh and the Replica current; then it must equal Redis."""
        self.wait_writable()
        wait_until(lambda: self.metric("gate_replica_state") == 2, RECOVERY_TIMEOUT_S, "the Replica to be current")
        wait_until(lambda: self.stale_ms() == 0, RECOVERY_TIMEOUT_S, "the facts to be fresh")
        self.verify()

    def verify(self) -> None:
        """`gate replica verify` finds no difference."""
        report = self.gate.json("replica", "verify")
        assert report["equal"], report

    def refusal_of(self, user: str) -> Answer:
        """Ban while Redis is away: refused within a deadline, then at once. Returns the first answer."""
        first = self.http.ban(user)
        again = [self.http.ban(user) for _ in range(8)]
        for answer in (first, *again):
            assert (answer.status, answer.body["error"]) == (503, "unavailable"), answer
            assert int(answer.headers["Retry-After"]) >= 1
        assert first.ms < FIRST_REFUSAL_MS, first
        assert min(answer.ms for answer in again) < KNOWN_REFUSAL_MS, again
        return first

    def facts_file(self) -> Path:
        """The facts file in use."""
        directory = self.service.data / "replica"
        return directory / (directory / "current").read_text().strip()

    def close(self) -> None:
        self.http.close()
