"""Who is online, from the command line: it says what HTTP says, of Sessions that a Gateway really holds."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from gate.cli.options import login_name, system_user
from gate.core.model import AppFacts
from gate.service.embedded import socket_path, socket_url
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.presence.played import Gateway, presence_on

LONG_LEASE = ("--lease-ttl-ms", "600000")
"""The leases of these tests are not renewed."""


class Edge:
    """A Gateway of one App, played from code that does not wait."""

    def __init__(self, runner: asyncio.Runner, url: str, app: AppFacts, name: bytes) -> None:
        self._run = runner.run
        self.store = presence_on(url)
        self.gateway = Gateway(self.store, app, name)
        self._run(self.gateway.lease())

    def open(self, user: bytes, platform: str = "iOS") -> str:
        return self._run(self.gateway.open(user, platform))

    def sample(self) -> None:
        self._run(self.store.sample(self.gateway.app.key))

    def end(self) -> None:
        assert self._run(self.store.end_lease(self.gateway.app.key, self.gateway.name, self.gateway.epoch))

    def leave(self) -> None:
        self._run(self.store.client.aclose())


class Edges:
    """Gateways that are let go of after the test."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._edges: list[Edge] = []

    def __call__(self, url: str, app_key: str | None, name: bytes = b"edge-1") -> Edge:
        assert app_key
        edge = Edge(self._runner, url, AppFacts(key=app_key, secrets=("unused",)), name)
        self._edges.append(edge)
        return edge

    def leave_all(self) -> None:
        for edge in self._edges:
            edge.leave()
        self._runner.close()


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start(*LONG_LEASE)


@pytest.fixture
def edges() -> Iterator[Edges]:
    made = Edges()
    yield made
    made.leave_all()


@pytest.fixture
def edge(edges: Edges, service: GateService, gate: Command) -> Edge:
    return edges(url_of(service), gate.app)


def url_of(service: GateService) -> str:
    return socket_url(socket_path(service.data / "redis"))


def over_http(service: GateService, app: tuple[str, str], method: str, path: str, body: Any = None) -> Any:
    answer = requests.request(method, f"{service.http}{path}", json=body, auth=app, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_online(gate: Command, edge: Edge) -> None:
    edge.open(b"ann")
    edge.open(b"ann", "Web")
    shown = gate("online", "ann").out
    assert "online" in shown and "iOS, Web" in shown
    away = gate("online", "ann", "bob", status=1).out
    assert "never seen" in away
    rows = gate.json("online", "ann", "bob", status=1)["presence"]
    assert [(row["user"], row["online"]) for row in rows] == [("ann", True), ("bob", False)]
    assert "2 Sessions" in gate("online", "--counts").out
    assert gate("online").out == gate("online", "--counts").out
    assert gate.json("online") == gate.json("online", "--counts")
    for both in (("ann", "--counts"), ("ann", "--history"), ("--counts", "--history")):
        assert "gate: USER: say which, or --counts, or --history; one of them" in gate("online", *both, status=2).err
    gate("kick", "ann")
    assert "last seen" in gate("online", "ann", status=1).out


def test_it_says_what_http_says(service: GateService, edges: Edges) -> None:
    app = secrets.token_hex(4), secrets.token_hex(16)
    Command(service.data)("app", "create", "Test", "--key", app[0], "--secret", app[1])
    gate = Command(service.data, app[0])
    first, second = edges(url_of(service), app[0]), edges(url_of(service), app[0], b"edge-2")
    first.open(b"ann")
    second.open(b"ann", "Web")
    second.open(b"bob", "Web")
    asked = {"users": ["ann", "zoe"]}
    assert gate.json("online", "ann", "zoe", status=1) == over_http(service, app, "POST", "/v1/presence", asked)
    assert gate.json("online", "--counts") == over_http(service, app, "GET", "/v1/presence/counts")
    assert gate.json("sessions", "ann") == over_http(service, app, "GET", "/v1/users/ann/sessions")
    listed = [gate.json("gateways"), over_http(service, app, "GET", "/v1/gateways")]
    for gateway in (one for answer in listed for one in answer["gateways"]):
        assert gateway.pop("age_ms") < 60_000
    assert listed[0] == listed[1]


def test_sessions(gate: Command, edge: Edge) -> None:
    assert "never seen" in gate("sessions", "ann", status=1).out
    assert gate.json("sessions", "ann", status=1)["sessions"] == []
    opened = [edge.open(b"ann"), edge.open(b"ann", "Web")]
    assert [one["session"] for one in gate.json("sessions", "ann")["sessions"]] == opened
    shown = gate("sessions", "ann").out
    assert all(one in shown for one in [*opened, "edge-1", "Web"])


def test_kick(gate: Command, edge: Edge) -> None:
    phone, _, _ = edge.open(b"ann"), edge.open(b"ann", "Web"), edge.open(b"ann", "Web")
    assert gate.json("kick", "ann", "--platform", "Web") == {"user": "ann", "closed": 2}
    assert gate("kick", "ann", "--session", phone).out == "1 Session of ann closed\n"
    gone = gate("kick", "ann", "--session", phone, status=1)
    assert gone.out == "" and "no such Session" in gone.err
    assert "is of ann" in gate("kick", "bob", "--session", phone, status=2).err
    mistakes = gate("kick", "", "--session", "x", "--platform", "a b", status=2).err.splitlines()
    assert [line.split(":")[1].strip() for line in mistakes] == ["USER", "session", "platform"]


def test_a_kick_is_in_the_audit(gate: Command, edge: Edge) -> None:
    edge.open(b"ann")
    edge.open(b"ann", "Web")
    gate("kick", "ann", "--platform", "Web", "--reason", "spam", "--actor", "ops@x")
    gate("kick", "ann")
    last, first = gate.json("audit", "--user", "ann")["entries"]
    assert first.pop("at") <= last.pop("at")
    for entry in (first, last):
        assert entry.pop("by") == {"kind": "cli", "name": system_user()}
        assert entry.pop("on_behalf_of", "") == entry["actor"]
    assert first == {
        "what": "kicked",
        "user": "ann",
        "platform": "Web",
        "closed": 1,
        "actor": "ops@x",
        "reason": "spam",
    }
    assert last == {"what": "kicked", "user": "ann", "closed": 1, "actor": login_name(), "reason": ""}
    assert "1 Session Web" in gate("audit").out
    assert "reason" in gate("kick", "ann", "--reason", "x" * 10_000, status=2).err


def test_history(gate: Command, edge: Edge) -> None:
    edge.open(b"ann")
    edge.open(b"bob", "Web")
    edge.sample()
    wait_until(
        lambda: gate.json("online", "--history")["samples"][-1]["sessions"] == 2, 40, "a sample with both of them"
    )
    (*_, sample) = gate.json("online", "--history")["samples"]
    assert (sample["users"], sample["by_platform"], sample["by_gateway"]) == (2, {"Web": 1, "iOS": 1}, {"edge-1": 2})
    shown = gate("online", "--history").out
    lines = {words[0]: words[1:] for words in map(str.split, shown.splitlines()) if words}
    assert {"Users", "Sessions", "iOS", "Web"} < lines.keys()
    assert len(lines["Users"][0]) == 60 and "█" in lines["Users"][0] and lines["Users"][-2:] == ["2", "2"]
    assert "sample" in shown


def test_gateways(gate: Command, edges: Edges, service: GateService) -> None:
    assert "no Gateway" in gate("gateways").out
    edge = edges(url_of(service), gate.app)
    edge.open(b"ann")
    shown = gate("gateways").out
    assert all(word in shown for word in ("edge-1", "holds", "ago"))
    edge.end()
    (one,) = gate.json("gateways")["gateways"]
    assert one == one | {"gateway": "edge-1", "epoch": 1, "holds": False, "sessions": 0}
    assert "ended" in gate("gateways").out


def test_ids_that_are_no_text(gate: Command, edge: Edge) -> None:
    edge.open(b"\xff\xfe")
    assert gate.json("online", b"\xff\xfe")["presence"][0]["user"] == {"b64": "//4="}
    assert gate.json("kick", b"\xff\xfe") == {"user": {"b64": "//4="}, "closed": 1}
    assert "\\xff\\xfe" in gate("sessions", b"\xff\xfe", status=1).out


def test_events_since_a_cursor(gate: Command, edge: Edge) -> None:
    (start,) = json_lines(gate("events", "--json").out)
    edge.open(b"ann")
    edge.open(b"bob", "Web")
    gate("kick", "ann")
    events = json_lines(gate("events", "--since", start["cursor"], "--json").out)
    assert [(one["kind"], one["user"]) for one in events[:3]] == [("online", "ann"), ("online", "bob"), ("kick", "ann")]
    shown = gate("events", "--since", events[0]["cursor"])
    assert (
        "online" in shown.out
        and " bob Web edge-1 " in shown.out
        and "(kicked)" in shown.out
        and " ann iOS" in shown.out
    )
    assert shown.err.startswith("gate: go on with --since ")
    some = ("events", "--since", start["cursor"])
    assert " bob " in gate(*some, "--user", "bob").out and "ann" not in gate(*some, "--user", "bob").out
    assert len(gate(*some, "--kinds", "kick,offline", "--user", "ann", "--gateway", "edge-1").out.splitlines()) >= 1
    assert gate(*some, "--gateway", "edge-2").out == ""
    # A departure is reported after a delay (debounce).
    wait_until(lambda: " offline " in gate(*some, "--kinds", "offline").out, 30, "the departure in the feed")


def test_events_that_are_no_longer_kept(gate: Command, edge: Edge) -> None:
    edge.open(b"ann")
    lost = gate("events", "--since", "aaaaaaaaaaaaa-7-aaaaaaaaaaaaa", status=1)
    assert lost.out == "" and "began again" in lost.err
    onward = lost.err.split("--since ")[1].split()[0]
    edge.open(b"bob")
    assert " bob " in gate("events", "--since", onward).out


def test_mistakes(anyone: Command) -> None:
    anyone("online", "ann", "--counts", status=2)
    err = anyone("events", "--since", "x", "--kinds", "online,away", "--user", "", "--gateway", "a b", status=2).err
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["--since", "--kinds", "--user", "gateway"]


@pytest.mark.parametrize("words", [["online", "ann"], ["sessions", "ann"], ["kick", "ann"], ["gateways"], ["events"]])
def test_what_is_not_there(words: list[str], service: GateService) -> None:
    assert "nosuch" in Command(service.data, "nosuch")(*words, status=1).err
    away = Command(service.data, "nosuch", f"redis://127.0.0.1:{free_port()}")
    assert len(away(*words, status=3).err.splitlines()) == 1


def test_presence_in_a_redis_of_its_own(redis_server: RedisServer, private_redis: RedisServer, edges: Edges) -> None:
    gate = Command(private_redis.directory, "some-app", redis_server.url)
    gate("app", "create", "x", "--key", "some-app")
    edges(private_redis.url, "some-app").open(b"ann")
    gate("online", "ann", status=1)
    gate("online", "ann", "--presence-redis", private_redis.url)
    gate("online", "ann", "--presence-redis", f"redis://127.0.0.1:{free_port()}", status=3)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
