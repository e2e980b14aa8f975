"""Every client that can be installed here connects with its defaults, checks, pipelines and transacts, without a new error.

And docs/clients.md is right about what each sends of its own accord: it is compared with what was recorded on the wire.
"""

from __future__ import annotations

import itertools
import re
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.waiting import wait_until
from tests.clients.gate_node import Node
from tests.clients.pages import answers, sent_by_clients
from tests.clients.programs import CLIENTS, Client, run
from tests.clients.recorder import Conversation, recording

CONTAINERS = {"CLIENT", "CLUSTER", "COMMAND", "CONFIG", "HELLO", "INFO"}
"""Of these commands, the second word says which."""

TRANSACTION = {"MULTI", "EXEC"}
METRICS_TIMEOUT_S = 5.0


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_connects_checks_pipelines_and_transacts(client: Client, node: Node, tmp_path: Path) -> None:
    with recording(node.service.resp_port) as recorder:
        printed = run(client, recorder.port, node.key, node.secret, tmp_path)
    assert printed["check"] == ["1", "0"]
    assert printed["pipeline"] == ["1", "0"] * 50
    assert printed["transaction"] == ["1", "0", "blacklisted"]
    known = {name: row.reply for name, row in answers().items()}
    for command, error in (refused for one in recorder.conversations for refused in one.errors()):
        assert error.startswith(known[_name(command)]), (command, error)

    row = sent_by_clients()[client.name]
    version = printed.get("version", [row.version])
    assert row.version in version or not client.is_pinned
    if row.version in version:
        assert _on_connecting(recorder.conversations) == row.on_connecting
        assert _later(recorder.conversations) == row.later


def test_connecting_does_not_raise_the_error_metric(node: Node, tmp_path: Path) -> None:
    """What a client that sends much on connecting was refused would be counted, whether or not it minded."""
    before = _errors(node)
    run(CLIENTS[0], node.service.resp_port, node.key, node.secret, tmp_path)
    assert _errors(node) == before


def _on_connecting(conversations: list[Conversation]) -> list[str]:
    """What came before the first command of the user, on any connection, each named once."""
    return _names(
        command
        for one in conversations
        for command in itertools.takewhile(lambda command: not _is_the_users(command), one.commands)
    )


def _later(conversations: list[Conversation]) -> list[str]:
    """What the client sent behind that, its user's commands aside."""
    return _names(
        command
        for one in conversations
        for command in itertools.dropwhile(lambda command: not _is_the_users(command), one.commands)
        if not _is_the_users(command)
    )


def _is_the_users(command: list[bytes]) -> bool:
    name = command[0].decode().upper()
    return name.startswith("GATE.") or name in TRANSACTION


def _names(commands: Iterable[list[bytes]]) -> list[str]:
    return list(dict.fromkeys(map(_name, commands)))


def _name(command: list[bytes]) -> str:
    words = [word.decode().upper() for word in command[:2]]
    return " ".join(words) if words[0] in CONTAINERS else words[0]


def _errors(node: Node) -> float:
    """The metric of refused commands, once it knows all that was refused until now."""
    # A worker hands its figures over now and then: those that know of this connection know all that was before it.
    with node.service.resp_client() as probe:
        opened = probe.info("stats")["total_connections_received"]
    wait_until(lambda: _metric(node, "gate_resp_connections_opened_total") >= opened, METRICS_TIMEOUT_S, "new figures")
    return _metric(node, "gate_resp_errors_total")


def _metric(node: Node, name: str) -> float:
    with urllib.request.urlopen(f"{node.service.http}/metrics") as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])
