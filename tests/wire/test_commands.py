"""Every command through `answer`, on real facts: replies, refusals, and Redis's own wording where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from gate.clock import monotonic_ms
from gate.core.model import FOREVER_MS
from gate.core.verdict import Word
from gate.replica.layout import BOARD_FILE
from gate.replica.reading import Reading
from gate.replica.status_page import StatusPage
from gate.wire import checks
from gate.wire.checks import MAX_RECIPIENTS, RevisionDemand
from gate.wire.client import Worker
from gate.wire.commands import COMMANDS
from tests.replica.ledger import EPOCH, Ledger, app_facts, app_set, said
from tests.wire.peer import Peer, as_map

ODD_IDS = [b"\x00", b"\r\n", b" ", b":", b"*3\r\n$1\r\n", "🙂".encode(), b"\xff\xfe", b"x" * 64]


# Checks


@pytest.mark.parametrize(
    "sender, recipient, word",
    [
        (b"alice", b"bob", "allowed"),
        (b"bob", b"alice", "blacklisted"),
        (b"eve", b"bob", "sender-banned"),
        (b"bob", b"eve", "allowed"),
        (b"alice", b"carol", "allowed"),
        (b"bob", b"carol", "not-whitelisted"),
        (b"stranger", b"never heard of", "allowed"),
    ],
)
def test_the_three_ways_to_ask_agree(peer: Peer, sender: bytes, recipient: bytes, word: Word) -> None:
    may = int(word == "allowed")
    assert peer("GATE.CHECK", sender, recipient) == may
    assert peer("GATE.MCHECK", sender, recipient, recipient) == [may, may]
    assert peer("GATE.VERDICT", sender, recipient) == word.encode()
    assert peer("gate.check", sender, recipient) == may


def test_the_bytes_of_the_hot_replies(peer: Peer) -> None:
    assert peer.raw("GATE.CHECK", "alice", "bob") == b":1\r\n"
    assert peer.raw("GATE.CHECK", "bob", "alice") == b":0\r\n"
    assert peer.raw("GATE.VERDICT", "bob", "alice") == b"$11\r\nblacklisted\r\n"
    assert peer.raw("GATE.MCHECK", "bob", "alice", "carol", "eve") == b"*3\r\n:0\r\n:0\r\n:1\r\n"


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_id_is_any_1_to_64_bytes(ledger: Ledger, peer: Peer, odd: bytes) -> None:
    ledger.commit(said("blocked", odd, b"bob"), said("blocked", b"bob", odd))
    assert peer("GATE.VERDICT", b"bob", odd) == b"blacklisted"
    assert peer("GATE.VERDICT", odd, b"bob") == b"blacklisted"
    assert peer("GATE.MCHECK", odd, b"bob", b"alice", odd) == [0, 1, 1]


@pytest.mark.parametrize("bad", [b"", b"x" * 65, b"x" * 600, b"x" * 60_000])
@pytest.mark.parametrize("other", [b"alice", b"eve"])
def test_an_id_of_another_length_is_refused_for_any_other_user(peer: Peer, bad: bytes, other: bytes) -> None:
    for words in (
        (b"GATE.CHECK", bad, other),
        (b"GATE.CHECK", other, bad),
        (b"GATE.VERDICT", other, bad),
        (b"GATE.MCHECK", other, b"bob", bad),
        (b"GATE.MCHECK", bad, other),
        (b"GATE.EXPLAIN", other, bad),
        (b"GATE.EXPLAIN", bad, other),
    ):
        assert peer.error(*words) == f"ERR userId: must be 1 to 64 bytes, {len(bad)} were sent"


def test_mcheck_takes_a_bounded_number_of_recipients(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "AT_ONCE_US", 10_000_000)  # there is no loop for what goes on in turns
    assert len(peer("GATE.MCHECK", "alice", *[b"x"] * 1_000)) == 1_000
    refusal = peer.error("GATE.MCHECK", "alice", *[b"x"] * (MAX_RECIPIENTS + 1))
    assert refusal == f"ERR recipients: at most {MAX_RECIPIENTS} in one GATE.MCHECK, {MAX_RECIPIENTS + 1} were sent"


def test_checks_are_counted_by_word(peer: Peer) -> None:
    peer("GATE.CHECK", "alice", "bob")
    peer("GATE.MCHECK", "bob", "alice", "carol", "eve")
    counted = {word: count for word, count in peer.client.worker.words.items() if count}
    assert counted == {"allowed": 2, "blacklisted": 1, "not-whitelisted": 1}


# EXPLAIN


def test_explain_short_is_one_line_a_rule(peer: Peer) -> None:
    verdict, *rules = [line.decode() for line in peer("GATE.EXPLAIN", "eve", "carol", "short")]
    assert verdict.startswith("sender-banned: eve may not message carol, stale ")
    assert [line.split()[0] for line in rules] == [word for word in get_args(Word) if word != "allowed"]
    assert [line.split()[0] for line in rules if line.split()[1].startswith("denies")] == [
        "sender-banned",
        "not-whitelisted",
    ]
    assert rules[2] == "sender-banned denies: banned_until never"
    assert peer.error("GATE.EXPLAIN", "a", "b", "LONG").startswith("ERR syntax: expected SHORT")
    verdict, *_ = peer("GATE.EXPLAIN", b"a\x1b[2J", "b\nc", "SHORT")
    assert verdict.startswith(rb"allowed: a\x1b[2J may message b\nc, "), "at a terminal"


def test_explain_goes_through_every_rule(ledger: Ledger, peer: Peer) -> None:
    explained = as_map(peer("GATE.EXPLAIN", "eve", "carol"))
    assert explained["verdict"] == b"sender-banned"
    assert (explained["allowed"], explained["until"], explained["from"]) == (0, None, b"eve")
    assert explained["revisions"] == [str(ledger.revision).encode()]
    rules = [as_map(rule) for rule in explained["rules"]]
    assert [rule["rule"].decode() for rule in rules if rule["denies"]] == ["sender-banned", "not-whitelisted"]
    assert len(rules) == 8
    assert as_map(rules[2]["facts"]) == {"banned_until": b"never"}


def test_explain_in_resp3_is_a_map_with_booleans_and_nulls(peer: Peer) -> None:
    peer("HELLO", "3")
    explained = peer("GATE.EXPLAIN", "bob", "alice")
    assert (explained[b"allowed"], explained[b"until"]) == (False, None)
    assert explained[b"rules"][7] == {
        b"rule": b"blacklisted",
        b"denies": True,
        b"until": None,
        b"facts": {
            b"whitelist_on": False,
            b"app_whitelists": b"per-user",
            b"list_policy": b"whitelist-replaces-blacklist",
            b"size": 1,
            b"entry_until": b"never",
        },
    }


def test_explain_has_the_expiry(ledger: Ledger, peer: Peer) -> None:
    until_ms = FOREVER_MS - 1
    ledger.commit(said("mute-imposed", b"mia", until_ms=until_ms))
    explained = as_map(peer("GATE.EXPLAIN", "mia", "bob"))
    assert (explained["verdict"], explained["until"]) == (b"sender-muted", until_ms)


# A demanded Revision


def test_min_that_is_reached_is_answered(ledger: Ledger, peer: Peer) -> None:
    assert peer("GATE.CHECK", "bob", "alice", "MIN", str(ledger.revision)) == 0
    assert peer("GATE.VERDICT", "bob", "alice", "min", str(ledger.revision)) == b"blacklisted"


def test_min_that_is_not_reached_is_a_demand(ledger: Ledger, peer: Peer) -> None:
    ahead = ledger.revision._replace(seq=ledger.revision.seq + 1)
    for command in ("GATE.CHECK", "GATE.VERDICT"):
        assert peer.raw(command, "bob", "alice", "MIN", str(ahead)) == RevisionDemand((ahead,))
    assert peer.raw("GATE.CHECK", "bob", "alice", "MIN", f"{ledger.revision},{ahead}") == RevisionDemand(
        (ledger.revision, ahead)
    )


@pytest.mark.parametrize("elsewhere", [f"0:{'f' * 16}:1", f"1:{EPOCH}:1", f"99999:{EPOCH}:1"])
def test_min_of_another_history_is_stale_at_once(peer: Peer, elsewhere: str) -> None:
    assert peer.error("GATE.CHECK", "a", "b", "MIN", elsewhere).startswith("STALE the Revision is of a history")


@pytest.mark.parametrize("clause", [("MIN",), ("MAX", f"0:{EPOCH}:1"), ("MIN", "7"), ("MIN", ""), ("MIN", b"\xff:")])
def test_a_malformed_min_is_refused(peer: Peer, clause: tuple[bytes | str, ...]) -> None:
    assert peer.error("GATE.CHECK", "a", "b", *clause).startswith("ERR ")


# Staleness


@pytest.fixture
def status_page(ledger: Ledger) -> Iterator[StatusPage]:
    made = StatusPage(ledger.directory / BOARD_FILE, write=True)
    made.use(1, ledger.file.identity)
    yield made
    made.close()


@pytest.fixture
def strict_peer(ledger: Ledger, status_page: StatusPage) -> Iterator[Peer]:
    """Of a deployment that refuses checks from facts older than 5 s."""
    reading = Reading(ledger.directory)
    peer = Peer(Worker(reading, max_staleness_ms=5_000))
    assert peer("AUTH", "app", "secret") == b"OK"
    yield peer
    reading.close()


def test_checks_from_facts_that_are_too_old_are_refused(strict_peer: Peer, status_page: StatusPage) -> None:
    status_page.stamp(monotonic_ms())
    assert strict_peer("GATE.CHECK", "alice", "bob") == 1
    status_page.stamp(monotonic_ms() - 60_000)
    for words in (("GATE.CHECK", "a", "b"), ("GATE.VERDICT", "a", "b"), ("GATE.MCHECK", "a", "b")):
        assert strict_peer.error(*words).startswith("STALE the Replica is 60")
    assert strict_peer("PING") == b"PONG"
    assert as_map(strict_peer("GATE.EXPLAIN", "a", "b"))["stale_ms"] >= 60_000
    status_page.stamp(monotonic_ms())
    assert strict_peer("GATE.CHECK", "alice", "bob") == 1


def test_a_status_page_that_cannot_be_read_refuses_where_staleness_counts(ledger: Ledger) -> None:
    (ledger.directory / BOARD_FILE).write_bytes(b"short")
    reading = Reading(ledger.directory)
    peer = Peer(Worker(reading, max_staleness_ms=5_000))
    peer("AUTH", "app", "secret")
    assert peer.error("GATE.CHECK", "a", "b").startswith("STALE ")
    reading.close()


# Who is asking


@pytest.mark.parametrize("name", [name.decode() for name, row in COMMANDS.items() if row.needs_app])
def test_what_needs_an_app_says_so(stranger: Peer, name: str) -> None:
    least = COMMANDS[name.encode()].least
    assert stranger.error(name, *["a"] * least).startswith("NOAUTH Authentication required.")


def test_both_secrets_are_valid_during_a_rotation(ledger: Ledger, stranger: Peer) -> None:
    for secret in ("secret", "the one before"):
        assert stranger("AUTH", "app", secret) == b"OK"
    ledger.commit(app_set(app_facts(secrets=("a third", "secret"))))
    assert stranger("AUTH", "app", "a third") == b"OK"
    assert stranger.error("AUTH", "app", "the one before").startswith("WRONGPASS ")
    assert stranger("GATE.CHECK", "bob", "alice") == 0, "a refused AUTH leaves the connection as it was"


@pytest.mark.parametrize(
    "key, secret",
    [
        ("app", "wrong"),
        ("app", ""),
        ("app", "theirs"),
        ("unknown", "secret"),
        ("", ""),
        (b"\xff", "secret"),
        ("a" * 33, "secret"),
        ("a" * 600, "secret"),
        ("app\x00", "secret"),
        ("app", b"\xff\x00"),
    ],
)
def test_which_of_key_and_secret_was_wrong_is_not_said(stranger: Peer, key: str | bytes, secret: str | bytes) -> None:
    refusal = "WRONGPASS invalid username-password pair or user is disabled: check the App key"
    assert stranger.error("AUTH", key, secret).startswith(refusal)
    assert stranger.error("HELLO", "3", "AUTH", key, secret).startswith(refusal)
    assert not stranger.client.resp3, "a refused HELLO changes nothing"
    assert stranger.client.worker.reading.apps.keys() <= {"app", "other"}


def test_each_connection_sees_its_own_app(ledger: Ledger, worker: Worker) -> None:
    ledger.commit(said("blocked", b"alice", b"zoe", app="other"))
    ours, theirs = Peer(worker), Peer(worker)
    ours("AUTH", "app", "secret")
    theirs("AUTH", "other", "theirs")
    assert (ours("GATE.MCHECK", "bob", "alice"), theirs("GATE.MCHECK", "bob", "alice")) == ([0], [1])
    assert (ours("GATE.MCHECK", "zoe", "alice"), theirs("GATE.MCHECK", "zoe", "alice")) == ([1], [0])


def test_an_app_that_is_removed_lets_its_connections_go(ledger: Ledger, peer: Peer) -> None:
    ledger.commit(said("app-removed"))
    assert peer.error("GATE.CHECK", "a", "b").startswith("NOAUTH The App of this connection was removed.")
    assert peer.error("GATE.CHECK", "a", "b").startswith("NOAUTH Authentication required.")
    assert peer("AUTH", "other", "theirs") == b"OK"
