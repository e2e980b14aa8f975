"""Two nodes are restarted one after the other under load: no check stays unanswered or wrong, and no write is lost.

Clients do what routers and app servers do: they keep connections to a node, go to the other one when theirs ends, repeat
what was not answered, and return to a node when it says that it is ready.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.faults.calls import Answer, Http, Resp

ROUTERS = 4
BATCH = 20
BATCHES_PER_S = 25.0
"""Of each router: 2,000 checks a second of all."""
WRITERS = 4
WRITES_PER_S = 25.0
"""Of each writer: 100 a second of all."""
LOST_AFTER_S = 10.0
"""An answer that takes longer counts as none; the suite shares the machine."""
STEADY_S = 2.0
"""Under load before, between and after the restarts."""


class Rotation:
    """The nodes that clients may use: a node leaves when a connection to it ends, and returns when it is ready."""

    def __init__(self, nodes: Sequence[GateService]) -> None:
        self._nodes = list(nodes)
        self._is_in = [True] * len(nodes)

    def pick(self, preferred: int) -> int:
        """The preferred node, or another that is in use."""
        order = [(preferred + step) % len(self._nodes) for step in range(len(self._nodes))]
        return next((one for one in order if self._is_in[one]), preferred)

    def node(self, number: int) -> GateService:
        return self._nodes[number]

    def left(self, number: int) -> None:
        """A connection to it ended."""
        self._is_in[number] = False

    def returned(self, number: int, node: GateService) -> None:
        """It is ready again."""
        self._nodes[number] = node
        self._is_in[number] = True


class Load:
    """Threads that check and write at a steady rate within a `with` block; what they found is judged at its end."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._ended = threading.Event()
        self._numbers = count()
        self.checks = 0
        self.repeated = 0
        self.slowest_s = 0.0
        self.acknowledged: list[str] = []
        self.problems: list[str] = []
        routers = [threading.Thread(target=self._guarded, args=(self._route, one)) for one in range(ROUTERS)]
        self._threads = routers + [
            threading.Thread(target=self._guarded, args=(self._write, one)) for one in range(WRITERS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(3 * LOST_AFTER_S)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except Exception as fault:  # noqa: BLE001 - whatever ends a client is what this looks for
            self.problems.append(f"a client ended: {fault!r}")

    def _paced(self, per_s: float) -> Iterator[float]:
        """Moments at a steady rate, until the end."""
        next_s = time.monotonic()
        while not self._ended.wait(max(0.0, next_s - time.monotonic())):
            yield time.monotonic()
            next_s = max(next_s + 1 / per_s, time.monotonic() - 0.5)  # a pause is not made up for at once

    def _route(self, number: int) -> None:
        """One router: batches of checks whose verdicts are known."""
        commands = [("GATE.VERDICT", "banned", "bob"), ("GATE.VERDICT", "ann", "bob")] * (BATCH // 2)
        expected = [b"sender-banned", b"allowed"] * (BATCH // 2)
        at, connection = number % 2, None
        for began_s in self._paced(BATCHES_PER_S):
            while True:
                try:
                    at = at if connection else self._rotation.pick(at)
                    connection = connection or Resp(self._rotation.node(at))
                    replies = connection.ask_all(commands)
                    break
                except OSError as fault:
                    connection = None
                    self._rotation.left(at)
                    at = 1 - at
                    self.repeated += BATCH
                    if time.monotonic() - began_s > LOST_AFTER_S:
                        self.problems.append(f"checks without an answer: {fault!r}")
                        return
            if replies != expected:
                self.problems.append(f"a check answered {set(replies)}")
            self.checks += BATCH
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        if connection:
            connection.close()

    def _write(self, number: int) -> None:
        """One app server: each Ban is of another User, and repeated until it is acknowledged."""
        at, caller = number % 2, None
        for began_s in self._paced(WRITES_PER_S):
            user = f"user-{next(self._numbers)}"
            while True:
                at = at if caller else self._rotation.pick(at)
                caller = caller or Http(self._rotation.node(at))
                answer = self._ban(caller, user)
                if answer and answer.status == 200:
                    self.acknowledged.append(user)
                    break
                if answer and answer.status != 503:
                    self.problems.append(f"a write answered {answer}")
                    return
                caller.close()
                caller = None
                self._rotation.left(at)
                at = 1 - at
                if time.monotonic() - began_s > LOST_AFTER_S:
                    self.problems.append(f"{user}: no acknowledgement, but {answer}")
                    return
        if caller:
            caller.close()

    @staticmethod
    def _ban(caller: Http, user: str) -> Answer | None:
        try:
            return caller.ban(user)
        except (OSError, http.client.HTTPException):
            return None


def test_a_rolling_restart_loses_no_check_and_no_write(redis_server: RedisServer, start_service: Services) -> None:
    nodes = [start_service.start(redis_url=redis_server.url) for _ in range(2)]
    first = Http(nodes[0])
    wait_until(lambda: first.ban("banned").applied == "all", LOST_AFTER_S, "a Ban that both nodes have applied")
    first.close()
    rotation = Rotation(nodes)

    def under_load() -> None:
        """Let the load go on for a moment: as many writes as it makes in that time."""
        wanted = len(load.acknowledged) + int(STEADY_S * WRITERS * WRITES_PER_S)
        enough = lambda: load.problems or len(load.acknowledged) >= wanted  # noqa: E731
        wait_until(enough, 10 * LOST_AFTER_S, "writes to be acknowledged")

    with Load(rotation) as load:
        under_load()
        for number, node in enumerate(nodes):
            assert node.stop() == 0
            http_port = int(node.http.rpartition(":")[2])
            again = start_service.start(
                data=node.data, redis_url=redis_server.url, http_port=http_port, resp_port=node.resp_port
            )
            rotation.returned(number, again)
            under_load()
    print(
        f"{load.checks:,} checks, {load.repeated:,} of them repeated, the slowest after {load.slowest_s * 1_000:,.0f} ms; "
        f"{len(load.acknowledged):,} writes"
    )
    assert not load.problems, load.problems[:5]
    assert load.checks and load.acknowledged
    for number in range(2):
        caller = Http(rotation.node(number))
        pairs = [(user, "bob") for user in load.acknowledged]
        verdicts = [
            word for start in range(0, len(pairs), 5_000) for word in caller.check_many(pairs[start : start + 5_000])
        ]
        lost = [user for user, word in zip(load.acknowledged, verdicts, strict=True) if word != "sender-banned"]
        assert not lost, f"node {number} does not know {len(lost)} acknowledged Bans, as {lost[:3]}"
        caller.close()
