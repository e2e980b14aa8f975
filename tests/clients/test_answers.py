"""What docs/clients.md says that Gate answers to the commands that clients send by default."""

from __future__ import annotations

import socket
from typing import Any

import hiredis
import pytest

from harness.ports import LOOPBACK
from tests.clients.gate_node import Node
from tests.clients.pages import Answered, answers, sent_by_absent_clients, sent_by_clients

TIMEOUT_S = 10.0
KINDS: dict[str, type] = {"map": dict, "null": type(None), "number": int, "text": bytes}
"""What the table calls a reply of RESP3."""

LAST = "QUIT"


def test_the_table_answers_all_that_clients_send() -> None:
    of_clients = [name for row in sent_by_clients().values() for name in (*row.on_connecting, *row.later)]
    of_absent_clients = [name for names in sent_by_absent_clients().values() for name in names]
    assert answers().keys() == {*of_clients, *of_absent_clients}


@pytest.mark.parametrize("client", sent_by_absent_clients())
def test_a_client_that_is_not_here_gets_the_answers_of_the_table(client: str, node: Node) -> None:
    table = answers()
    sent = [table[name] for name in sent_by_absent_clients()[client] if name != LAST] + [table[LAST]]
    with socket.create_connection((LOOPBACK, node.service.resp_port), TIMEOUT_S) as connection:
        reader = hiredis.Reader()
        # The table's answers are those of RESP3.
        for row in (table["HELLO 3"], *sent):
            reply = _ask(connection, reader, _filled_in(row, node))
            assert _is_as_stated(reply, row.reply), (row, reply)


def _filled_in(row: Answered, node: Node) -> list[str]:
    return [{"app-key": node.key, "app-secret": node.secret}.get(word, word) for word in row.command]


def _ask(connection: socket.socket, reader: hiredis.Reader, words: list[str]) -> Any:
    command: Any = tuple(words)
    connection.sendall(hiredis.pack_command(command))
    while (reply := reader.gets()) is False:
        chunk = connection.recv(65_536)
        assert chunk, "the node closed the connection"
        reader.feed(chunk)
    return reply


def _is_as_stated(reply: Any, stated: str) -> bool:
    if stated in KINDS:
        return type(reply) is KINDS[stated]
    if stated.startswith("ERR"):
        return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(stated)
    return bool(reply == stated.encode())
