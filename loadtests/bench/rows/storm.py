"""Reconnect storms: every WebSocket breaks at once, and all clients reconnect, while checks and a webhook go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from harness.processes import kill_each
from harness.service import GateService
from harness.waiting import wait_until
from loadtests.bench.apart import CLIENTS_NICE
from loadtests.bench.bed import Bed
from loadtests.bench.client import ask
from loadtests.bench.crowd import Crowd, Look
from loadtests.bench.gateways import Gateways, clients
from loadtests.bench.hook_receiver import Change, HookReceiver
from loadtests.bench.paced import PacedChecks, p99_ms, pace, slowest_ms
from loadtests.bench.rows.websockets import crowd_of, set_app, wait_until_gone, websockets
from loadtests.bench.table import Row

MOST_BACK_S = 30
MOST_CHECK_MS = 20
IDLE_S = 3.0
QUIET_S = 3.0
"""A departure is announced within a second or two; when nothing came for so long, the storm is over."""
SETTLED_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05
PROBES, PROBE_EVERY_S = 100, 0.2
EVENTS_A_CALL = 1_000
STATUS_OF = {"online": "0", "platform-online": "0", "offline": "1", "platform-offline": "1"}
"""The webhook's status of each kind of the feed."""


class _Storm(NamedTuple):
    what: str
    break_all: Callable[[GateService, Crowd], Look]


def _drop(node: GateService, crowd: Crowd) -> Look:
    return crowd.storm()


def _kill(node: GateService, crowd: Crowd) -> Look:
    return crowd.after(lambda: kill_each([role_pid(node, "http")]))


_STORMS = (
    _Storm("all sockets are closed at once, all come back at once", _drop),
    _Storm("kill -9 of the HTTP role, clients come back as documented", _kill),
)


def measure(bed: Bed) -> list[Row]:
    """One row for each way to break."""
    node, many = bed.websockets, websockets(bed)
    with (
        HookReceiver() as receiver,
        PacedChecks(node, pace(bed.options.seconds)) as checks,
        crowd_of(bed, many) as crowd,
    ):
        set_app(bed, "--presence-webhook-url", receiver.url)
        _watched(node, receiver)
        crowd.come()
        rows = [_row(node, storm, crowd, checks, receiver) for storm in _STORMS]
        crowd.drop()
        wait_until_gone(node)
        set_app(bed, "--presence-webhook-url", "")
    return rows


def _row(node: GateService, storm: _Storm, crowd: Crowd, checks: PacedChecks, receiver: HookReceiver) -> Row:
    feed = _Feed(node)
    feed.wait_until_quiet()
    feed.skip()
    busy_before, worker = os.getloadavg()[0], role_pid(node, "worker")
    rest_s = time.monotonic()
    time.sleep(IDLE_S)
    began_s, turns = time.monotonic(), _Turns.of(worker)
    look = storm.break_all(node, crowd)
    back_s, turns = max(look.welcomed_s) - began_s, _Turns.of(worker).since(turns)
    feed.wait_until_quiet()
    at_rest_ms = slowest_ms(checks.took_between(rest_s, began_s))
    took_ns = checks.took_between(began_s, time.monotonic())
    changes = feed.read()
    received = set(_all_received(receiver, changes))
    lost = [one for one in changes if one not in received]
    slowest = slowest_ms(took_ns)
    late = sum(1 for one in took_ns if one > MOST_CHECK_MS * 1e6)
    return Row(
        "websocket-storm",
        f"{crowd.many:,} WebSockets: {storm.what}; checks at {checks.per_s:,}/s meanwhile, clients on the same cores",
        f"back <= {MOST_BACK_S} s, no check > {MOST_CHECK_MS} ms, no webhook lost",
        f"{back_s:.1f} s; {slowest:.1f} ms (at rest {at_rest_ms:.1f}); {len(lost)} lost of {len(changes):,}",
        back_s <= MOST_BACK_S and slowest <= MOST_CHECK_MS and not lost,
        {
            "back_s": back_s,
            "half_back_s": median(look.welcomed_s) - began_s,
            "checks": len(took_ns),
            "checks_too_slow": late,
            "slowest_check_ms": slowest,
            "slowest_check_at_rest_ms": at_rest_ms,
            "p99_check_ms": p99_ms(took_ns),
            "worker_ran_ms": turns.ran_ms,
            "worker_waited_for_a_core_ms": turns.waited_ms,
            "load_average_before": busy_before,
            "refused": dict(look.refused),
            "clients_nice": CLIENTS_NICE,
        },
    )


class _Turns(NamedTuple):
    """A process's use of time: a check is late if the worker does other work, and also if it waits for a core."""

    ran_ms: float
    waited_ms: float

    @classmethod
    def of(cls, pid: int) -> _Turns:
        ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return cls(int(ran_ns) / 1e6, int(waited_ns) / 1e6)

    def since(self, before: _Turns) -> _Turns:
        return _Turns(self.ran_ms - before.ran_ms, self.waited_ms - before.waited_ms)


def _all_received(receiver: HookReceiver, wanted: list[Change]) -> list[Change]:
    """The receiver's changes, once the last change of the feed has arrived there."""
    received: list[Change] = []

    def has_last() -> bool:
        received[:] = receiver.received()
        return not wanted or wanted[-1] in received

    wait_until(has_last, SETTLED_WITHIN_S, "the newest change to arrive at the webhook")
    return received


def _watched(node: GateService, receiver: HookReceiver) -> None:
    """Until the receiver gets changes: the webhook begins with changes after it was set."""
    gateways, name = Gateways(node), b"probe"
    others = clients(node.credentials.app_key, node.credentials.app_secret, PROBES, "probe")
    with gateways.connect(name) as connection:

        def receives() -> bool:
            some = [others.pop()]
            opened, _ = ask(connection, gateways.opens(name, some), 1)
            ask(connection, gateways.closes(name, some, opened), 1)
            time.sleep(PROBE_EVERY_S)
            return bool(receiver.received())

        wait_until(receives, PROBES * PROBE_EVERY_S, "the presence webhook to begin")


class _Feed:
    """The changes that the webhook should deliver. They are read after the storm, because a large read delays checks."""

    def __init__(self, node: GateService) -> None:
        self._client = node.resp_client()
        self.skip()

    def skip(self) -> None:
        """Continue from the newest entry."""
        self._cursor: Any = self._events("$")[0]

    def wait_until_quiet(self) -> None:
        """Until nothing came for `QUIET_S`."""
        head, since_s = None, time.monotonic()

        def is_quiet() -> bool:
            nonlocal head, since_s
            if head != (head := self._events("$")[0]):
                since_s = time.monotonic()
            time.sleep(LOOK_EVERY_S)
            return time.monotonic() - since_s >= QUIET_S

        wait_until(is_quiet, SETTLED_WITHIN_S, "changes of Presence to end")

    def read(self) -> list[Change]:
        """The changes since `skip`."""
        received = []
        while True:
            self._cursor, events = self._events(self._cursor)
            for one in map(_fields, events):
                if status := STATUS_OF.get(one["kind"]):
                    received.append(Change(one["user"], status, one["session"]))
            if not events:
                return received

    def _events(self, after: Any) -> Any:
        return self._client.execute_command("GATE.EVENTS", after, "COUNT", EVENTS_A_CALL)


def _fields(event: dict[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(it) for name, it in event.items()}


def _text(given: Any) -> str:
    return given.decode() if isinstance(given, bytes) else str(given)


def role_pid(node: GateService, role: str) -> int:
    """Of a role's process that runs now."""
    return next(one.pid for one in node.processes() if f"gate.service.role {role} " in one.command + " ")
