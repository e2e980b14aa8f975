"""PostgreSQL with the same facts, asked by one prepared query that its indexes answer alone. Debian's package, more memory.

The load client knows bytes only, so a check is what a driver sends on a prepared statement: bind, execute, sync.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from harness.ports import LOOPBACK, free_port
from harness.waiting import wait_until
from loadtests.bench.client import RECEIVE_BYTES, Peer, connect
from loadtests.bench.facts import FactSet, user_id
from loadtests.bench.load import Target
from loadtests.bench.pairs import Pair
from loadtests.bench.systems import ASKED_AT_ONCE, Answer, System

ACCOUNT = "postgres"
"""The server refuses to run as root; Debian's package makes this account."""
USER, DATABASE, STATEMENT = "bench", "postgres", "check"
STARTS_WITHIN_S, STOPS_WITHIN_S = 60.0, 30.0
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "fsync": "off",
    "autovacuum": "off",
    "plan_cache_mode": "force_generic_plan",
}
TABLES = """
CREATE UNLOGGED TABLE restraint (id text COLLATE "C", until bigint);
CREATE UNLOGGED TABLE guarded (id text COLLATE "C");
CREATE UNLOGGED TABLE entry (owner text COLLATE "C", kind "char", member text COLLATE "C", until bigint);
"""
INDEXES = """
CREATE INDEX ON restraint (id, until);
CREATE UNIQUE INDEX ON guarded (id);
CREATE UNIQUE INDEX ON entry (owner, kind, member) INCLUDE (until);
"""
QUERY = """SELECT CASE
 WHEN EXISTS (SELECT FROM restraint WHERE id = $1 AND until > $3) THEN false
 WHEN EXISTS (SELECT FROM guarded WHERE id = $2)
 THEN EXISTS (SELECT FROM entry WHERE owner = $2 AND kind = 'w' AND member = $1 AND until > $3)
 ELSE NOT EXISTS (SELECT FROM entry WHERE owner = $2 AND kind = 'b' AND member = $1 AND until > $3) END"""
TEXT_OID, BIGINT_OID = 25, 20
READY = b"Z\0\0\0\5I"
KINDS = {ListKind.BLACKLIST: b"b", ListKind.WHITELIST: b"w"}


class Missing(RuntimeError):
    """PostgreSQL is not installed, or its account does not exist."""


@contextmanager
def postgres(facts: FactSet) -> Iterator[PostgresSystem]:
    """A server with the facts, in a directory of its own; leaving ends it and removes its files. Raises `Missing`."""
    programs = _programs()
    # The server's account has to reach it, so it is not in the benchmark's own directory.
    with tempfile.TemporaryDirectory(prefix="gate-bench-postgres-") as folder:
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
            os.chown(folder, *_account())
        port, place = free_port(), Path(folder)
        made: list[str | Path] = [
            programs / "initdb",
            "-D",
            place / "data",
            "-A",
            "trust",
            "-U",
            USER,
            "--locale=C",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(made, check=True, capture_output=True, cwd=place, **account)
        options = [f"--{name}={value}" for name, value in (SETTINGS | {"port": str(port)}).items()]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", place / "data", *options], stdout=log, stderr=log, cwd=place, **account
            )
        try:
            system = PostgresSystem(port, server.pid)
            wait_until(lambda: _answers(system), STARTS_WITHIN_S, "PostgreSQL to answer")
            _load(programs, port, facts)
            yield system
        finally:
            server.send_signal(signal.SIGINT)  # it ends without waiting for its clients
            server.wait(STOPS_WITHIN_S)


class PostgresSystem(System):
    """One query a check."""

    name = "postgres"

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid
        self._now = b"%d" % wall_ms()

    @property
    def target(self) -> Target:
        words = b"".join(word.encode() + b"\0" for word in ("user", USER, "database", DATABASE))
        startup = struct.pack(">ii", len(words) + 9, 196_608) + words + b"\0"
        types = struct.pack(">h3i", 3, TEXT_OID, TEXT_OID, BIGINT_OID)
        prepare = _message(b"P", STATEMENT.encode() + b"\0" + QUERY.encode() + b"\0" + types)
        return Target(self._port, self._pid, startup + prepare + _message(b"S", b""), b"1\0\0\0\4" + READY)

    def connect(self) -> socket.socket:
        connection, target, received = connect(LOOPBACK, self._port), self.target, b""
        connection.sendall(target.greeting)
        while not received.endswith(target.greeted):
            received += _received(connection)
        return connection

    def commands(self, pair: Pair) -> list[bytes]:
        values = b"".join(struct.pack(">i", len(value)) + value for value in (*pair, self._now))
        bind = b"\0" + STATEMENT.encode() + b"\0" + struct.pack(">hh", 0, 3) + values + struct.pack(">h", 0)
        return [_message(b"B", bind) + _message(b"E", b"\0" + struct.pack(">i", 0)) + _message(b"S", b"")]

    def allowed(self, replies: Sequence[Any]) -> bool:
        """The reply is the messages of one query. The value of its one row is t or f."""
        return b"\0\0\0\1t" in replies[0]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        with self.connect() as connection:
            for start in range(0, len(pairs), ASKED_AT_ONCE):
                commands = [self.commands(pair)[0] for pair in pairs[start : start + ASKED_AT_ONCE]]
                connection.sendall(b"".join(commands))
                received = b""
                while received.count(READY) < len(commands):
                    received += _received(connection)
                replies = [reply + READY for reply in received.split(READY)[:-1]]
                for command, reply in zip(commands, replies, strict=True):
                    if not reply.startswith(b"2"):
                        raise Peer(f"PostgreSQL answered {reply!r}")
                    yield Answer(self.allowed([reply]), [(command, reply)])


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(RECEIVE_BYTES)
    if not chunk:
        raise Peer("PostgreSQL closed the connection")
    return chunk


def _answers(system: PostgresSystem) -> bool:
    """Before there are tables the query can't be prepared, and the server answers with an error."""
    try:
        with connect(LOOPBACK, system.target.port) as connection:
            connection.sendall(system.target.greeting)
            return READY in connection.recv(RECEIVE_BYTES)
    except ConnectionError:
        return False


def _programs() -> Path:
    """The directory of the newest server."""
    found = shutil.which("initdb")
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parents[1].name), default=Path(found) if found else None)
    if newest is None:
        raise Missing("left out: PostgreSQL is not installed (apt-get install postgresql)")
    return newest.parent


def _account() -> tuple[int, int]:
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise Missing(f"left out: PostgreSQL does not run as root, and there is no account {ACCOUNT}") from None
    return account.pw_uid, account.pw_gid


def _load(programs: Path, port: int, facts: FactSet) -> None:
    psql: list[str | Path] = [
        programs / "psql",
        "-h",
        LOOPBACK,
        "-p",
        str(port),
        "-U",
        USER,
        "-d",
        DATABASE,
        "-qX",
        "-v",
        "ON_ERROR_STOP=1",
    ]

    def run(commands: str, rows: Iterable[bytes] = ()) -> None:
        with subprocess.Popen([*psql, "-c", commands], stdin=subprocess.PIPE) as running:
            assert running.stdin is not None
            running.stdin.writelines(rows)
            running.stdin.close()
        if running.returncode:
            raise Peer(f"psql ended with {running.returncode}")

    run(TABLES)
    run(
        "COPY restraint FROM STDIN",
        (b"%s\t%d\n" % (user_id(one), facts.until_ms) for one in (*facts.banned, *facts.muted)),
    )
    guarded = (user_id(owned.owner) + b"\n" for owned in facts.lists() if owned.kind is ListKind.WHITELIST)
    run("COPY guarded FROM STDIN", guarded)
    run("COPY entry FROM STDIN", _entries(facts))
    run(INDEXES)
    run("VACUUM ANALYZE")


def _entries(facts: FactSet) -> Iterator[bytes]:
    for owned in facts.lists():
        head = user_id(owned.owner) + b"\t" + KINDS[owned.kind] + b"\t"
        for members, until_ms in ((owned.members, FOREVER_MS), (owned.ending, facts.until_ms)):
            tail = b"\t%d\n" % until_ms
            yield b"".join(head + user_id(member) + tail for member in members)
