"""The package in Node, with Node's own WebSocket and with the npm package `ws`, against a real node."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.core import token
from gate.core.model import AppFacts
from harness.cable import Cable
from harness.service import GateService
from tests.browser.conftest import call
from tests.client_package.conftest import ROOT, Built

SOON_S = 20.0
DRIVER = Path(__file__).parent / "driver.mjs"
WS = ROOT / "client/node_modules/ws/wrapper.mjs"


class Client:
    """The package in a process of Node; `user` is whose Tokens it is given, `ttl_s` their life (0: no end)."""

    def __init__(self, built: Built, url: str, service: GateService, ws: bool = False) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no Node: scripts/install-test-tools installs Debian's")
        module = built.folder / "dist/index.js"
        command = [node, "--experimental-websocket", "--no-warnings", str(DRIVER), module.as_uri(), url]
        self._process = subprocess.Popen(
            [*command, WS.as_uri()] if ws else command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._service = service
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.user = "ann"
        self.ttl_s = 0
        self.seen: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def do(self, name: str, **more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **more}) + "\n")
        self._process.stdin.flush()

    def until(self, wanted: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """The next report that fits. Tokens that are asked for meanwhile are given."""
        deadline_s = time.monotonic() + SOON_S
        while True:
            try:
                heard = self._heard.get(timeout=max(0.01, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited for {what}; came: {self.seen}") from None
            self.seen.append(heard)
            if "wanted" in heard:
                self.do("token", token=self.mint())
            if wanted(heard):
                return heard

    def until_state(self, name: str, reason: str | None = None) -> dict[str, Any]:
        def fits(heard: dict[str, Any]) -> bool:
            state = heard.get("state", {})
            return state.get("name") == name and reason in (None, state.get("reason"))

        state: dict[str, Any] = self.until(fits, f"{name} {reason or ''}")["state"]
        return state

    def until_shown(self, user: str, online: bool) -> None:
        def fits(heard: dict[str, Any]) -> bool:
            return any(one["user"] == user and one["online"] is online for one in heard.get("shown", ()))

        self.until(fits, f"{user} shown as {online}")

    def online(self, **options: Any) -> None:
        self.do("connect", **options)
        self.until_state("online")

    def mint(self) -> str:
        known = self._service.credentials
        app = AppFacts(key=known.app_key, secrets=(known.app_secret,), token_ttl_s=self.ttl_s)
        return token.mint(app, self.user.encode(), time.time_ns() // 1_000_000, os.urandom(8))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0  # nothing keeps the process alive once the client is closed

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(json.loads(line))


@pytest.fixture(params=["its own WebSocket", "ws"])
def client(request: pytest.FixtureRequest, built: Built, service: GateService) -> Iterator[Client]:
    client = Client(built, f"{service.http}/", service, ws=request.param == "ws")
    yield client
    client.close()


def test_connect_ask_watch_and_close(client: Client, service: GateService) -> None:
    client.online(platform="Node")
    client.do("watch", users=["ann", "other"])
    client.until_shown("ann", True)
    client.do("ask", message={"type": "presence", "users": ["ann"]})
    answer = client.until(lambda heard: "answer" in heard, "an answer")["answer"]
    assert answer["presence"][0]["platforms"][0]["platform"] == "Node"
    client.do("ask", message={"type": "presence", "users": []})
    assert client.until(lambda heard: "failed" in heard, "an error")["word"] == "invalid"
    client.do("close")
    assert client.until_state("offline", "closed")["isFinal"]


def test_kicked_banned_and_renewed(client: Client, service: GateService) -> None:
    client.user, client.ttl_s = "ned", 4
    client.online()
    client.ttl_s = 600
    client.until(lambda heard: heard.get("wanted") == {"why": "ending"}, "a newer Token to be asked for")
    call(service, "POST", "users/ned/kick", {})
    assert client.until_state("offline", "kicked")["isFinal"]
    call(service, "POST", "bans", {"users": ["ned"], "seconds": 600})
    client.do("connect")
    state = client.until_state("offline", "banned")
    assert state["isFinal"] and state["until"] > time.time() * 1_000
    call(service, "DELETE", "bans", {"users": ["ned"]})


def test_a_token_of_another_user_is_a_problem_and_changes_nothing(client: Client) -> None:
    client.user, client.ttl_s = "pat", 4
    client.online()
    client.user, client.ttl_s = "another", 600
    problem = client.until(lambda heard: "problem" in heard, "the problem")["problem"]
    assert "another User" in problem
    client.do("ask", message={"type": "ping"})
    assert client.until(lambda heard: "answer" in heard, "an answer")["answer"]["type"] == "pong"


def test_the_network_is_cut_and_comes_back(built: Built, service: GateService) -> None:
    with Cable(int(service.http.rsplit(":", 1)[1])) as cable:
        client = Client(built, f"http://127.0.0.1:{cable.port}/", service)
        client.online()
        client.do("watch", users=["ann"])
        client.until_shown("ann", True)
        with cable.cut_off():
            state = client.until_state("offline", "broken")
            assert not state["isFinal"] and 500 <= state["reconnectMs"] <= 1_000
            later = client.until_state("offline", "unreachable")
            assert later["reconnectMs"] >= 500
        client.until_state("online")
        client.until_shown("ann", True)
        client.close()
