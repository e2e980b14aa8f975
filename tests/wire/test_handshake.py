"""What clients send around their checks, and Redis's own wording wherever it has one."""

from __future__ import annotations

import socket
from typing import Any

import hiredis
import pytest
from prometheus_client import REGISTRY

from gate.wire.commands import COMMANDS
from harness.servers import RedisServer
from tests.wire.peer import Peer, as_map


def test_hello(peer: Peer) -> None:
    spoken = as_map(peer("HELLO"))
    assert (spoken["server"], spoken["proto"], spoken["mode"]) == (b"gate", 2, b"standalone")
    assert peer("HELLO", "3")[b"proto"] == 3
    assert peer("HELLO")[b"proto"] == 3
    assert as_map(peer("HELLO", "2"))["proto"] == 2


def test_hello_binds_and_names(stranger: Peer) -> None:
    assert stranger("HELLO", "3", "setname", "router-1", "auth", "app", "secret")[b"proto"] == 3
    assert stranger("CLIENT", "GETNAME") == b"router-1"
    assert stranger("GATE.CHECK", "alice", "bob") == 1


def test_failed_auths_are_counted_and_logged_without_the_secret(
    stranger: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    def counted(reason: str) -> float:
        labels = {"surface": "resp", "reason": reason}
        return REGISTRY.get_sample_value("gate_auth_failures_total", labels) or 0.0

    for reason, command in (
        ("wrong-secret", ("AUTH", "app", "never-shown")),
        ("unknown-app", ("AUTH", "stranger", "never-shown")),
        ("missing", ("AUTH", "never-shown")),
        ("wrong-secret", ("HELLO", "3", "AUTH", "app", "never-shown")),
        ("missing", ("HELLO", "3", "AUTH", "never-shown")),
    ):
        before = counted(reason)
        assert stranger.error(*command).startswith("WRONGPASS ")
        assert counted(reason) == before + 1, command
    logged = "".join(capsys.readouterr())
    assert "auth-failed" in logged and "peer=10.0.0.1:7" in logged
    assert "never-shown" not in logged and "stranger" not in logged


def test_reset_forgets_every_agreement(peer: Peer) -> None:
    peer("HELLO", "3", "SETNAME", "router-1")
    assert peer("RESET") == b"RESET"
    assert peer.raw("CLIENT", "GETNAME") == b"$-1\r\n"
    assert peer.error("GATE.CHECK", "a", "b").startswith("NOAUTH ")


def test_quit_is_answered(peer: Peer) -> None:
    assert peer("QUIT") == b"OK"
    assert peer.client.quitting


def test_client(peer: Peer) -> None:
    assert peer("CLIENT", "ID") == peer.client.id
    assert peer("CLIENT", "SETNAME", "router-1") == b"OK"
    assert peer("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == b"OK"
    assert peer("CLIENT", "SETINFO", "lib-ver", "6.4.0") == b"OK"
    assert peer("CLIENT", "NO-EVICT", "on") == peer("CLIENT", "NO-TOUCH", "on") == b"OK"
    for word in ("INFO", "LIST"):
        assert b"addr=10.0.0.1:7 name=router-1 resp=2" in peer("CLIENT", word)
    assert peer.error("CLIENT", "KILL", "x").startswith("ERR unknown subcommand 'KILL'")


def test_config_get_is_what_redis_benchmark_asks(peer: Peer) -> None:
    assert peer("CONFIG", "GET", "save") == [b"save", b""]
    assert peer("CONFIG", "GET", "appendonly", "nosuch", b"\xff") == [b"appendonly", b"no"]
    assert peer.error("CONFIG", "SET", "save", "").startswith("ERR ")


# The same words as Redis


SAME_AS_REDIS: list[tuple[bytes | str, ...]] = [
    ("PING",),
    ("PING", "hello"),
    ("ECHO", b"\x00\xff\r\n"),
    ("SELECT", "0"),
    ("RESET",),
    ("CLIENT", "SETNAME", "a b"),
    ("CLIENT", "SETNAME"),
    ("CLIENT", "GETNAME", "x"),
    ("CLIENT",),
    ("HELLO", "4"),
    ("HELLO", "x"),
    ("HELLO", "3", "SETNAME"),
    ("HELLO", "3", "NOSUCH", "x"),
    ("nosuch",),
    ("NoSuch", "a", "b"),
    ("nosuch", "x" * 200, "y"),
    ("nosuch", *["a"] * 50),
    ("x" * 200, "y"),
    ("nosuch\r\nfoo", "a\nb"),
    ("nosuch", "\u00e9", b"\xff"),
    ("PING", "a", "b"),
    ("ECHO",),
    ("ECHO", "a", "b"),
    ("SELECT",),
    ("SELECT", "abc"),
    ("SELECT", "9" * 5_000),
]


def test_replies_are_as_redis_words_them(peer: Peer, redis_server: RedisServer) -> None:
    ours, theirs = [], []
    for words in SAME_AS_REDIS:
        ours.append((words, str(peer(*words))))
        theirs.append((words, str(as_redis_answers(redis_server.port, words))))
    for (words, own), (_, wanted) in zip(ours, theirs, strict=True):
        assert own.startswith(wanted.rstrip()), (words, wanted)


def as_redis_answers(port: int, words: tuple[bytes | str, ...], version: str = "2") -> Any:
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for sent in (("HELLO", version), words):
            connection.sendall(hiredis.pack_command(tuple(sent)))  # type: ignore[arg-type]
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65_536))
    return reply


@pytest.mark.parametrize("name", [name.decode() for name in COMMANDS])
def test_arity(peer: Peer, name: str) -> None:
    row = COMMANDS[name.encode()]
    refusal = f"ERR wrong number of arguments for '{name.lower()}' command"
    if row.least:
        assert peer.error(name, *["a"] * (row.least - 1)).startswith(refusal)
    if row.most is not None:
        assert peer.error(name.lower(), *["a"] * (row.most + 1)).startswith(refusal)
    assert peer.client.worker.errors == bool(row.least) + (row.most is not None)
