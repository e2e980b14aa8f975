"""Each error says what is wrong and what to do: one wrong call of every kind, and every way to be refused."""

from __future__ import annotations

import re

import pytest

from gate.wire.commands import COMMANDS
from gate.wire.documents import DOCUMENTS
from tests.replica.ledger import EPOCH, Ledger
from tests.wire.peer import Peer

REMEDY = re.compile(
    r"\b(send|use|take[ns]?|must (be|read)|expected|has only|ask|leave|connect|switch|repeat|try|check|at most|correct)\b",
    re.IGNORECASE,
)
"""Of what to do, or of what would have been right."""

WRONG: list[tuple[str, ...]] = [
    ("NOSUCH", "x"),
    ("GET", "key"),
    ("AUTH", "secret"),
    ("AUTH", "default", "secret"),
    ("AUTH", "app", "wrong"),
    ("HELLO", "4"),
    ("HELLO", "x"),
    ("HELLO", "3", "AUTH", "secret"),
    ("HELLO", "3", "AUTH", "default", "secret"),
    ("HELLO", "3", "NOSUCH"),
    ("HELLO", "3", "SETNAME", "a b"),
    ("SELECT", "1"),
    ("SELECT", "x"),
    ("CLIENT", "NOSUCH"),
    ("CLIENT", "SETNAME", "a b"),
    ("CLIENT", "SETINFO", "NOSUCH", "x"),
    ("CLIENT", "TRACKING", "ON"),
    ("CLIENT", "TRACKING", "ON", "BCAST"),
    ("CLIENT", "CACHING", "YES"),
    ("CLIENT", "REPLY", "OFF"),
    ("CLIENT", "MAINT_NOTIFICATIONS", "ON"),
    ("CLUSTER", "SLOTS"),
    ("COMMAND", "NOSUCH"),
    ("COMMAND", "GETKEYS", "nosuch"),
    ("COMMAND", "LIST", "FILTERBY"),
    ("CONFIG", "SET", "a", "b"),
    ("MODULE", "LOAD"),
    ("SUBSCRIBE", "c"),
    ("PSUBSCRIBE", "c"),
    ("WATCH", "k"),
    ("EXEC",),
    ("DISCARD",),
    ("GATE.CHECK", "", "b"),
    ("GATE.CHECK", "a", "b", "MIN"),
    ("GATE.CHECK", "a", "b", "MAX", "1"),
    ("GATE.CHECK", "a", "b", "MIN", "7"),
    ("GATE.CHECK", "a", "b", "MIN", f"0:{'f' * 16}:1"),
    ("GATE.CHECK", "a", "b", "FRESH", "x"),
    ("GATE.CHECK", "a", "b", "FRESH", "0"),
    ("GATE.EXPLAIN", "a", "b", "LONG"),
    ("GATE.MCHECK", *["x"] * 10_002),
    ("GATE.ONLINE", "a"),
    ("GATE.ONLINE", *["x"] * 10_001),
    ("GATE.EVENTS", "$", "BLOCK", "0"),
    ("GATE.EVENTS", "$", "COUNT", "x"),
    ("GATE.EVENTS", "$", "NOSUCH", "x"),
    ("GATE.EVENTS", "$", "BLOCK"),
    ("GATE.LEASE", "", "1"),
]


@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(words[:4])[:40])
def test_an_error_says_what_to_do(peer: Peer, words: tuple[str, ...]) -> None:
    refusal = peer.error(*words)
    assert REMEDY.search(refusal), refusal


@pytest.mark.parametrize("name", [name.decode() for name in DOCUMENTS])
def test_a_wrong_number_of_arguments_shows_the_usage(peer: Peer, name: str) -> None:
    row = COMMANDS[name.encode()]
    wrong = row.least - 1 if row.least else (row.most or 0) + 1
    refusal = peer.error(name, *["x"] * wrong)
    assert refusal.startswith(f"ERR wrong number of arguments for '{name.lower()}' command: expected {name}")


def test_the_usage_is_as_redis_cli_shows_it(peer: Peer) -> None:
    assert peer.error("GATE.EVENTS").endswith("expected GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name] [BLOCK ms]")
    assert peer.error("GATE.MCHECK").endswith("expected GATE.MCHECK from to [to …]")


def test_what_needs_an_app_says_how_to_get_one(stranger: Peer, ledger: Ledger) -> None:
    assert str(ledger.revision).endswith(f"{EPOCH}:{ledger.revision.seq}")
    for name in ("GATE.CHECK", "MULTI", "INFO"):
        assert "Send AUTH app-key app-secret" in stranger.error(name, *["a"] * COMMANDS[name.encode()].least)


def test_a_password_alone_gets_the_same_text_everywhere(stranger: Peer) -> None:
    texts = {
        stranger.error(*words).removesuffix(".")
        for words in (
            ("AUTH", "secret"),
            ("HELLO", "3", "AUTH", "secret"),
            ("AUTH", "default", "secret"),
            ("HELLO", "3", "AUTH", "default", "secret"),
        )
    }
    assert texts == {
        "WRONGPASS a password alone names no App: send AUTH app-key app-secret. In a client, the user name is the App key "
        "and the password its secret"
    }


HABITS: list[tuple[str, ...]] = [
    ("CLIENT", "TRACKING", "ON"),
    ("CLIENT", "TRACKING", "ON", "OPTIN"),
    ("CLIENT", "TRACKING", "OFF"),
    ("CLIENT", "MAINT_NOTIFICATIONS", "ON"),
    ("CLIENT", "SETINFO", "LIB-NAME", "x"),
    ("CLIENT", "SETINFO", "LIB-ENV", "x"),
    ("CLIENT", "NO-EVICT", "ON"),
    ("CLIENT", "NO-TOUCH", "ON"),
    ("CLIENT", "CAPA", "redirect"),
    ("CLIENT", "REPLY", "ON"),
    ("CLIENT", "GETREDIR"),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "SLOTS"),
    ("CLUSTER", "SHARDS"),
    ("CLUSTER", "NODES"),
    ("READONLY",),
    ("READWRITE",),
    ("ROLE",),
    ("TIME",),
    ("MODULE", "LIST"),
    ("COMMAND", "DOCS"),
    ("COMMAND",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "GET", "maxmemory-policy"),
    ("SELECT", "0"),
    ("PING",),
    ("ECHO", "x"),
    ("INFO", "replication"),
    ("GET", "__Booksleeve_TieBreak"),
    ("UNSUBSCRIBE", "x"),
    ("UNSUBSCRIBE",),
    ("UNWATCH",),
    ("HELLO", "3"),
    ("HELLO", "2"),
    ("RESET",),
    ("QUIT",),
]


@pytest.mark.parametrize("words", HABITS, ids=" ".join)
def test_a_habit_of_clients_is_answered_and_is_no_error(peer: Peer, words: tuple[str, ...]) -> None:
    peer(*words)
    assert peer.client.worker.errors == 0


def test_habits_are_answered_as_their_clients_read_them(peer: Peer) -> None:
    assert peer("ROLE") == [b"master", 0, []]
    assert peer("UNSUBSCRIBE") == [b"unsubscribe", None, 0]
    assert peer("CLIENT", "TRACKING", "ON", "OPTIN") == b"OK"
    assert peer("GET", "__Booksleeve_TieBreak") is None
    seconds, microseconds = (int(part) for part in peer("TIME"))
    assert seconds > 1_600_000_000 and 0 <= microseconds < 1_000_000
    assert "GATE.EVENTS" in peer.error("SUBSCRIBE", "x") and "BLOCK" in peer.error("PSUBSCRIBE", "x")
