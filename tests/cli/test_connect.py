"""`gate connect` as a person and a script use it, on a real service: online, requests, disconnects, refusals, reconnects."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.cli.client_staying import FIRST_WAIT_MS, LONGEST_WAIT_MS, drawn_wait_ms
from harness.cable import Cable
from harness.ports import free_port
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.service.running import kill

PATIENCE_S = 30


class Running:
    """The command at work, a pipe to its stdin, what it prints in two files."""

    def __init__(self, folder: Path, gate: Command, *options: str) -> None:
        folder.mkdir()
        self._paths = folder / "out", folder / "err"
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
        env |= {"GATE_DATA": str(gate.data)} | ({"GATE_APP": gate.app} if gate.app else {})
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gate", "connect", *options],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=env,
            )

    @property
    def out(self) -> str:
        return self._paths[0].read_text()

    @property
    def err(self) -> str:
        return self._paths[1].read_text()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The documents printed with `--json`. An incomplete last line is left out."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def types(self) -> list[str]:
        return [one["type"] for one in self.documents]

    def say(self, *lines: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._process.stdin.flush()

    def await_out(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.out.count(text) >= times, PATIENCE_S, f"{times} x {text!r}; {self.out} {self.err}")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def status(self) -> int:
        """Once it has ended."""
        status = self._process.wait(PATIENCE_S)
        assert "Traceback" not in self.err, self.err
        return status

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, gate: Command, service: GateService) -> Iterator[Start]:
    """Starts the command for the test's App, by default on the module's service."""
    runs: list[Running] = []

    def started(*options: str, at: str = service.http, to: Command = gate) -> Running:
        run = Running(tmp_path / f"run-{len(runs)}", to, "--http", at, *options)
        runs.append(run)
        return run

    yield started
    for run in runs:
        run.end()


def once(gate: Command, service: GateService, lines: str, *options: str, status: int = 0) -> Any:
    return gate("connect", "--http", service.http, "--once", *options, stdin=lines.encode(), status=status)


def test_a_script_asks_and_leaves(gate: Command, service: GateService) -> None:
    asked = "ping\n\npresence alice zoe\nblock eve\nblacklist eve\nblacklist\nunblock eve\nblacklist eve\nactive"
    shown = once(gate, service, asked, "--user", "alice", "--platform", "iOS").out.splitlines()
    assert shown[0].startswith("online as alice on iOS, Session ")
    assert shown[1:] == [
        "pong",
        "alice is online on iOS",
        "zoe is offline, never seen",
        "blocked: effective on every live node",
        "eve is on the Blacklist",
        "eve is on the Blacklist",
        "unblocked: effective on every live node",
        "eve is not on the Blacklist",
        "active",
    ]
    wait_until(lambda: gate("online", "alice", status=None).status == 1, PATIENCE_S, "its Session to be closed")


def test_json_is_what_came(gate: Command, service: GateService) -> None:
    asked = '{"type":"ping","id":7}\npresence bob\nquit\nping\n'
    result = gate("connect", "--http", service.http, "--user", "ann", "--json", stdin=asked.encode())
    welcome, pong, presence = map(json.loads, result.out.splitlines())
    assert (welcome["type"], welcome["user"], welcome["platform"]) == ("welcome", "ann", "Websocket")
    assert pong == {"type": "pong", "id": 7}
    assert [(one["user"], one["online"]) for one in presence["presence"]] == [("bob", False)]
    assert result.err == ""


def test_what_it_blocks_is_in_force(gate: Command, service: GateService) -> None:
    once(gate, service, "block eve mallory\n", "--user", "ann")
    assert gate("check", "eve", "ann", status=1).out == "blacklisted\n"
    gate("check", "trudy", "ann")


def test_ids_that_are_no_text(gate: Command, service: GateService) -> None:
    asked = b'block \xfd\nblacklist\n{"type":"blacklist","user":{"b64":"/Q=="}}'
    result = gate("connect", "--http", service.http, "--user", "ann", "--once", stdin=asked)
    assert result.out.count("\\xfd is on the Blacklist") == 2
    assert gate("check", b"\xfd", "ann", status=1).out == "blacklisted\n"


def test_a_wrong_line_costs_only_itself(gate: Command, service: GateService) -> None:
    wrong = ["hello", "presence", "block", "ping ping", "blacklist a b", '{"type":', "block " + "x" * 65, "x" * 300_000]
    result = once(gate, service, "\n".join([*wrong, "ping"]), "--user", "ann", status=1)
    assert result.out.splitlines()[1:] == ["pong"]
    assert len(result.err.splitlines()) == len(wrong) + 1
    assert all(line.startswith(("gate: line: ", "gate: USER: ")) for line in result.err.splitlines()[:-1])
    refused = once(gate, service, '{"type":"shout"}\n["x"]\nping\n', "--user", "ann", status=1)
    assert "error: invalid: type: must be one of" in refused.out and "pong" in refused.out


def test_more_lines_than_may_be_sent_in_a_second(gate: Command, service: GateService) -> None:
    result = once(gate, service, "ping\n" * 120, "--user", "ann")
    assert result.out.count("pong") == 120 and result.err == ""


def test_a_client_connects_with_a_token_which_is_not_printed(gate: Command, service: GateService, start: Start) -> None:
    token = gate("user", "token", "ann").out.strip()
    run = start(token, "--for", "0.5")
    assert run.status() == 0
    assert "online as ann" in run.out and token not in run.out + run.err
    gate("connect", "--http", service.http, "--user", "ann", token, status=2)


def test_a_logout_ends_the_command_with_status_0(gate: Command, service: GateService, start: Start) -> None:
    for _ in range(3):  # whichever comes first, the answer or the end
        run = start("--user", "leo")
        run.await_out("online as leo")
        run.say("logout")
        assert (run.status(), run.err) == (0, "")
        assert run.out.endswith("logout\n")


def test_a_ban_disconnects_the_client(gate: Command, service: GateService, start: Start) -> None:
    token = gate("user", "token", "ann").out.strip()
    run, program = start(token), start(token, "--json")
    run.await_out("online as ann")
    program.await_out("welcome")
    gate("ban", "ann", "--minutes", "10")
    assert (run.status(), program.status()) == (1, 1)
    assert "banned" in run.err and "(until " in run.err
    assert program.types() == ["welcome", "closing", "closed"]
    closed = program.documents[-1]
    assert (closed["code"], closed["reason"], closed["reconnect"]) == (4403, "banned", False) and closed["until"]
    again = gate("connect", "--http", service.http, token, "--json", status=1)
    refused = json.loads(again.out)
    assert refused == refused | {"type": "refused", "status": 403, "error": "user-banned", "until": closed["until"]}
    assert again.err.startswith("gate: refused: user-banned: ") and token not in again.out + again.err


def test_a_token_that_is_not_accepted(gate: Command, service: GateService) -> None:
    token = gate("user", "token", "ann").out.strip()
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    for shown, word in ((forged, "token-forged"), ("hello", "token-malformed")):
        result = gate("connect", "--http", service.http, shown, status=1)
        assert word in result.err and shown not in result.err + result.out and result.out == ""
    gate("user", "deactivate", "ann")
    assert "user-deactivated" in gate("connect", "--http", service.http, token, status=1).err


def test_its_token_is_revoked(gate: Command, service: GateService, start: Start) -> None:
    assert gate.app
    token = gate("user", "token", "ann").out.strip()
    run = start(token, "--json")
    run.await_out("welcome")
    gate("user", "expire", "ann")
    assert "token-revoked" in gate("connect", "--http", service.http, token, status=1).err
    run.say("ping", "blacklist")  # the Session outlives it, by this App's settings, and may do nothing
    run.await_out("token-revoked")
    assert run.types() == ["welcome", "pong", "error"]
    gate("app", "set", gate.app, "--close-sessions-on-expire")
    gate("user", "expire", "ann")
    assert run.status() == 1 and run.documents[-1]["code"] == 4401


def test_kicked_and_back(gate: Command, start: Start) -> None:
    run, leaving = start("--user", "ann", "--json"), start("--user", "bob", "--no-reconnect")
    run.await_out("welcome")
    leaving.await_out("online")
    gate("kick", "ann")
    gate("kick", "bob")
    run.await_out("welcome", 2)
    assert run.types() == ["welcome", "closing", "closed", "reconnecting", "welcome"]
    closing, waiting = run.documents[1], run.documents[3]
    assert (closing["reason"], closing["reconnect_ms"]) == ("kicked", waiting["in_ms"])
    run.say("ping", "quit")
    assert run.status() == 0 and run.types()[-1] == "pong"
    assert leaving.status() == 1 and "operator" in leaving.err


def test_replaced_by_a_newer_device(gate: Command, start: Start) -> None:
    assert gate.app
    gate("app", "set", gate.app, "--device-policy", "one")
    older = start("--user", "ann")
    older.await_out("online")
    newer = start("--user", "ann")
    newer.await_out("online")
    assert older.status() == 1 and "newer device" in older.err
    newer.interrupt()
    assert newer.status() == 0


def test_ctrl_c_closes_and_is_no_failure(gate: Command, start: Start) -> None:
    run = start("--user", "ann")
    run.await_out("online")
    run.interrupt()
    assert run.status() == 0 and run.err == ""
    wait_until(lambda: gate("online", "ann", status=None).status == 1, PATIENCE_S, "its Session to be closed")


def test_stdin_that_is_closed_or_null(gate: Command, service: GateService) -> None:
    words = [sys.executable, "-m", "gate", "connect", "--http", service.http, "--user", "ann", "--for", "0.2"]
    env = {**os.environ, "GATE_DATA": str(gate.data), "GATE_APP": gate.app or ""}
    closed = subprocess.run(words, capture_output=True, env=env, preexec_fn=lambda: os.close(0), timeout=PATIENCE_S)
    null = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=PATIENCE_S)
    for run in (closed, null):
        assert (run.returncode, run.stderr) == (0, b"") and run.stdout.startswith(b"online as ann")


def test_nothing_there(gate: Command, service: GateService) -> None:
    where = f"127.0.0.1:{free_port()}"
    result = gate("connect", "token", "--http", where, "--json", status=3)
    assert json.loads(result.out) == {"type": "unreachable", "message": "Connection refused"}
    assert result.err == f"gate: cannot connect to http://{where}: Connection refused (--http says where)\n"
    no_http = gate("connect", "token", "--http", f"127.0.0.1:{service.resp_port}", status=3).err
    assert "what answers there speaks no HTTP (--http says where)" in no_http
    assert "no host of that name is known" in gate("connect", "token", "--http", "gate.invalid:1", status=3).err
    assert "not-found" in gate("connect", "token", "--http", f"{service.http}/elsewhere", status=1).err


def test_all_mistakes_are_reported_at_once(anyone: Command) -> None:
    err = anyone("connect", "se cret", "--http", "http://me:secret@host/", "--platform", "a b", status=2).err
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["--http", "platform", "TOKEN"]
    assert "cret" not in err
    anyone("connect", status=2)
    anyone("connect", "--user", "", status=2)


def test_a_broken_connection_is_followed_by_a_reconnect(gate: Command, service: GateService, start: Start) -> None:
    with Cable(int(service.http.rpartition(":")[2])) as cable:
        run = start("--user", "ann", at=f"127.0.0.1:{cable.port}")
        leaving = start("--user", "bob", "--no-reconnect", at=f"127.0.0.1:{cable.port}")
        run.await_out("online")
        leaving.await_out("online")
        with cable.cut_off():
            assert leaving.status() == 3 and "the connection broke" in leaving.err
            run.say("presence ann")  # while there is no connection
            wait_until(lambda: run.err.count("Connection refused") >= 1, PATIENCE_S, "an attempt that failed")
        run.await_out("online as ann", 2)
        run.await_out("ann is online on")
        cable.cut()
        wait_until(lambda: "the connection broke" in run.err.split("refused")[-1], PATIENCE_S, "word of it")
        run.interrupt()
        assert run.status() == 3


def test_a_server_that_is_silent_is_noticed(gate: Command, service: GateService, start: Start) -> None:
    with Cable(int(service.http.rpartition(":")[2])) as cable:
        run = start("--user", "ann", "--ping", "0.2", at=f"127.0.0.1:{cable.port}")
        run.await_out("online")
        with cable.frozen():
            wait_until(lambda: "the server does not answer" in run.err, PATIENCE_S, "word of the silence")
        run.await_out("online", 2)


def test_the_process_it_was_connected_to_dies(start_service: Services, start: Start) -> None:
    service = start_service.start()
    run = start("--user", "ann", at=service.http, to=Command(service.data))
    run.await_out("online")
    kill(service, "http")
    run.await_out("online", 2)
    assert "connecting again in" in run.err


def test_a_node_that_drains_is_left_and_found_again(start_service: Services, start: Start) -> None:
    port = free_port()
    service = start_service.start(http_port=port)
    gate = Command(service.data)
    run = start("--user", "ann", "--json", at=service.http, to=gate)
    run.await_out("welcome")
    service.stop()
    wait_until(lambda: "reconnecting" in run.types(), PATIENCE_S, "word of the drain")
    closing = run.documents[1]
    assert (closing["type"], closing["reason"], closing["code"]) == ("closing", "shutting-down", 1001)
    start_service.start(data=service.data, http_port=port)
    run.await_out("welcome", 2)


def test_waits_grow_and_have_chance_in_them() -> None:
    assert [drawn_wait_ms(FIRST_WAIT_MS, drawn) for drawn in (0.0, 0.5, 1.0)] == [500, 750, 1_000]
    longest = [float(FIRST_WAIT_MS)]
    for _ in range(8):
        longest.append(drawn_wait_ms(longest[-1], 1.0))
    assert longest[1:4] == [1_000, 2_000, 4_000] and longest[-1] == LONGEST_WAIT_MS
