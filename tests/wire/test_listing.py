"""`COMMAND …` and `INFO …`: the shapes of the Redis version that the port announces, as clients read them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from typing import Any

import pytest

from gate.wire.commands import COMMANDS
from gate.wire.documents import DOCUMENTS
from gate.wire.handshake import SPEAKS_LIKE
from gate.wire.listener import WireOptions, serve_wire
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from tests.replica.ledger import Ledger
from tests.wire.peer import Peer, as_map
from tests.wire.test_handshake import as_redis_answers

LISTED = [name for name, row in COMMANDS.items() if row.is_listed]


# COMMAND


def test_every_command_that_is_listed_is_documented() -> None:
    assert set(LISTED) == set(DOCUMENTS)
    assert {name for name in LISTED if COMMANDS[name].most != 0 and not DOCUMENTS[name].arguments} == {b"QUIT"}


def test_count_list_and_the_whole_table_agree(peer: Peer) -> None:
    names = [name.decode().lower() for name in LISTED]
    assert peer("COMMAND", "COUNT") == len(names)
    assert [name.decode() for name in peer("COMMAND", "LIST")] == names
    assert [entry[0].decode() for entry in peer("COMMAND")] == names
    assert peer("COMMAND", "INFO") == peer("COMMAND")
    assert [name.decode() for name in peer("COMMAND", "LIST", "FILTERBY", "PATTERN", "gate.c*")] == [
        "gate.check",
        "gate.connect",
    ]
    assert len(peer("COMMAND", "LIST", "FILTERBY", "MODULE", "gate")) == 12
    assert b"exec" in peer("COMMAND", "LIST", "FILTERBY", "ACLCAT", "transaction")
    assert peer.error("COMMAND", "LIST", "FILTERBY", "x").startswith(
        "ERR syntax error: expected COMMAND LIST [FILTERBY"
    )


@pytest.mark.parametrize("version", ["2", "3"])
def test_an_entry_has_the_shape_of_redis_7(stranger: Peer, redis_server: RedisServer, version: str) -> None:
    assert SPEAKS_LIKE.startswith("7.")
    ours, theirs = [], []
    stranger("HELLO", version)
    for name in ("ping", "multi"):
        ours.append(_shape(stranger("COMMAND", "INFO", name)[0]))
        theirs.append(_shape(as_redis_answers(redis_server.port, ("COMMAND", "INFO", name), version)[0]))
    assert [entry[:2] for entry in ours] == [entry[:2] for entry in theirs]
    assert [[type(part) for part in entry] for entry in ours] == [[type(part) for part in entry] for entry in theirs]
    assert stranger("COMMAND", "INFO", "nosuch", "SUBSCRIBE") == [None, None]


def _shape(entry: list[Any]) -> list[Any]:
    assert len(entry) == 10
    return entry


def test_gates_commands_take_no_keys(peer: Peer) -> None:
    (entry,) = peer("COMMAND", "INFO", "GATE.CHECK")
    assert entry[:2] == [b"gate.check", -3] and entry[3:6] == [0, 0, 0]
    assert b"readonly" in entry[2]
    assert b"blocking" in peer("COMMAND", "INFO", "gate.events")[0][2]
    assert b"write" in peer("COMMAND", "INFO", "gate.connect")[0][2]
    assert peer.error("COMMAND", "GETKEYS", "gate.check", "a", "b").startswith("ERR The command has no key arguments")
    assert peer.error("COMMAND", "GETKEYS", "nosuch").startswith("ERR Invalid command specified")
    assert peer.error("COMMAND", "NOSUCH").startswith("ERR unknown subcommand 'NOSUCH'. Try ")


def test_docs_describe_what_may_be_typed(peer: Peer) -> None:
    every = as_map(peer("COMMAND", "DOCS"))
    assert set(every) == {name.decode().lower() for name in LISTED}
    check = as_map(as_map(peer("COMMAND", "DOCS", "gate.check", "nosuch"))["gate.check"])
    assert check["summary"].startswith(b"May the first User message the second?")
    arguments = [as_map(one) for one in check["arguments"]]
    assert [one["name"] for one in arguments] == [b"from", b"to", b"revision", b"ms"]
    assert (arguments[2]["token"], arguments[2]["flags"]) == (b"MIN", [b"optional"])
    raw = peer.raw("COMMAND", "DOCS", "gate.check")
    assert isinstance(raw, bytes) and b"+optional\r\n" in raw, "redis-cli 7 ends itself unless flags are statuses"


REDIS_CLI = shutil.which("redis-cli") or ""


@pytest.mark.skipif(not REDIS_CLI, reason="redis-cli is not installed")
async def test_redis_cli_shows_hints_of_gates_commands(ledger: Ledger) -> None:
    """On a terminal it asks for `COMMAND DOCS` or `COMMAND`, and shows what may follow while somebody types."""
    server = await serve_wire(WireOptions(ledger.directory, port=0))
    try:
        shown = await asyncio.to_thread(_typed_into_redis_cli, server.port, b"gate.check ")
    finally:
        await server.drain(1)
    assert re.search(rb"gate\.check .*(from|arg)", shown), shown


def _typed_into_redis_cli(port: int, text: bytes) -> bytes:
    """What the terminal shows within some seconds of typing, ended as soon as a hint stands there."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "HOME": "/nonexistent"}
    arguments = [REDIS_CLI, "-h", LOOPBACK, "-p", str(port), "--user", "app", "--pass", "secret", "--no-auth-warning"]
    client = subprocess.Popen(arguments, stdin=other, stdout=other, stderr=other, env=environment, close_fds=True)
    os.close(other)
    shown, is_typed, until = b"", False, time.monotonic() + 20
    try:
        while time.monotonic() < until and not re.search(rb"gate\.check .*(from|arg)", shown):
            if client.poll() is None and select.select([main], [], [], 0.1)[0]:
                shown += os.read(main, 65_536)
            if b"> " in shown and not is_typed:
                is_typed = os.write(main, text) > 0
    finally:
        client.kill()
        client.wait()
        os.close(main)
    return shown


# INFO


def test_info_by_section(peer: Peer) -> None:
    peer("GATE.MCHECK", "bob", "alice", "carol", "eve")
    whole = peer("INFO").decode()
    assert f"redis_version:{SPEAKS_LIKE}\r\n" in whole
    assert "gate_checks:3\r\ngate_denied:2\r\n" in whole
    replication = peer("INFO", "replication").decode()
    assert replication.startswith("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n")
    assert replication.endswith("\r\n") and "redis_version" not in replication
    assert peer("INFO", "replica").startswith(b"# Replica\r\ngate_replica_stale_ms:")
    both = peer("INFO", "Server", "REPLICATION").decode()
    assert re.findall(r"^# (\w+)", both, re.MULTILINE) == ["Server", "Replication"]
    assert "\r\n\r\n# Replication\r\n" in both
    for word in ("all", "default", "everything"):
        assert re.findall(r"^# (\w+)", peer("INFO", word).decode(), re.MULTILINE) == re.findall(
            r"^# (\w+)", whole, re.MULTILINE
        )
    assert peer("INFO", "nosuch") == b""
    assert "loading:0\r\n" in whole and "cluster_enabled:0\r\n" in whole
