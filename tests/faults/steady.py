"""Checks during a fault: a thread that checks continuously, and judges the answers.

It uses the RESP port, HTTP and a `gate.Replica` in turn. An error, an answer that took longer than `MAX_GAP_S`, or an
unexpected word fails the test.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from types import TracebackType

from gate import Replica
from harness.service import GateService
from tests.faults.calls import Http, Pair, Resp

MAX_GAP_S = 1.0
"""No router waits longer for a verdict, in any fault. A hundred times the duration on a busy test machine."""
ROUND_EVERY_S = 0.01
"""Short enough to hit every moment of a fault, long enough to leave two cores to the nodes."""
STOP_TIMEOUT_S = 15.0

Ask = Callable[[Pair], str]


class Steady:
    """`with Steady(service, {pair: allowed words}): ...` checks for as long as the block runs, and judges at its end.

    `without` names surfaces that the fault itself disables: resp, http or replica.
    """

    def __init__(
        self, service: GateService, expected: Mapping[Pair, str | Collection[str]], without: Collection[str] = ()
    ) -> None:
        self._service = service
        self._expected = {pair: {words} if isinstance(words, str) else set(words) for pair, words in expected.items()}
        self._without = without
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steady", daemon=True)
        self.seen: Counter[tuple[str, Pair, str]] = Counter()
        self.problems: list[str] = []

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(STOP_TIMEOUT_S)
        if kind is None:
            assert not self._thread.is_alive(), "a check hangs"
            assert not self.problems, self.problems
            for pair in self._expected:
                assert any(asked == pair for _, asked, _ in self.seen), f"{pair} was never asked"

    def _run(self) -> None:
        try:
            with ExitStack() as opened:
                surfaces = self._surfaces(opened)
                while not self._ended.wait(ROUND_EVERY_S):
                    for name, ask in surfaces.items():
                        self._round(name, ask)
        except (OSError, AssertionError) as fault:
            self.problems.append(f"could not begin: {fault!r}")

    def _surfaces(self, opened: ExitStack) -> dict[str, Ask]:
        surfaces: dict[str, Ask] = {}
        if "resp" not in self._without:
            resp = opened.enter_context(Resp(self._service))
            surfaces["resp"] = lambda pair: str(resp.ask("GATE.VERDICT", *pair).decode())
        if "http" not in self._without:
            http = Http(self._service)
            opened.callback(http.close)
            surfaces["http"] = lambda pair: str(http.check(pair)["verdict"])
        if "replica" not in self._without:
            replica = opened.enter_context(Replica.open(self._service.data, app=self._service.credentials.app_key))
            surfaces["replica"] = lambda pair: replica.verdict(*pair).word
        return surfaces

    def _round(self, name: str, ask: Ask) -> None:
        for pair, words in self._expected.items():
            began_s = time.monotonic()
            try:
                word = ask(pair)
            except Exception as fault:  # noqa: BLE001 - whatever a check raises is what this looks for
                self.problems.append(f"{name} {pair}: {fault!r}")
                self._ended.set()
                return
            took_s = time.monotonic() - began_s
            self.seen[name, pair, word] += 1
            if word not in words:
                self.problems.append(f"{name} {pair}: {word}")
            if took_s > MAX_GAP_S:
                self.problems.append(f"{name} {pair}: answered after {took_s:.2f} s")
