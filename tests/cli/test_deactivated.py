"""Deactivation on a real service: erased within seconds, proven by a check of every key, reported by webhook and audit."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest

from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command

DONE_WITHIN_S = 30.0
ALL_DONE_WITHIN_S = 120.0
"""A job whose worker was killed is due again after ten seconds, and each job may have lost several workers."""


class Listener(HTTPServer):
    """Notes each form that is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[dict[str, list[str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(parse_qs(body.decode()))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fill(gate: Command, user: str) -> None:
    gate("user", "token", user, "--name", "Ann")
    gate("ban", user, "--permanent")
    gate("mute", user, "--permanent")
    for noun in ("blacklist", "whitelist"):
        gate(noun, "add", user, "x", "y")
        gate(noun, "add", "other", user)


def is_erased(gate: Command, user: str) -> bool:
    return gate("user", "erasure-proof", user, status=None).status == 0


@pytest.mark.parametrize("verb", ["ban", "mute"])
def test_a_ban_of_many_leaves_out_who_is_deactivated(gate: Command, verb: str) -> None:
    gate("user", "deactivate", "ann", "eve")
    assert "left out, deactivated: ann, eve" in gate(verb, "ann", "bob", "eve", "--for", "7d").out
    done = gate.json(verb, "ann", "bob", "--for", "7d")
    assert (done["users"], done["skipped"], done["applied"]) == (["bob"], ["ann"], "all")
    assert gate("check", "bob", "x", status=1).out.startswith("sender-")
    assert "deactivated: ann" in gate(verb, "ann", "--for", "7d", status=1).err


def test_from_deactivation_to_the_proof(gate: Command, listener: Listener) -> None:
    gate("app", "set", str(gate.app), "--webhook-url", listener.url)
    fill(gate, "ann")
    assert "NOT ERASED" in gate("user", "erasure-proof", "ann", status=1).out
    deactivated = gate.json("user", "deactivate", "ann", "--reason", "asked to", "--actor", "joe")
    assert deactivated["applied"] == "all"
    assert gate("check", "ann", "bob", status=1).out == "sender-deactivated\n"
    wait_until(lambda: is_erased(gate, "ann"), DONE_WITHIN_S, "the erasure")
    assert gate("check", "ann", "bob", status=1).out == "sender-deactivated\n", "erased is not reactivated"
    proof = gate.json("user", "erasure-proof", "ann")
    assert {(row["in"], row["place"]) for row in proof["found"]} == {
        ("Redis", "the Changelog, until it is trimmed"),
        ("Redis", "the audit"),
        ("Redis", "the set of gone"),
        ("Redis", "blacklists of others"),
        ("Redis", "whitelists of others"),
        ("Redis", "its own record: that it is out of use, since when Tokens are valid"),
        ("Replica", "its own record: that it is out of use, since when Tokens are valid"),
        ("Replica", "blacklists of others"),
        ("Replica", "whitelists of others"),
        ("Replica", "the journal of recent commits"),
    }
    wait_until(lambda: listener.heard, DONE_WITHIN_S, "the webhook")
    assert [form["operateId"] for form in listener.heard] == [[deactivated["operation"]]]
    assert listener.heard[0]["userId"] == ["ann"] and listener.heard[0]["type"] == ["0"]
    assert [row["user"] for row in gate.json("user", "deactivated")["users"]] == ["ann"]
    erased, first, *_ = gate.json("audit", "--user", "ann")["entries"]
    assert (first["what"], first["actor"], first["reason"]) == ("user-deactivated", "joe", "asked to")
    assert (erased["what"], erased["actor"]) == ("user-erased", "gate")


def test_an_id_comes_back_when_it_may(gate: Command) -> None:
    gate("user", "deactivate", "ann")
    refused = gate("user", "reactivate", "ann", status=1)
    assert "may be reactivated from" in refused.err
    gate("app", "set", str(gate.app), "--reactivate-after", "0")
    wait_until(lambda: gate("user", "reactivate", "ann", status=None).status == 0, DONE_WITHIN_S, "the erasure")
    assert gate("check", "ann", "bob").out == "allowed\n"
    assert "no User is deactivated" in gate("user", "deactivated").out


def test_an_unused_id_is_found_nowhere(gate: Command) -> None:
    assert gate("user", "erasure-proof", secrets.token_hex(8)).out == "the id is nowhere\n"


def test_the_audit_between_moments(gate: Command) -> None:
    gate("ban", "ann", "--permanent", "--reason", "spam\x1b[2J", "--actor", "joe")
    entries = gate.json("audit")["entries"]
    assert [entry["what"] for entry in entries] == ["ban-imposed", "app-set"]
    at = str(entries[0]["at"])
    assert gate.json("audit", "--from", at, "--limit", "5")["entries"] == entries[:1]
    assert gate.json("audit", "--user", "ann", "--to", at)["entries"] == []
    table = gate("audit").out
    assert "without end" in table and "joe" in table and "\x1b" not in table
    mistakes = gate("audit", "--user", "", "--from", "yesterday", status=2).err
    assert "--user" in mistakes and "--from" in mistakes


def test_every_command_that_writes_can_say_why(gate: Command) -> None:
    why = ("--reason", "因为", "--actor", "joe")
    gate("ban", "ann", "--permanent", *why)
    gate("unban", "ann", *why)
    gate("mute", "ann", "--permanent", *why)
    gate("unmute", "ann", *why)
    gate("blacklist", "add", "ann", "x", *why)
    gate("whitelist", "remove", "ann", "x", *why)
    gate("whitelist", "on", "ann", *why)
    gate("user", "expire", "ann", *why)
    gate("user", "deactivate", "ann", *why)
    entries = gate.json("audit", "--user", "ann")["entries"]
    kinds = [entry["what"] for entry in entries if (entry["actor"], entry["reason"]) == ("joe", "因为")]
    assert list(reversed(kinds)) == [
        "ban-imposed",
        "ban-lifted",
        "mute-imposed",
        "mute-lifted",
        "blocked",
        "unadmitted",
        "whitelist-switched",
        "tokens-revoked",
        "user-deactivated",
    ]


def _is_another(service: GateService, pid: int) -> bool:
    return background_pid(service) != pid


def background_pid(service: GateService) -> int | None:
    return next((one.pid for one in service.processes() if "gate.service.role background" in one.command), None)


@pytest.mark.timeout(ALL_DONE_WITHIN_S + 120)
def test_a_worker_that_is_killed_over_and_over_loses_no_erasure(start_service: Services, listener: Listener) -> None:
    service = start_service.start()
    gate = Command(service.data, service.credentials.app_key)
    gate("app", "set", str(gate.app), "--webhook-url", listener.url)
    users = [f"u{number}" for number in range(300)]
    gate("ban", *users, "--permanent")
    gate("user", "deactivate", *users)
    for _ in range(3):
        pid = wait_until(lambda: background_pid(service), DONE_WITHIN_S, "a background worker")
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(_is_another, service, pid), DONE_WITHIN_S, "its end")
    wait_until(lambda: {form["userId"][0] for form in listener.heard} >= set(users), ALL_DONE_WITHIN_S, "every result")
    heard = listener.heard
    assert {form["operateId"][0] for form in heard} and {form["code"][0] for form in heard} == {"0"}
    assert gate.json("bans")["bans"] == []
    assert is_erased(gate, "u0") and is_erased(gate, "u299")
